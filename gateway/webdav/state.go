package webdav

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway/internal/conduit"
)

// errSize is for an answer without a length.
var errSize = errors.New("the server does not tell how long the object is")

// A state is what tells versions apart.
type state struct {
	size     int64 // of the whole object; -1: unknown
	tag      string
	modified time.Time
	since    string // Last-Modified as the server wrote it
	coding   string
}

// describe reads the fields of an answer. The size is that of what was sent.
func describe(resp *http.Response) state {
	st := state{size: resp.ContentLength, tag: resp.Header.Get("ETag"), since: resp.Header.Get("Last-Modified")}
	if t, err := http.ParseTime(st.since); err == nil {
		st.modified = t
	}
	if c := strings.Join(resp.Header.Values("Content-Encoding"), ", "); !strings.EqualFold(c, "identity") {
		st.coding = c
	}
	return st
}

// strong is the entity tag without its quotes, if it is one that stands for octets.
func (st state) strong() (string, bool) {
	n := len(st.tag)
	if n < 3 || st.tag[0] != '"' || st.tag[n-1] != '"' || !tagged(st.tag[1:n-1]) {
		return "", false
	}
	return st.tag[1 : n-1], true
}

// tagged tells whether an entity tag can be made of version.
func tagged(version string) bool {
	for i := range len(version) {
		if c := version[i]; c < 0x21 || c > 0x7e || c == '"' {
			return false
		}
	}
	return version != ""
}

// same tells whether the answer that other is of is of the version that st is of.
func (st state) same(other state) bool {
	if st.coding != other.coding || st.size != other.size && other.size >= 0 {
		return false
	}
	if _, ok := st.strong(); ok {
		return st.tag == other.tag
	}
	if st.tag != "" && other.tag != "" && opaque(st.tag) != opaque(other.tag) {
		return false
	}
	return st.modified.Equal(other.modified)
}

// opaque is a tag for the weak comparison (RFC 9110 §8.8.3.2): some servers make a weak
// one strong when the object is older.
func opaque(tag string) string { return strings.TrimPrefix(tag, "W/") }

// received is what octets come with a 200 or 206, nil if it is not known how many. It
// completes the size: that of a part is in Content-Range.
func received(resp *http.Response, st *state) (*stream, error) {
	if resp.StatusCode == http.StatusOK {
		if st.size < 0 {
			return nil, nil
		}
		return &stream{body: resp.Body, end: st.size}, nil
	}
	off, end, total, err := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return nil, err
	case st.size >= 0 && st.size != end-off:
		return nil, fmt.Errorf("a part of %d octets comes with Content-Length %d", end-off, st.size)
	}
	if st.size < 0 { // its end will show whether it is so long
		resp.Body = struct {
			io.Reader
			io.Closer
		}{conduit.Exactly(resp.Body, end-off), resp.Body}
	}
	st.size = total
	return &stream{body: resp.Body, pos: off, end: end}, nil
}

// contentRange reads a Content-Range field (RFC 9110 §14.4). end is the octet after
// the last; total is -1 if unknown. net/http writes "bytes 0--1/0" of an empty
// object where the end of it was asked for.
func contentRange(field string) (off, end, total int64, err error) {
	unit, spec, _ := strings.Cut(field, " ")
	bounds, whole, _ := strings.Cut(spec, "/")
	first, last, _ := strings.Cut(bounds, "-")
	off, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := strconv.ParseInt(whole, 10, 64)
	if whole == "*" {
		total, err3 = -1, nil
	}
	end++
	if unit != "bytes" || errors.Join(err1, err2, err3) != nil || off < 0 || end < off || end == off && total != 0 || total >= 0 && end > total {
		return 0, 0, 0, fmt.Errorf("the server answers 206 with Content-Range %.100q", field)
	}
	return off, end, total, nil
}
