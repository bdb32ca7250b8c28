package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/larderhq/larder/gateway/internal/conduit"
)

// errBegun is for a body that cannot be sent again.
var errBegun = errors.New("the body was read already")

// exchange sends a request with the body of q, if there is one. That the server says it
// succeeded before it had all of it is conduit.ErrEarly. The body is not read any
// more then, unless ctx ended.
func (s *Source) exchange(ctx context.Context, req *http.Request, q request) (*http.Response, error) {
	if q.size == 0 {
		return s.trip(ctx, req)
	}
	var body *conduit.Body
	finish := func() error { return nil }
	next := func() (io.ReadCloser, error) {
		_ = finish() // the attempt before
		if body != nil && q.octets == nil && body.Begun() {
			return nil, errBegun
		}
		b := conduit.New(q.reader(), q.size)
		forget := context.AfterFunc(ctx, func() { b.GiveUp(ctx.Err()) })
		body, finish = b, func() error {
			forget()
			return b.Finish(ctx)
		}
		return io.NopCloser(b), nil
	}
	req.Body, _ = next() // the first has no error
	req.GetBody = next
	resp, err := s.trip(ctx, req)
	failed := finish()
	if failed == nil || errors.Is(failed, conduit.ErrEarly) && (err != nil || resp.StatusCode/100 != 2) {
		return resp, err
	}
	if err == nil {
		_ = resp.Body.Close() // it is of no use
	}
	return nil, fmt.Errorf("the body: %w", failed)
}

// trip makes one attempt.
func (s *Source) trip(ctx context.Context, req *http.Request) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return resp, nil
}

// reader is the body from its beginning on.
func (q request) reader() io.Reader {
	if q.octets != nil {
		return bytes.NewReader(q.octets)
	}
	return q.body
}
