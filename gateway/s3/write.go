package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

const (
	// small bodies are read before anything is sent, so that they can be hashed,
	// and sent again on another connection.
	small = 1 << 20
	// maxReply is how many octets of an answer to a write are read.
	maxReply = 64 << 10
)

// Put uploads by one PUT, up to 5 GiB, and in parts what is larger or does not tell
// its size: parts of 16 MiB, one of which is in memory if the size is unknown;
// 10,000 of them at most, so that such a body has at most 156 GiB. A body that
// fails leaves nothing: parts are removed.
//
// With a condition, a HEAD looks first, and the server looks again when it has the
// whole body (If-None-Match, If-Match). One that ignores these, as older ones do,
// lets another writer come between.
//
// Put returns when body is not read any more, unless ctx ends.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (gateway.Info, error) {
	info, err := s.put(ctx, name, body, size, fields, only)
	if err != nil {
		return gateway.Info{}, s.wrap(name, err)
	}
	return info, nil
}

func (s *Source) put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (gateway.Info, error) {
	key, err := s.key(name)
	if err != nil {
		return gateway.Info{}, err
	}
	cond, err := s.holds(ctx, key, only)
	if err != nil {
		return gateway.Info{}, err
	}
	u := &put{s: s, key: key, cond: cond, fields: http.Header{}}
	for _, f := range kept {
		if v := fields.Get(f); v != "" {
			u.fields.Set(f, v)
		}
	}
	var info gateway.Info
	switch {
	case size < 0:
		info, err = u.unknown(ctx, body)
	case size > s.maxPut:
		info, err = u.large(ctx, body, size)
	case size <= small:
		octets, failed := io.ReadAll(conduit.Exactly(body, size))
		if failed != nil {
			return gateway.Info{}, fmt.Errorf("the body: %w", failed)
		}
		info, err = u.whole(ctx, octets)
	default:
		info, err = u.send(ctx, request{body: body, size: size, again: u.cond == nil})
	}
	if only.Version != "" && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", gateway.ErrConflict, err) // S3 says 404 to If-Match
	}
	return info, err
}

// holds looks whether only holds now, and returns it as a condition for the change.
// Who may write and not read leaves it to the server.
func (s *Source) holds(ctx context.Context, key string, only gateway.If) (http.Header, error) {
	if only == (gateway.If{}) {
		return nil, nil
	}
	o := &object{s: s, key: key}
	err := o.head(ctx, http.Header{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if only.Version != "" {
			return nil, gateway.ErrConflict
		}
		return http.Header{"If-None-Match": {"*"}}, nil
	case errors.Is(err, fs.ErrPermission):
		if only.Absent {
			return http.Header{"If-None-Match": {"*"}}, nil
		}
		if tag := `"` + only.Version + `"`; tagged(tag) {
			return http.Header{"If-Match": {tag}}, nil
		}
		return nil, gateway.ErrConflict
	case err != nil:
		return nil, err
	case only.Absent, o.info.Version != only.Version:
		return nil, gateway.ErrConflict
	case o.tag == "": // by time: the server has no condition for it
		return nil, nil
	}
	return http.Header{"If-Match": {o.tag}}, nil
}

// A put is one Put.
type put struct {
	s            *Source
	key          string
	fields, cond http.Header
}

// whole sends a body that is in memory.
func (u *put) whole(ctx context.Context, octets []byte) (gateway.Info, error) {
	return u.send(ctx, inMemory(octets, u.cond == nil))
}

// inMemory is a request with a body.
func inMemory(octets []byte, again bool) request {
	return request{octets: octets, size: int64(len(octets)), hash: hash(octets), again: again}
}

// send makes the PUT.
func (u *put) send(ctx context.Context, q request) (gateway.Info, error) {
	q.method, q.key, q.header = http.MethodPut, u.key, u.fields.Clone()
	for name, values := range u.cond {
		q.header[name] = values
	}
	resp, _, err := u.s.do(ctx, q, maxReply)
	if err != nil {
		return gateway.Info{}, err
	}
	return stored(resp.Header.Get("ETag"), q.size), nil
}

// stored is what is known of what was written.
func stored(etag string, size int64) gateway.Info {
	info := gateway.Info{Size: size}
	if tagged(etag) {
		info.Version, info.Certain = etag[1:len(etag)-1], true
	}
	return info
}

func hash(octets []byte) string {
	sum := sha256.Sum256(octets)
	return hex.EncodeToString(sum[:])
}

// Delete looks by HEAD whether there is the object, as the server says the same
// whether there was one, and deletes it, on condition of the version if only has
// one: a server that ignores that lets another writer come between.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	if err := s.remove(ctx, name, only); err != nil {
		return s.wrap(name, err)
	}
	return nil
}

func (s *Source) remove(ctx context.Context, name string, only gateway.If) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	o := &object{s: s, key: key}
	if err := o.head(ctx, http.Header{}); err != nil {
		return err
	}
	q := request{method: http.MethodDelete, key: key, again: true}
	if only.Absent || only.Version != "" && only.Version != o.info.Version {
		return gateway.ErrConflict
	}
	if only.Version != "" && o.tag != "" {
		q.header, q.again = http.Header{"If-Match": {o.tag}}, false
	}
	_, _, err = s.do(ctx, q, maxReply)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusNotImplemented && q.header != nil {
		// So said S3 itself until 2025, when it learned the condition.
		q.header = nil
		_, _, err = s.do(ctx, q, maxReply)
	}
	return err
}
