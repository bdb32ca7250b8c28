package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// drained is how much of an answer that is not wanted is read, in octets, so that its
// connection can be used again.
const drained = 16 << 10

// An ask is a request for name.
type ask struct {
	method string
	name   string
	folder bool // write a slash after it
	header http.Header
	body   io.Reader
	size   int64 // of body; negative: unknown
}

// do makes one request. The caller closes the body of the answer, by done if it is of
// no interest.
func (s *Source) do(ctx context.Context, a ask) (*http.Response, error) {
	u := s.url(a.name, a.folder)
	r, err := http.NewRequestWithContext(ctx, a.method, u.String(), a.body)
	if err != nil {
		return nil, err
	}
	if a.size != 0 {
		r.ContentLength = a.size
	}
	r.Header.Set("User-Agent", "Larder")
	r.Header.Set("Accept-Encoding", "identity")
	if s.authorization != "" {
		r.Header.Set("Authorization", s.authorization)
	}
	for name, values := range a.header {
		r.Header[name] = values
	}
	resp, err := s.transport.RoundTrip(r)
	if err != nil {
		return nil, conduit.Unavailable(err)
	}
	return resp, nil
}

// done lets go of an answer. What is left of it is read if it is little.
func done(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, drained) // the connection is closed if this fails
	_ = resp.Body.Close()
}

// errFolder is for what only an object can be.
var errFolder = fmt.Errorf("it is a folder: %w", fs.ErrPermission)

// refused is what a status that is no success means.
func refused(resp *http.Response) error {
	code := resp.StatusCode
	said := fmt.Sprintf("the server answers %d %s", code, http.StatusText(code))
	switch {
	case code/100 == 3 && code != http.StatusNotModified:
		return fmt.Errorf("%s and sends to %s; redirects are not followed", said, destination(resp))
	case code == http.StatusUnauthorized && digest(resp):
		return fmt.Errorf("%s and wants Digest, which is not supported: %w", said, fs.ErrPermission)
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		return fmt.Errorf("%s: %w", said, fs.ErrPermission)
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%s: %w", said, fs.ErrNotExist)
	case code == http.StatusInsufficientStorage:
		return fmt.Errorf("%s: %w", said, gateway.ErrFull)
	case code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
		return errors.New(said) // asking again would not help
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusLocked, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w", said, gateway.ErrUnavailable)
	}
	return errors.New(said)
}

// destination is where a redirect leads, without what may be secret in it.
func destination(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	return fmt.Sprintf("%q", u.Scheme+"://"+u.Host+u.EscapedPath())
}

// slashed tells whether an answer redirects to the same name with a slash after it, as
// servers do for folders.
func slashed(resp *http.Response) bool {
	u, err := resp.Location()
	return err == nil && resp.StatusCode/100 == 3 && u.Path == resp.Request.URL.Path+"/"
}

// digest tells whether no other way to prove who asks is offered.
func digest(resp *http.Response) bool {
	offers := resp.Header.Values("WWW-Authenticate")
	for _, o := range offers {
		if scheme, _, _ := strings.Cut(o, " "); !strings.EqualFold(scheme, "Digest") {
			return false
		}
	}
	return len(offers) > 0
}
