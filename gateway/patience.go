package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// Patience bounds what remote storage is asked, and how long it is waited for. Zero
// fields have the defaults.
type Patience struct {
	// Requests is how many questions the storage is asked at a time (64). Others
	// wait, for Answer at most. Bodies on their way count no more, so that slow
	// clients keep nobody waiting.
	Requests int
	// Answer is how long one question may take until it is answered (10s), and
	// how long a body may stand still. A write may for a minute at least.
	Answer time.Duration
	// Tries is how often a question is asked, the first time included (3), if
	// the storage is unavailable. Writes are never repeated.
	Tries int
	// Backoff is the longest pause before the second try (100ms). It doubles with each, and
	// its length is left to chance.
	Backoff time.Duration
}

func (p Patience) withDefaults() Patience {
	if p.Requests <= 0 {
		p.Requests = 64
	}
	if p.Answer <= 0 {
		p.Answer = 10 * time.Second
	}
	if p.Tries <= 0 {
		p.Tries = 3
	}
	if p.Backoff <= 0 {
		p.Backoff = 100 * time.Millisecond
	}
	return p
}

// asking is how a Handler asks remote storage.
type asking struct {
	Patience
	places chan struct{}
}

func newAsking(p Patience) *asking {
	p = p.withDefaults()
	return &asking{Patience: p, places: make(chan struct{}, p.Requests)}
}

// enter takes one of the places.
func (a *asking) enter(ctx context.Context) error {
	select {
	case a.places <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(a.Answer)
	defer t.Stop()
	select {
	case a.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("%d questions wait for the storage already, and none was answered within %v: %w", a.Requests, a.Answer, errBusy)
	}
}

// hold asks a question when there is a place for it.
func (a *asking) hold(ctx context.Context, ask func() error) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer func() { <-a.places }()
	return ask()
}

// errBusy is not worth asking again for: that was waiting already.
var errBusy = fmt.Errorf("no place: %w", ErrUnavailable)

// errSlow is why a context ended that storage did not answer in.
var errSlow = fmt.Errorf("the storage took too long: %w", context.DeadlineExceeded)

// A lease is a context that ends when nothing happened for a while.
type lease struct {
	context.Context
	end   context.CancelCauseFunc
	timer *time.Timer
	term  time.Duration
}

func (a *asking) lease(ctx context.Context) *lease {
	c, end := context.WithCancelCause(ctx)
	l := &lease{Context: c, end: end, term: a.Answer}
	l.timer = time.AfterFunc(a.Answer, func() { end(errSlow) })
	return l
}

// renew gives the lease its whole term again, from now on.
func (l *lease) renew() { l.timer.Reset(l.term) }

// rest keeps the lease from ending until it is renewed.
func (l *lease) rest() { l.timer.Stop() }

func (l *lease) Close() {
	l.timer.Stop()
	l.end(nil)
}

// explain says that it was the lease that ended, if so.
func (l *lease) explain(err error) error {
	if err != nil && errors.Is(context.Cause(l.Context), errSlow) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%w)", errSlow, err)
	}
	return err
}

