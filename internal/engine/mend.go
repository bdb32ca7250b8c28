package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

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
	rest, err := x.again(k.Stored, off, off+n-1)
	if err != nil {
		return errors.Join(err, cause)
	}
	defer rest.Close()
	_, err = io.CopyN(&x.counted, rest, n)
	return err
}

// again asks the origin once more for the octets of res from first to last, or to
// the end if last is negative. What the caller closes begins with the first of
// them, and may go on behind the last.
func (x *exchange) again(res *rules.Stored, first, last int64) (io.ReadCloser, error) {
	if res.ETag.Opaque == "" || res.ETag.Weak {
		return nil, errUnmended
	}
	j := x.job(nil, &rules.Decision{Action: rules.Fetch}, true)
	clearConditions(j.out.Header)
	wanted := fmt.Sprintf("bytes=%d-", first)
	if last >= 0 {
		wanted += strconv.FormatInt(last, 10)
	}
	j.out.Header["Range"] = []string{wanted}
	j.out.Header["If-Range"] = res.Header["Etag"]
	a, f := x.e.send(j.out.WithContext(unreported(x.r.Context())), &j.req, j.policy)
	if f != nil {
		return nil, f.err
	}
	if err := a.reach(res, first, last); err != nil {
		a.Body.Close()
		return nil, err
	}
	return a.Body, nil
}

// reach reads the answer to exchange.again up to where it is wanted.
func (a *arrival) reach(res *rules.Stored, first, last int64) error {
	part := a.stored.Part
	if last < 0 {
		last = part.Total - 1 // which may be unknown: then no octet is the last
	}
	switch {
	case !rules.Joinable(res, a.stored):
	case a.StatusCode == http.StatusPartialContent && !part.IsZero() && part.First == first && part.Last == last:
		return nil
	case a.StatusCode == http.StatusOK && res.Status == http.StatusOK: // it knows no ranges
		_, err := io.CopyN(io.Discard, a.Body, first)
		return err
	}
	return errUnmended
}

// A steadyBody is a body on its way into the store. What the store loses of it
// comes from the origin. One goroutine uses it.
type steadyBody struct {
	x    *exchange
	res  *rules.Stored
	body io.ReadCloser
	at   int64 // of the next octet
	end  int64 // behind the last octet that is wanted; negative: unknown
}

func (b *steadyBody) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.at += int64(n)
		if err == nil || err == io.EOF {
			return n, err
		}
		var loss *storeLoss
		switch {
		case !errors.As(err, &loss):
			return n, err
		case n > 0:
			return n, nil // the body fails once more if it has to
		case b.at == b.end:
			return 0, io.EOF
		}
		if err := b.turn(loss); err != nil {
			return 0, errors.Join(err, loss)
		}
	}
}

// turn goes over from the store to the origin. It lets go of the body before: who
// holds that up may hold up the origin.
func (b *steadyBody) turn(loss *storeLoss) error {
	b.x.event.Fault = loss
	b.body.Close()
	b.body = http.NoBody
	rest, err := b.x.again(b.res, b.res.Part.First+b.at, b.last())
	if err == nil {
		b.body = rest
	}
	return err
}

// last is the offset in the representation of the last octet that is wanted.
func (b *steadyBody) last() int64 {
	if b.end < 0 {
		return -1
	}
	return b.res.Part.First + b.end - 1
}

// Close ends the use of the body.
func (b *steadyBody) Close() error { return b.body.Close() }
