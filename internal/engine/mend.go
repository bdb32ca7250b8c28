package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/rules"
)

var errUnmended = errors.New("the store lost the rest of a body, and the origin has another by now, or no strong tag for it")

// mend sends n octets of the representation of k from off on, which the store
// could not read because of cause. They are the origin's, under the same strong
// entity tag: that is what makes them the same octets (RFC 9110 §8.8.1, §13.1.5).
// What could not be read is not tried again.
func (x *exchange) mend(k *kept, off, n int64, cause error) error {
	x.event.Fault = cause
	if cause == nil {
		x.event.Fault = io.ErrUnexpectedEOF
	}
	_ = x.e.Store.Remove(context.WithoutCancel(x.r.Context()), x.key, k.entry.ID)
	if k.ETag.Opaque == "" || k.ETag.Weak {
		return errors.Join(errUnmended, cause)
	}
	span := field.Span{First: off, Last: off + n - 1}
	j := x.job(nil, &rules.Decision{Action: rules.Fetch}, true)
	clearConditions(j.out.Header)
	j.out.Header["Range"] = []string{fmt.Sprintf("bytes=%d-%d", span.First, span.Last)}
	j.out.Header["If-Range"] = k.Header["Etag"]
	a, f := x.e.send(j.out.WithContext(x.r.Context()), &j.req)
	if f != nil {
		return errors.Join(f.err, cause)
	}
	defer a.Body.Close()
	skip := int64(0)
	switch part := a.stored.Part; {
	case !rules.Joinable(k.Stored, a.stored):
		return errors.Join(errUnmended, cause)
	case a.StatusCode == http.StatusPartialContent && part.First == span.First && part.Last == span.Last:
	case a.StatusCode == http.StatusOK && k.Status == http.StatusOK:
		skip = off // it knows no ranges
	default:
		return errors.Join(errUnmended, cause)
	}
	if _, err := io.CopyN(io.Discard, a.Body, skip); err != nil {
		return errors.Join(err, cause)
	}
	_, err := io.CopyN(&x.counted, a.Body, n)
	return err
}
