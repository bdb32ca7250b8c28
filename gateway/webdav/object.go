package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

const (
	// maxSkip is how many octets are read for nothing where a server does not do
	// ranges, or Open got more than is wanted now.
	maxSkip = 1 << 20

	// quick is how many octets are read so soon that nobody writes in between.
	quick = 1 << 20
)

// An object is one version of what is at a URL, or a folder.
type object struct {
	folder bool
	source *Source
	name   string
	state  state
	info   gateway.Info
	ready  *stream // what Open got; nil: nothing, or it is used
}

// A stream is octets that are coming.
type stream struct {
	body     io.ReadCloser
	pos, end int64 // where in the object they are
	cancel   context.CancelFunc
}

func (t *stream) close() {
	_ = t.body.Close() // read only
	t.cancel()
}

func (o *object) Info() gateway.Info {
	if o.folder {
		return gateway.Info{Folder: true}
	}
	return o.info
}

func (o *object) Close() error {
	if t := o.take(); t != nil {
		t.close()
	}
	return nil
}

// take returns what Open got, once.
func (o *object) take() *stream {
	t := o.ready
	o.ready = nil
	return t
}

// Range reads from what Open got if that has the octets, and asks for them otherwise.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if o.folder || o.info.Unchanged {
		return nil, o.source.wrong(o.name, errors.New("there are no octets to read"))
	}
	r, err := o.read(ctx, off, n)
	return r, o.source.wrong(o.name, err)
}

func (o *object) read(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	t := o.take()
	if t != nil && (t.pos > off || off-t.pos > maxSkip || t.end < off+n) {
		t.close()
		t = nil
	}
	if t == nil {
		var err error
		if t, err = o.fetch(ctx, off, n); err != nil {
			return nil, err
		}
	}
	r := &reader{source: o.source, name: o.name, stream: t, left: n, ended: ctx.Err}
	r.stop = context.AfterFunc(ctx, t.cancel)
	if _, err := io.CopyN(io.Discard, t.body, off-t.pos); err != nil {
		_ = r.Close()
		return nil, r.failed(err)
	}
	if _, strong := o.state.strong(); strong && n <= quick {
		return r, nil
	}
	return gateway.Reader(r, n, func() error {
		return o.source.wrong(o.name, o.still(ctx))
	}), nil
}

// fetch asks for n octets from off on, of this version.
func (o *object) fetch(ctx context.Context, off, n int64) (*stream, error) {
	a := ask{method: http.MethodGet, name: o.name, header: http.Header{}}
	if off != 0 || n != o.state.size {
		a.header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	if _, ok := o.state.strong(); ok {
		a.header.Set("If-Match", o.state.tag)
	} else if !o.state.modified.IsZero() {
		a.header.Set("If-Unmodified-Since", o.state.since)
	}
	ctx, cancel := context.WithCancel(ctx)
	resp, err := o.source.do(ctx, a)
	if err != nil {
		cancel()
		return nil, err
	}
	t, err := o.accept(resp, off, n)
	if err != nil {
		_ = resp.Body.Close()
		cancel()
		return nil, err
	}
	t.cancel = cancel
	return t, nil
}

// accept makes sure that an answer has n octets from off on, of this version.
func (o *object) accept(resp *http.Response, off, n int64) (*stream, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return nil, gateway.ErrChanged
	default:
		return nil, refused(resp)
	}
	st := describe(resp)
	t, err := received(resp, &st)
	switch {
	case err != nil:
		return nil, err
	case !o.state.same(st):
		return nil, gateway.ErrChanged
	case t == nil:
		return nil, errSize
	case t.pos > off || t.end < off+n, resp.StatusCode == http.StatusPartialContent && t.pos != off:
		return nil, fmt.Errorf("the server sends octets %d to %d for %d to %d", t.pos, t.end-1, off, off+n-1)
	case off-t.pos > maxSkip:
		return nil, errors.New("the server sends the whole object for a range of it")
	}
	return t, nil
}

// still fails unless the object is the version that was opened.
func (o *object) still(ctx context.Context) error {
	resp, err := o.source.do(ctx, ask{method: http.MethodHead, name: o.name})
	if err != nil {
		return err
	}
	done(resp)
	if resp.StatusCode != http.StatusOK {
		err := refused(resp)
		if errors.Is(err, fs.ErrNotExist) {
			err = gateway.ErrChanged
		}
		return err
	}
	if st := describe(resp); !o.state.same(st) {
		return gateway.ErrChanged
	}
	return nil
}

// A reader gives a part of a stream.
type reader struct {
	source *Source
	name   string
	stream *stream
	stop   func() bool  // stops waiting for the end of the context
	ended  func() error // why the context ended
	left   int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.stream.body.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == nil || r.left == 0 {
		return n, nil // all octets that are wanted are there, whatever comes after
	}
	return n, r.source.wrong(r.name, r.failed(err))
}

// failed is why octets are missing.
func (r *reader) failed(err error) error {
	switch ended := r.ended(); {
	case ended != nil:
		return ended
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return conduit.Unavailable(err)
}

func (r *reader) Close() error {
	r.stop()
	r.stream.close()
	return nil
}