// again tells whether a question is worth asking again after err, and waits.
func (a *asking) again(ctx context.Context, try int, err error) bool {
	if try >= a.Tries || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) || errors.Is(err, errSlow) || errors.Is(err, errBusy) {
		return false
	}
	most := a.Backoff << (try - 1)
	t := time.NewTimer(most/2 + rand.N(most/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// open opens an object, patiently.
func (h *Handler) open(ctx context.Context, name string, want Want) (Object, error) {
	if h.ask == nil {
		return h.src.Open(ctx, name, want)
	}
	for try := 1; ; try++ {
		var o Object
		var l *lease
		err := h.ask.hold(ctx, func() (err error) {
			l = h.ask.lease(ctx)
			o, err = h.src.Open(l, name, want)
			return err
		})
		if err == nil {
			l.rest()
			return &leased{Object: o, lease: l, ask: h.ask}, nil
		}
		if l != nil {
			err = l.explain(err)
			l.Close()
		}
		if !h.ask.again(ctx, try, err) {
			return nil, err
		}
	}
}

// list lists a folder, patiently.
func (h *Handler) list(ctx context.Context, folder string, limit int) ([]Info, error) {
	if h.ask == nil {
		return h.src.List(ctx, folder, limit)
	}
	for try := 1; ; try++ {
		var infos []Info
		err := h.ask.hold(ctx, func() (err error) {
			l := h.ask.lease(ctx)
			defer l.Close()
			infos, err = h.src.List(l, folder, limit)
			return l.explain(err)
		})
		if err == nil || !h.ask.again(ctx, try, err) {
			return infos, err
		}
	}
}

// delete removes an object. It is not asked for again: it may have been done.
func (h *Handler) delete(ctx context.Context, name string, only If) error {
	if h.ask == nil {
		return h.writer.Delete(ctx, name, only)
	}
	return h.ask.hold(ctx, func() error {
		l := h.ask.lease(ctx)
		defer l.Close()
		return l.explain(h.writer.Delete(l, name, only))
	})
}

// put writes an object. It is not asked for again: the content has gone.
func (h *Handler) put(ctx context.Context, name string, content *watched, size int64, fields http.Header, only If) (Info, error) {
	if h.ask == nil {
		return h.writer.Put(ctx, name, content, size, fields, only)
	}
	l := h.ask.lease(ctx)
	l.term = max(l.term, writeTerm)
	l.renew()
	defer l.Close()
	content.waits, content.goes = l.rest, l.renew
	info, err := h.writer.Put(l, name, content, size, fields, only)
	return info, l.explain(err)
}

// writeTerm is how long a write may stand still at least: storage puts together
// what came in parts.
const writeTerm = time.Minute

// A leased object is open as long as its lease.
type leased struct {
	Object
	lease *lease
	ask   *asking
}

func (o *leased) Close() error {
	err := o.Object.Close()
	o.lease.Close()
	return err
}

// Range goes on where the storage broke off: octets of one version are the same
// whenever they are read.
func (o *leased) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	r := &resuming{o: o, off: off, left: n, try: 1}
	for {
		err := r.open()
		if err == nil {
			return r, nil
		}
		if !o.ask.again(o.lease, r.try, err) {
			return nil, err
		}
		r.try++
	}
}

// resuming reads a range of an object in as many pieces as it takes.
type resuming struct {
	o         *leased
	body      io.ReadCloser // nil: between two pieces
	off, left int64
	try       int // since octets came last
}

func (r *resuming) open() error {
	return r.o.ask.hold(r.o.lease, func() (err error) {
		l := r.o.lease
		l.renew()
		defer l.rest()
		if r.body, err = r.o.Object.Range(l, r.off, r.left); err != nil {
			r.body = nil
		}
		return l.explain(err)
	})
}

func (r *resuming) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for {
		n, err := r.read(p)
		if n > 0 {
			r.off, r.left, r.try = r.off+int64(n), r.left-int64(n), 1
			if errors.Is(err, io.EOF) || errors.Is(err, ErrUnavailable) {
				err = nil // the next Read goes on
			}
			return n, err
		}
		if !r.o.ask.again(r.o.lease, r.try, err) {
			return 0, err
		}
		r.try++
		if r.body != nil {
			_ = r.body.Close() // it failed already
			r.body = nil
		}
	}
}

// read reads from the piece that is open, and opens it if there is none.
func (r *resuming) read(p []byte) (int, error) {
	if r.body == nil {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	r.o.lease.renew()
	n, err := r.body.Read(p)
	r.o.lease.rest()
	if errors.Is(err, io.EOF) && n == 0 {
		err = fmt.Errorf("%w: %w", ErrUnavailable, io.ErrUnexpectedEOF)
	}
	return n, r.o.lease.explain(err)
}

func (r *resuming) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
