package s3

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// What is signed in place of the hash of a body: that of nothing, and that it was
// not hashed, which servers take without trailers of checksums.
const (
	hashOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	notHashed     = "UNSIGNED-PAYLOAD"
)

// continueFrom is the size of a body from which on the server is asked first
// whether it wants it.
const continueFrom = 1 << 20

// A request is one of the protocol.
type request struct {
	method string
	key    string // empty: the bucket itself
	query  url.Values
	header http.Header // nil: none

	// A body is size octets: these, or those that body gives, once.
	octets []byte
	body   io.Reader
	size   int64
	hash   string // of octets, hex; empty: not known

	// again says that to send it twice does no harm, so that it may be when a
	// pooled connection turns out to be closed.
	again bool
}

// send makes one attempt. The caller closes the body of the response.
func (s *Source) send(ctx context.Context, q request) (*http.Response, error) {
	at, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := s.keys.get(ctx)
	if err != nil {
		return nil, err
	}
	// The path is what is signed: once-encoded, each octet that could mean anything.
	u := url.URL{Scheme: at.scheme, Host: at.host, Path: at.path + q.key, RawQuery: q.query.Encode()}
	u.RawPath = s3utils.EncodePath(u.Path)
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	hash := hashOfNothing
	if q.size > 0 {
		req.ContentLength = q.size
		hash = cmp.Or(q.hash, notHashed)
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	req.Header.Set("X-Amz-Content-Sha256", hash)
	req = signer.SignV4(*req, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, at.region)

	// What proxies may change is not signed.
	req.Header.Set("User-Agent", "larder")
	req.Header.Set("Accept-Encoding", "identity") // the octets are those stored
	if q.size >= continueFrom {
		req.Header.Set("Expect", "100-continue")
	}
	if q.again {
		req.Header["X-Idempotency-Key"] = nil // for net/http; it is not sent
	}
	return s.exchange(ctx, req, q)
}

// do is send for what has no octets for an answer: at most limit of them are read.
func (s *Source) do(ctx context.Context, q request, limit int64) (*http.Response, []byte, error) {
	resp, err := s.send(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() // read as far as it is wanted
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp, nil, s.refusal(resp)
	}
	s.exists.Store(true)
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return resp, nil, unreachable(ctx, err)
	case int64(len(text)) > limit:
		return resp, nil, errTooLong
	}
	return resp, text, nil
}
