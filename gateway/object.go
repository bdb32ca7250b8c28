package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// object answers with what is called name.
func (x *exchange) object(name string) {
	conditions := readConditions(x.r.Header)
	o, err := x.pick(name, conditions)
	if err != nil {
		err = x.orFolder(name, err)
	}
	switch {
	case errors.Is(err, errFolder):
		x.toFolder(name)
	case err != nil:
		x.fail(err)
	default:
		defer o.Close()
		x.send(name, o, conditions)
	}
}

// errFolder: what was opened is a folder.
var errFolder = errors.New("it is a folder")

// orFolder is errFolder if what could not be opened is a folder of flat storage. That
// it is none has to be certain, for absence is remembered.
func (x *exchange) orFolder(name string, err error) error {
	if !x.traits.Flat || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	infos, unknown := x.list(x.r.Context(), name, 1)
	switch status, _ := statusOf(unknown); {
	case unknown == nil && len(infos) > 0:
		return errFolder
	case unknown != nil && status >= http.StatusInternalServerError:
		return unknown
	}
	return err
}

// toFolder leads to the same folder with a slash after it. The target is relative to
// the request's, so that it holds behind any prefix and host, and without its query, so
// that it holds for all.
func (x *exchange) toFolder(name string) {
	x.fresh(name, &Info{Certain: true})
	x.w.Header().Set("Location", reference(path.Base(name), true)) // http.Redirect would make it absolute
	x.w.WriteHeader(http.StatusMovedPermanently)
}

// openObject opens an object that is no folder.
func (x *exchange) openObject(name string, want Want) (Object, error) {
	o, err := x.open(x.r.Context(), name, want)
	if err == nil && o.Info().Folder {
		_ = o.Close() // opened for reading
		return nil, errFolder
	}
	return o, err
}

// look tells of an object without reading it.
func (x *exchange) look(name string) (Info, error) {
	o, err := x.openObject(name, Want{})
	if err != nil {
		return Info{}, err
	}
	defer o.Close()
	return o.Info(), nil
}

// send answers with an object, or a part of it, or that it did not change (RFC 9110
// §§13, 14).
func (x *exchange) send(name string, o Object, c conditions) {
	info := o.Info()
	head := x.w.Header()
	x.fresh(name, &info)
	if info.Unchanged {
		c.tell(head, &info)
		x.w.WriteHeader(http.StatusNotModified)
		return
	}
	tag, modified := validators(&info)
	if tag != "" {
		head.Set("ETag", tag)
	}
	if !c.hold(tag, info.Modified) {
		head.Del("Cache-Control")
		x.fail(ErrConflict)
		return
	}
	if info.Size < 0 {
		x.fail(fmt.Errorf("%q has %d octets, says the storage", name, info.Size))
		return
	}
	r := c.withoutGuards(x.r)
	if !info.Certain && r.Header.Get("If-Range") != "" {
		r.Header.Del("Range") // no validator is strong (RFC 9110 §13.1.5)
	}
	b := &body{ctx: r.Context(), o: o, size: info.Size, spans: settleRange(r, info.Size)}
	if info.Sequential && len(b.spans) > 1 {
		r.Header.Del("Range")
		b.spans = nil
	}
	defer b.close()
	if err := x.describe(name, &info, b); err != nil {
		x.startOver(err)
		return
	}
	w := &prompt{ResponseWriter: x.w, x: x, b: b}
	http.ServeContent(w, r, "", modified, b)
	if err := b.failed(); err != nil && !w.refused {
		x.abort(err)
	}
}

// A prompt answer has asked the storage for its first octets before it begins: a storage
// that does not give them is an error then, for which a cache may have something in stead,
// and no answer that breaks off.
type prompt struct {
	http.ResponseWriter
	x       *exchange
	b       *body
	refused bool
}

