package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// skip is how many octets of an answer are read and thrown away at most, rather
// than to ask again.
const skip = 64 << 10

// An object is what a GET or a HEAD told of.
type object struct {
	s         *Source
	name, key string
	info      gateway.Info
	tag       string // ETag as it came, if it can guard octets; or empty
	modified  string // Last-Modified as it came

	cancel context.CancelFunc // ends the first answer

	// body is the rest of the first answer: octets from off to end. Nil: none.
	body     io.ReadCloser
	off, end int64
}

// Open asks for an object: by HEAD, or by GET if want is for octets, with the range
// and the condition of want. What lies outside the object takes one request more.
//
// The version is the entity tag, if there is a strong one. S3 makes it of the octets:
// who replaces the fields alone, by a copy onto the same key, may not change it.
func (s *Source) Open(ctx context.Context, name string, want gateway.Want) (gateway.Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	o, err := s.open(ctx, name, want)
	if err != nil {
		cancel()
		return nil, s.wrap(name, err)
	}
	o.cancel = cancel
	return o, nil
}

func (s *Source) open(ctx context.Context, name string, want gateway.Want) (*object, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, err
	}
	o := &object{s: s, name: name, key: key}
	header := condition(want)
	if want.N == 0 {
		err := o.head(ctx, header)
		if o.info.Unchanged && !believable(o.info, want) {
			err = o.head(ctx, http.Header{})
		}
		return o, err
	}
	if r := ranged(want); r != "" {
		header.Set("Range", r)
	}
	resp, err := s.send(ctx, request{method: http.MethodGet, key: key, header: header})
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		err = o.take(resp, want)
	case http.StatusNotModified:
		if err = o.unchanged(resp, header); err == nil && !believable(o.info, want) {
			_ = resp.Body.Close() // it has none
			return s.open(ctx, name, gateway.Want{Off: want.Off, N: want.N})
		}
	case http.StatusRequestedRangeNotSatisfiable:
		_ = s.refusal(resp) // reads it, so that HEAD, which has what counts, finds the connection free
		_ = resp.Body.Close()
		err = o.head(ctx, http.Header{})
	default:
		err = s.refusal(resp)
	}
	if o.body == nil {
		_ = resp.Body.Close() // nothing of it is needed
	}
	return o, err
}

// condition is what want says that the client has.
func condition(want gateway.Want) http.Header {
	h := http.Header{}
	switch {
	case want.Unless != "":
		if tagged(`"` + want.Unless + `"`) {
			h.Set("If-None-Match", `"`+want.Unless+`"`)
		}
	case !want.UnlessSince.IsZero():
		h.Set("If-Modified-Since", want.UnlessSince.UTC().Format(http.TimeFormat))
	}
	return h
}

// ranged is the range that want is, empty for everything.
func ranged(want gateway.Want) string {
	switch {
	case want.Off < 0:
		return fmt.Sprintf("bytes=%d", want.Off)
	case want.N < 0 && want.Off == 0:
		return ""
	case want.N < 0, want.N > math.MaxInt64-want.Off:
		return fmt.Sprintf("bytes=%d-", want.Off)
	}
	return fmt.Sprintf("bytes=%d-%d", want.Off, want.Off+want.N-1)
}

// head asks for everything but octets.
func (o *object) head(ctx context.Context, header http.Header) error {
	resp, err := o.s.send(ctx, request{method: http.MethodHead, key: o.key, header: header})
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it has none
	switch resp.StatusCode {
	case http.StatusOK:
		return o.describe(resp.Header, resp.ContentLength)
	case http.StatusNotModified:
		return o.unchanged(resp, header)
	}
	err = o.s.refusal(resp)
	if errors.Is(err, fs.ErrNotExist) && !o.s.exists.Load() {
		return o.s.missing(ctx, err)
	}
	return err
}

// missing tells a bucket that does not exist from an object: the answer to a HEAD
// is the same. It is asked for until anything was found in the bucket.
func (s *Source) missing(ctx context.Context, err error) error {
	_, _, bucket := s.do(ctx, request{method: http.MethodHead}, 0)
	switch {
	case errors.Is(bucket, fs.ErrNotExist):
		return errNoBucket
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(bucket, fs.ErrPermission):
		s.exists.Store(true) // it tells no more
	}
	return err
}

// describe fills in what a reply tells of the whole object.
func (o *object) describe(h http.Header, size int64) error {
	if size < 0 {
		return errors.New("the answer does not tell the size")
	}
	o.s.exists.Store(true)
	o.modified = h.Get("Last-Modified")
	modified, _ := http.ParseTime(o.modified) // zero: unknown
	o.info = gateway.Info{Size: size, Modified: modified, Fields: fields(h)}
	o.tag, o.info.Version, o.info.Certain = o.s.version(h.Get("ETag"), size, modified)
	return nil
}

