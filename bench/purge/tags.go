//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// excessBar is how many MiB memory may grow because of responses with too many tags:
// what one of them takes while it is under way, and the garbage of some.
const excessBar = 32

// excessive is how often one is asked for; each is another object.
const excessive = 200

// measureTags measures what responses with more tags than are kept leave behind.
func measureTags(ctx context.Context, o *options, r *report) error {
	if err := excessServed(ctx, o, r); err != nil {
		return err
	}
	return excessHanded(r)
}

// excessServed has larder ask for them. Their heads alone are too long.
func excessServed(ctx context.Context, o *options, r *report) error {
	l, err := newLab(ctx, o, "--memory", "256MiB")
	if err != nil {
		return err
	}
	defer l.close()
	var grown, stored figure
	status := 0
	for i := range 3 * excessive {
		if i%excessive == 0 { // the first round is what a program that has begun to work takes
			grown = append(grown, l.rss())
		}
		res, err := http.Get(fmt.Sprintf("%s/%s/%d", l.larder.URL, excess, i))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil {
			return err
		}
		if status = res.StatusCode; strings.Contains(res.Header.Get("Cache-Status"), "stored") {
			stored = append(stored, 1)
		}
	}
	grown = append(grown, l.rss())
	r.most(fmt.Sprintf("%d responses of %d tags, answered with %d: kept", 2*excessive, manyTags, status), "", figure{float64(len(stored))}, 0)
	r.most("  memory grows by", "MiB", figure{grown[3] - grown[1]}, excessBar)
	return nil
}

// labelled answers with so many tags.
type labelled struct{ header http.Header }

func newLabelled(n int) labelled {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "t%d ", i)
	}
	return labelled{http.Header{"Cache-Control": {"max-age=86400"}, "Surrogate-Key": {b.String()}}}
}

func (l labelled) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: l.header.Clone(),
		ContentLength: 1, Body: io.NopCloser(strings.NewReader("x")),
	}, nil
}

// excessHanded hands such responses to an Engine, whose origin is a function and
// may send heads of any length.
func excessHanded(r *report) error {
	for _, n := range []int{rules.MaxTags, rules.MaxTags + 1, manyTags} {
		s := memory.New(memory.Options{Budget: 64 << 20})
		e := engine.New(engine.Config{Store: s, Forward: newLabelled(n), Standing: engine.Standing(nil)})
		before, kept := heap(), 0
		for i := range excessive {
			w := httptest.NewRecorder()
			e.ServeHTTP(w, request(excess, i))
			if w.Code != http.StatusOK {
				return fmt.Errorf("%d tags: %d", n, w.Code)
			}
		}
		grown := heap() - before
		e.Close() // waits for what is under way
		e = engine.New(engine.Config{Store: s, Forward: newLabelled(n), Standing: engine.Standing(nil)})
		for i := range excessive {
			var a standing.Answer
			if e.Decide(request(excess, i).WithContext(store.AtOnce), &a) == standing.Decided {
				kept++
			}
		}
		e.Close()
		_ = s.Close() // nobody reads
		if n <= rules.MaxTags {
			r.most(fmt.Sprintf("%d responses of %d tags, from a function: not kept", excessive, n), "", figure{float64(excessive - kept)}, 0)
			continue
		}
		r.most(fmt.Sprintf("%d responses of %d tags, from a function: kept", excessive, n), "", figure{float64(kept)}, 0)
		r.most("  the heap grows by", "MiB", figure{grown}, excessBar)
	}
	return nil
}

// heap is what is in use in this process, in MiB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
