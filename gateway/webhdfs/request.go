package webhdfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/larderhq/larder/gateway/internal/conduit"
)

// prefix is what WebHDFS puts before the path of a file.
const prefix = "/webhdfs/v1"

// maxReply is how many octets of an answer are read that is neither octets nor a
// listing.
const maxReply = 64 << 10

// ask makes one request to the name node, without a body. The caller closes the body of
// the answer.
func (s *Source) ask(ctx context.Context, method, op, name string, params url.Values) (*http.Response, error) {
	query := url.Values{"op": {op}}
	for _, more := range []url.Values{s.who, params} {
		for k, v := range more {
			query[k] = v
		}
	}
	path := prefix + s.path(name)
	u := url.URL{Scheme: s.scheme, Host: s.host, Path: path, RawPath: encode(path), RawQuery: query.Encode()}
	return s.send(ctx, method, u.String(), nil, 0)
}

// send makes one request. size is that of body; negative: unknown.
func (s *Source) send(ctx context.Context, method, u string, body io.Reader, size int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, errors.New("the request cannot be made") // the error would show the URL, and so the token
	}
	r.Header.Set("User-Agent", "Larder")
	r.Header.Set("Accept-Encoding", "identity")
	if method != http.MethodGet {
		r.Header.Set("X-XSRF-HEADER", `""`) // some clusters want it for what changes something
	}
	if body != nil {
		r.ContentLength = size
		r.Header.Set("Content-Type", "application/octet-stream")
		if body != http.NoBody {
			r.Header.Set("Expect", "100-continue")
		}
	}
	resp, err := s.transport.RoundTrip(r)
	if err != nil {
		return nil, conduit.Unavailable(err)
	}
	return resp, nil
}

// redirected is the URL of a data node that a name node sends to.
func (s *Source) redirected(resp *http.Response) (string, error) {
	u, err := resp.Location()
	switch {
	case err != nil || u.User != nil:
		return "", errors.New("the name node redirects to what is no URL")
	case u.Scheme != "https" && (u.Scheme != "http" || s.scheme == "https"):
		return "", fmt.Errorf("the name node redirects to %q of host %q", u.Scheme, u.Host)
	case u.Host == "":
		return "", errors.New("the name node redirects to nowhere")
	}
	return u.String(), nil
}

// done lets go of an answer. What is left of it is read if it is little.
func done(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxReply) // the connection is closed if this fails
	_ = resp.Body.Close()
}

// reply reads an answer of the name node as JSON, and closes it. An empty one leaves v
// as it is.
func reply(resp *http.Response, v any) error {
	defer done(resp)
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return conduit.Unavailable(err)
	}
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the name node's answer is not as WebHDFS has it: %w", err)
	}
	return nil
}

// ended wraps why a body ended before its time.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return conduit.Unavailable(err)
}