// version makes a version of an entity tag if it can guard octets, and of the time
// otherwise.
func (s *Source) version(etag string, size int64, modified time.Time) (tag, version string, certain bool) {
	if tagged(etag) {
		return etag, etag[1 : len(etag)-1], true
	}
	version, certain = gateway.ByTime(size, modified, s.now(), gateway.Grain)
	return "", version, certain
}

// tagged tells whether etag is a strong entity tag, not empty and all ASCII.
func tagged(etag string) bool {
	if len(etag) < 3 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		return false
	}
	return !strings.ContainsFunc(etag[1:len(etag)-1], func(r rune) bool { return r <= ' ' || r == '"' || r > '~' })
}

// kept are the fields that are stored with octets.
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control"}

// nobodySaid is the type that S3 gives to what came without.
const nobodySaid = "binary/octet-stream"

// fields picks those of a reply.
func fields(h http.Header) http.Header {
	var f http.Header
	for _, name := range kept {
		v := h.Get(name)
		if v == "" || name == "Content-Type" && v == nobodySaid {
			continue
		}
		if f == nil {
			f = http.Header{}
		}
		f.Set(name, v)
	}
	return f
}

// unchanged is for 304, which must be an answer to a condition.
func (o *object) unchanged(resp *http.Response, asked http.Header) error {
	if asked.Get("If-None-Match") == "" && asked.Get("If-Modified-Since") == "" {
		return errors.New("the answer is that nothing changed, which was not asked")
	}
	o.s.exists.Store(true)
	o.info = gateway.Info{Unchanged: true}
	if etag := resp.Header.Get("ETag"); tagged(etag) {
		o.info.Version, o.info.Certain = etag[1:len(etag)-1], true
	}
	o.info.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified")) // zero: unknown
	return nil
}

// believable tells whether what did not change can be what want says that the client
// has. A cache on the way may mix it up.
func believable(i gateway.Info, want gateway.Want) bool {
	if want.Unless != "" {
		return i.Version == "" || i.Version == want.Unless
	}
	return !i.Modified.After(want.UnlessSince)
}

// take keeps the octets of the first answer, if they are what want is.
func (o *object) take(resp *http.Response, want gateway.Want) error {
	off, end, size := int64(0), resp.ContentLength, resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		var err error
		if off, end, size, err = contentRange(resp); err != nil {
			return err
		}
		from, to := want.Off, size
		if from < 0 {
			from = max(0, size+from)
		}
		if want.N > 0 && want.N < size-from {
			to = from + want.N
		}
		if ranged(want) == "" || off != from || end != to {
			return fmt.Errorf("the answer is octets %d to %d of %d, which were not asked for", off, end-1, size)
		}
	}
	if err := o.describe(resp.Header, size); err != nil {
		return err
	}
	o.body, o.off, o.end = resp.Body, off, end
	return nil
}

// contentRange reads the Content-Range of a reply: octets off to end of size, which
// must be what its length is; where that is not told, its end will show.
func contentRange(resp *http.Response) (off, end, size int64, err error) {
	v := resp.Header.Get("Content-Range")
	wrong := fmt.Errorf("the answer has an unusable Content-Range, %.80q", v)
	rest, ok := strings.CutPrefix(v, "bytes ")
	from, rest, dash := strings.Cut(rest, "-")
	to, whole, slash := strings.Cut(rest, "/")
	if !ok || !dash || !slash {
		return 0, 0, 0, wrong
	}
	var last int64
	if off, err = number(from); err == nil {
		if last, err = number(to); err == nil {
			size, err = number(whole)
		}
	}
	if err != nil || off > last || last >= size {
		return 0, 0, 0, wrong
	}
	end = last + 1
	if resp.ContentLength >= 0 && resp.ContentLength != end-off {
		return 0, 0, 0, fmt.Errorf("the answer has %d octets and says they are %q", resp.ContentLength, v)
	}
	if resp.ContentLength < 0 {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{conduit.Exactly(resp.Body, end-off), resp.Body}
	}
	return off, end, size, nil
}

// number reads digits, and nothing else.
func number(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// Info does not change.
func (o *object) Info() gateway.Info { return o.info }

// Close ends the first answer, whether it was read or not.
func (o *object) Close() error {
	o.drop()
	o.cancel()
	return nil
}

func (o *object) drop() {
	if o.body != nil {
		_ = o.body.Close() // half-read: its connection is closed, not used again
		o.body = nil
	}
}
