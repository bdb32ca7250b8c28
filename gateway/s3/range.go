package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/larderhq/larder/gateway"
)

// errNoVersion is for objects of which only the first answer can be read.
var errNoVersion = errors.New("the server tells neither an entity tag nor a time, so that two answers may be of two versions")

// Range reads from the first answer, if it has these octets not far ahead, and asks
// for them otherwise, on condition that the version is the same.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := o.first(ctx, off, n)
	if r == nil && err == nil {
		r, err = o.ask(ctx, off, n)
	}
	if err != nil {
		return nil, o.s.wrap(o.name, err)
	}
	return r, nil
}

// first returns nil if the first answer does not have the octets.
func (o *object) first(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if o.body == nil || off < o.off || off-o.off > skip || off+n > o.end {
		o.drop()
		return nil, nil
	}
	body := o.body
	o.body = nil
	// The answer lives as long as the context of Open; this one may end before.
	p := &part{o: o, ctx: ctx, body: body, left: n, stop: context.AfterFunc(ctx, o.cancel)}
	if _, err := io.CopyN(io.Discard, body, off-o.off); err != nil {
		_ = p.Close() // the reason is err
		return nil, unreachable(ctx, err)
	}
	return p, nil
}

// ask makes a request of its own.
func (o *object) ask(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+n-1)}}
	switch {
	case o.tag != "":
		header.Set("If-Match", o.tag)
	case o.modified == "":
		return nil, errNoVersion
	}
	resp, err := o.s.send(ctx, request{method: http.MethodGet, key: o.key, header: header})
	if err != nil {
		return nil, err
	}
	if err := o.same(resp, off, n); err != nil {
		_ = resp.Body.Close() // the reason is err
		return nil, err
	}
	return &part{o: o, ctx: ctx, body: resp.Body, left: n, stop: func() bool { return true }}, nil
}

// same checks that a reply is octets off to off+n of the version that was opened.
// Some servers ignore If-Match, or Range.
func (o *object) same(resp *http.Response, off, n int64) error {
	var from, end, size int64
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var err error
		if from, end, size, err = contentRange(resp); err != nil {
			return err
		}
	case http.StatusOK: // everything, of which the beginning will do
		end, size = resp.ContentLength, resp.ContentLength
		if off == 0 {
			end = min(end, n)
		}
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return gateway.ErrChanged
	default:
		return o.s.refusal(resp)
	}
	if o.tag != "" && resp.Header.Get("ETag") == "" {
		return errors.New("the answer does not tell its entity tag")
	}
	if o.tag != "" && resp.Header.Get("ETag") != o.tag ||
		o.tag == "" && resp.Header.Get("Last-Modified") != o.modified || size != o.info.Size {
		return gateway.ErrChanged
	}
	if from != off || end != off+n {
		return fmt.Errorf("the answer is octets %d to %d, where %d to %d were asked for", from, end-1, off, off+n-1)
	}
	return nil
}

// A part reads the octets of one answer, exactly as many as are left.
type part struct {
	o    *object
	ctx  context.Context // of Range
	body io.ReadCloser
	left int64
	stop func() bool // forgets ctx
	err  error
}

func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.body.Read(b[:min(int64(len(b)), p.left)])
	if p.left -= int64(n); err != nil && p.left > 0 {
		p.err = p.o.s.wrap(p.o.name, unreachable(p.ctx, err))
		return n, p.err
	}
	return n, nil
}

func (p *part) Close() error {
	p.stop()
	return p.body.Close()
}