func (p *prompt) WriteHeader(status int) {
	switch status {
	case http.StatusOK, http.StatusPartialContent:
		if p.x.r.Method == http.MethodHead {
			break
		}
		if err := p.b.begin(); err != nil {
			p.refused = true
			p.x.startOver(err)
			return
		}
	case http.StatusRequestedRangeNotSatisfiable: // it tells of itself, not of the object
		p.refused = true
		p.Header().Del("Content-Disposition")
		p.Header().Del("Content-Language")
		p.x.refuse(status, fmt.Sprintf("the object has %d octets", p.b.size))
		return
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *prompt) Write(b []byte) (int, error) {
	if p.refused {
		return 0, errRefused
	}
	return p.ResponseWriter.Write(b)
}

var errRefused = errors.New("the answer is another one by now")

// validators are the entity tag and the date of an object. What may yet change
// within one tick of the storage's clock has none: whoever validated by them could be
// told that octets are still right which are gone (RFC 9110 §8.8).
func validators(i *Info) (tag string, modified time.Time) {
	switch {
	case i.Version == "":
		return "", i.Modified
	case i.Certain:
		return `"` + i.Version + `"`, i.Modified
	}
	return "", time.Time{}
}

// describe sets the fields that tell of an object.
func (x *exchange) describe(name string, i *Info, b *body) error {
	head := x.w.Header()
	for _, field := range [...]string{"Content-Encoding", "Content-Language", "Content-Disposition"} {
		if v := i.Fields.Get(field); v != "" {
			head.Set(field, v)
		}
	}
	for _, pattern := range x.opt.Download {
		if matches(pattern, name) {
			head.Set("Content-Disposition", attachment(path.Base(name)))
			break
		}
	}
	kind := i.Fields.Get("Content-Type")
	if kind == "" {
		kind = typeByName(name)
	}
	if kind == "" && head.Get("Content-Encoding") == "" {
		first, err := b.peek()
		if err != nil {
			return err
		}
		kind = http.DetectContentType(first)
	}
	if kind == "" {
		kind = "application/octet-stream"
	}
	head.Set("Content-Type", kind)
	if head.Get("Content-Encoding") != "" {
		head.Set("Content-Length", strconv.FormatInt(i.Size, 10)) // http.ServeContent leaves it out
	}
	return nil
}

// attachment offers an answer for saving (RFC 6266 §4).
func attachment(name string) string {
	if v := mime.FormatMediaType("attachment", map[string]string{"filename": strings.ToValidUTF8(name, "_")}); v != "" {
		return v
	}
	return "attachment; filename*=utf-8''" + url.PathEscape(name)
}

// sniffed is how many octets tell the type of content.
const sniffed = 512

// A body reads an object for http.ServeContent. It asks the storage for no octet
// before it is read.
type body struct {
	mu    sync.Mutex // several ranges are read by a goroutine that outlives ServeContent
	ctx   context.Context
	o     Object
	size  int64
	spans []span // what will be read, as far as is known; nil: all, in order
	first []byte // read already
	at    int64  // where to read next
	err   error  // why nothing may be read any more

	r     io.ReadCloser // nil: none is open
	piece span          // what r has not given yet
}

// peek returns the first octets. Where the whole is to be sent they are the
// beginning of that.
func (b *body) peek() ([]byte, error) {
	n := min(b.size, sniffed)
	if n == 0 {
		return nil, nil
	}
	b.piece = span{0, n}
	if b.spans == nil {
		b.piece.end = b.size
	}
	if err := b.open(); err != nil {
		return nil, err
	}
	first := make([]byte, n)
	if _, err := io.ReadFull(b.r, first); err != nil {
		return nil, err
	}
	b.piece.start = n
	b.first = first
	return first, nil
}

// begin opens what is to be read first. Several ranges are read beside the answer: it
// leaves those alone.
func (b *body) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spans) > 1 || b.at < int64(len(b.first)) || b.at >= b.size || b.r != nil && b.piece.start == b.at {
		return nil
	}
	b.drop()
	b.piece = b.next()
	b.err = b.open()
	return b.err
}

func (b *body) open() (err error) {
	if b.r, err = b.o.Range(b.ctx, b.piece.start, b.piece.end-b.piece.start); err != nil {
		b.r = nil
	}
	return err
}

func (b *body) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { // several ranges are read by a goroutine of net/http's, where a panic ends the process
		if fault := recover(); fault != nil {
			b.err = fmt.Errorf("a fault in the storage's code: %v\n%s", fault, debug.Stack())
			n, err = 0, b.err
		}
	}()
	switch {
	case b.err != nil:
		return 0, b.err
	case b.at >= b.size:
		return 0, io.EOF
	case b.at < int64(len(b.first)):
		n := copy(p, b.first[b.at:])
		b.at += int64(n)
		return n, nil
	}
	if b.r == nil || b.piece.start != b.at || b.piece.end == b.at {
		b.drop()
		b.piece = b.next()
		if b.err = b.open(); b.err != nil {
			return 0, b.err
		}
	}
	n, err = b.r.Read(p)
	b.at += int64(n)
	b.piece.start = b.at
	switch {
	case errors.Is(err, io.EOF) && b.at < b.piece.end:
		b.err = io.ErrUnexpectedEOF
	case err != nil && !errors.Is(err, io.EOF):
		b.err = err
	}
	return n, b.err
}

// next is what to ask for in order to read on.
func (b *body) next() span {
	for _, s := range b.spans {
		if s.start <= b.at && b.at < s.end {
			return span{b.at, s.end}
		}
	}
	return span{b.at, b.size}
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	b.at = offset
	return offset, nil
}

// failed is why nothing could be read any more.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// close has whoever still reads stop.
func (b *body) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = fs.ErrClosed
	b.drop()
}

func (b *body) drop() {
	if b.r != nil {
		_ = b.r.Close() // it was read only
		b.r = nil
	}
}
