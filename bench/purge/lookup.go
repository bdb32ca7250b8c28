//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// lookupBar is how much longer a lookup may take because of a purge, in nanoseconds.
const lookupBar = 1000

// A shelf is an Engine with much in its store.
type shelf struct {
	*engine.Engine
	store *memory.Store
}

// stocked answers as the origin does.
type stocked struct{ body string }

func (s stocked) RoundTrip(r *http.Request) (*http.Response, error) {
	var kind string
	var number int
	if _, err := fmt.Sscanf(strings.ReplaceAll(r.URL.Path, "/", " "), "%s %d", &kind, &number); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Cache-Control": {"max-age=86400"}, "Content-Type": {"text/html"}, "Etag": {`"v1"`}, "Surrogate-Key": {tagsOf(kind, number)},
		},
		ContentLength: bodySize, Body: io.NopCloser(strings.NewReader(s.body)),
	}, nil
}

// newShelf stores objects of a kind, and the hot ones. The caller calls close.
func newShelf(ctx context.Context, o *options) (*shelf, error) {
	s := memory.New(memory.Options{Budget: 2048*int64(o.objects+o.hot) + 64<<20})
	e := engine.New(engine.Config{Store: s, Forward: stocked{strings.Repeat("x", bodySize)}, Standing: engine.Standing(nil)})
	sh := &shelf{e, s}
	for kind, n := range map[string]int{million: o.objects, hot: o.hot} {
		for number := range n {
			e.ServeHTTP(&nobody{http.Header{}}, request(kind, number))
			if ctx.Err() != nil {
				break
			}
		}
		for number := range n {
			if err := sh.await(ctx, kind, number); err != nil {
				sh.close()
				return nil, err
			}
		}
	}
	return sh, nil
}

// await returns when an object is stored.
func (s *shelf) await(ctx context.Context, kind string, number int) error {
	var a standing.Answer
	r := request(kind, number).WithContext(store.AtOnce)
	for began := time.Now(); s.Decide(r, &a) != standing.Decided; runtime.Gosched() {
		if ctx.Err() != nil || time.Since(began) > time.Second {
			return fmt.Errorf("/%s/%d is not stored: %w", kind, number, context.Cause(ctx))
		}
	}
	return nil
}

func (s *shelf) close() {
	s.Engine.Close()
	_ = s.store.Close()
}

func request(kind string, number int) *http.Request {
	r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/%s/%d", kind, number), nil)
	r.Host, r.Header["Accept"] = host, []string{"text/html"}
	return r
}

// nobody is a client that takes everything.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) WriteHeader(int)             {}
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }

// A pass is paths that are looked up one after the other.
type pass []string

func newPass(kind string, set, n int) pass {
	p := make(pass, n)
	for i, number := range rand.New(rand.NewPCG(1, 0)).Perm(set)[:n] {
		p[i] = fmt.Sprintf("/%s/%d", kind, number)
	}
	return p
}

var errVerdict = errors.New("a lookup came to something else than it should")

// time is the CPU time that a lookup takes, in nanoseconds, with the collection of
// garbage: the clock would count what others do on this machine. It is what the front
// does: it looks for what stands, and has the Engine decide if nothing does.
func (p pass) time(s *shelf, want standing.Verdict) (float64, error) {
	var a standing.Answer
	var q standing.Request
	r := request(hot, 0).WithContext(store.AtOnce)
	q.Host, q.Fields = []byte(host), []standing.Field{{Name: []byte("Accept"), Value: []byte("text/html")}}
	began := cpu()
	for _, path := range p {
		q.Target = append(q.Target[:0], path...)
		if s.Standing.Find(&q, time.Now()) != nil {
			continue
		}
		r.URL.Path, r.RequestURI = path, path
		if s.Decide(r, &a) != want {
			return 0, fmt.Errorf("%w: %s", errVerdict, path)
		}
	}
	return float64((cpu() - began).Nanoseconds()) / float64(len(p)), nil
}

// cpu is the time that this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of ourselves it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A gain is what one purge adds to a lookup.
type gain struct{ before, first, later figure }

// measureLookup measures lookups at the Engine's door, without sockets, while a purge is
// in force that names a million other objects.
func measureLookup(ctx context.Context, o *options, r *report) error {
	s, err := newShelf(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	everywhere, few := newPass(million, o.objects, min(o.objects, 200_000)), newPass(hot, o.hot, o.hot)
	var cold, warm gain
	for round := range o.rounds {
		err := s.gain(&cold, everywhere, fmt.Sprint("other-", round))
		if err == nil {
			err = s.gain(&warm, few, fmt.Sprint("another-", round))
		}
		if err != nil {
			return err
		}
	}
	cold.tell(r, "one in a million, at random")
	warm.tell(r, "one of the hot set")
	return s.gone(ctx, r, everywhere)
}

// gain purges by a tag that none of them has, and measures lookups before and afterwards.
func (s *shelf) gain(g *gain, p pass, tag string) error {
	before, err := p.settle(s)
	if err != nil {
		return err
	}
	receipt, err := s.Ledger.Publish(purge.Order{Selectors: []purge.Selector{{Tag: tag}}})
	if err != nil {
		return err
	}
	first, err := p.time(s, standing.Decided)
	if err != nil {
		return err
	}
	later, err := p.settle(s)
	s.Ledger.Walked(receipt.ID) // a walker would have found nothing
	g.before, g.first, g.later = append(g.before, before), append(g.first, first-before), append(g.later, later-before)
	return err
}

// settle is how long a lookup takes when all stands that has room; of many next to
// nothing does.
func (p pass) settle(s *shelf) (ns float64, err error) {
	const longest = 200_000
	for n := 0; n < longest && err == nil; n += len(p) {
		ns, err = p.time(s, standing.Decided)
	}
	return ns, err
}

func (g *gain) tell(r *report, which string) {
	r.note("a lookup, "+which, "ns", g.before)
	r.most("  more, directly after a purge by tag", "ns", g.first, lookupBar)
	r.most("  more, in the long run, with it in force", "ns", g.later, lookupBar)
}

// gone measures the purge of all of them, and what it is to go through them.
func (s *shelf) gone(ctx context.Context, r *report, p pass) error {
	began := time.Now()
	receipt, err := s.Purge(ctx, purge.Order{Selectors: []purge.Selector{{Tag: million}}})
	took := time.Since(began)
	if err != nil {
		return err
	}
	r.most("the purge of all, by tag", "us", figure{micro(took)}, publishBar)
	gone, err := p.time(s, standing.Elsewhere)
	if err != nil {
		return err
	}
	r.note("  a lookup that finds out that it is purged", "ns", figure{gone})
	began, used := time.Now(), cpu()
	if err := s.Walk(ctx); err != nil {
		return err
	}
	used = cpu() - used
	now, _, err := s.Ledger.Receipt(receipt.ID)
	if err != nil {
		return err
	}
	r.note(fmt.Sprintf("  going through all, and removing %d", now.Objects), "s", figure{time.Since(began).Seconds()})
	r.note("  CPU for that", "s", figure{used.Seconds()})
	return nil
}
