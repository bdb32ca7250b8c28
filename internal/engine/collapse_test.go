package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// crowd lets n clients ask at once, each with the fields that header gives it.
func crowd(w *sim.World, n int, header func(i int) []string) []*sim.Answer {
	answers := make([]*sim.Answer, n)
	for i := range answers {
		var own []string
		if header != nil {
			own = header(i)
		}
		answers[i] = w.Start("GET", "/a", "", own...)
	}
	return answers
}

// waitAll waits for all answers and tells how long that took.
func waitAll(answers []*sim.Answer) time.Duration {
	start := time.Now()
	for _, a := range answers {
		a.Wait()
	}
	return time.Since(start)
}

// A tap is a body that a test lets run, and which notes that it was given up.
type tap struct {
	*io.PipeReader
	w *io.PipeWriter

	mu     sync.Mutex
	closed bool
}

func newTap() *tap {
	r, w := io.Pipe()
	return &tap{PipeReader: r, w: w}
}

// pour is called with the world settled: somebody reads.
func (p *tap) pour(s string) { _, _ = io.WriteString(p.w, s) }

func (p *tap) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.PipeReader.Close()
}

func (p *tap) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func TestCOL01_OneValidationForAThousandClients(t *testing.T) {
	for name, reply := range map[string]sim.Reply{
		"confirmed": {Status: 304, Delay: 3 * time.Second},
		"replaced":  {Header: minute.Header, Body: "page", Delay: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(minute, reply)
				w.Get("/a").Want(200, "page")
				w.Advance(2 * time.Minute)
				answers := crowd(w, 1000, nil)
				if took := waitAll(answers); took != 3*time.Second {
					t.Errorf("took %v", took)
				}
				collapsed := 0
				for _, a := range answers {
					a.Want(200, "page").WantMiss("stale")
					if strings.Contains(a.CacheStatus(), "; collapsed") {
						collapsed++
					}
				}
				if collapsed != 999 {
					t.Errorf("%d answers say collapsed", collapsed)
				}
				w.WantCount(2)
			})
		})
	}
}

// The lifetime is over before the origin has answered: they share nevertheless.
func TestCOL01_ShorterFreshThanTheFetchTakes(t *testing.T) {
	for _, validator := range []string{`ETag: "1"`, "X: y"} {
		sim.Run(t, func(w *sim.World) {
			page := sim.Reply{Header: []string{"Cache-Control: max-age=1", validator}, Body: "page", Delay: 2 * time.Second}
			confirmed := page
			if validator != "X: y" {
				confirmed.Status = 304
			}
			w.Origin(page, confirmed)
			for range 2 {
				if took := waitAll(crowd(w, 50, nil)); took != 2*time.Second {
					t.Errorf("took %v", took)
				}
			}
			w.WantCount(2)
		})
	}
}

func TestCOL02_WhatIsNotForAllIsFetchedByEach(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string
		status int
		own    []string // fields of the requests
	}{
		{name: "no-store", header: []string{"Cache-Control: no-store"}},
		{name: "no-store and fresh", header: []string{"Cache-Control: no-store, max-age=60", `ETag: "1"`}},
		{name: "private", header: []string{"Cache-Control: private, max-age=60"}},
		{name: "no-cache", header: []string{"Cache-Control: no-cache", `ETag: "1"`}},
		{name: "no-cache and fresh", header: []string{"Cache-Control: no-cache, max-age=60"}},
		{name: "max-age=0", header: []string{"Cache-Control: max-age=0", `ETag: "1"`}},
		{name: "stale on arrival", header: []string{"Cache-Control: max-age=60", "Age: 60", `ETag: "1"`}},
		{name: "Vary: *", header: []string{"Cache-Control: max-age=60", "Vary: *"}},
		{name: "Vary", header: []string{"Cache-Control: max-age=60", "Vary: X-Own"}},
		{name: "cookie without explicit freshness", header: []string{"Set-Cookie: a=1", "Last-Modified: " + lastModified}},
		{name: "Vary: * on an error", header: []string{"Vary: *"}, status: 500},
		{name: "an error", status: 503},
		{name: "not found", status: 404},
		{name: "requests with Authorization", header: minute.Header, own: []string{"Authorization: x"}},
		{name: "requests with no-store", header: minute.Header, own: []string{"Cache-Control: no-store"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Handle(func(r *http.Request) sim.Reply {
					return sim.Reply{Status: c.status, Header: c.header, Body: "for " + r.Header.Get("X-Own"), Delay: 2 * time.Second}
				})
				const n = 50
				answers := crowd(w, n, func(i int) []string { return append([]string{fmt.Sprint("X-Own: ", i)}, c.own...) })
				if took := waitAll(answers); took > 4*time.Second {
					t.Errorf("took %v: they went one after the other", took)
				}
				for i, a := range answers {
					a.Want(max(c.status, 200), fmt.Sprint("for ", i))
				}
				w.WantCount(n)
			})
		})
	}
}

// A 304 that takes back that the page may be shared, or finds it old already.
func TestCOL02_WhatIsConfirmedForOneIsConfirmedByEach(t *testing.T) {
	for _, line := range []string{"Cache-Control: no-cache", "Cache-Control: max-age=0", "Age: 60", "Cache-Control: no-cache, max-age=60"} {
		t.Run(line, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(minute, sim.Reply{Status: 304, Header: []string{line}, Delay: 2 * time.Second})
				w.Get("/a").Want(200, "page")
				w.Advance(time.Minute)
				answers := crowd(w, 50, nil)
				if took := waitAll(answers); took > 4*time.Second {
					t.Errorf("took %v: they went one after the other", took)
				}
				for _, a := range answers {
					a.Want(200, "page").WantMiss("stale")
				}
				w.WantCount(51)
				if took := waitAll(crowd(w, 50, nil)); took != 2*time.Second {
					t.Errorf("later ones took %v: they waited", took)
				}
				w.WantCount(101)
			})
		})
	}
}

// Nobody is served what was fetched for one who is authorized.
func TestCOL02_OthersDoNotJoinAnAuthorizedFetch(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			return sim.Reply{Header: minute.Header, Body: "for " + r.Header.Get("Authorization"), Delay: 2 * time.Second}
		})
		known := w.Start("GET", "/a", "", "Authorization: me")
		w.Settle()
		others := crowd(w, 10, nil)
		other := w.Start("GET", "/a", "", "Authorization: you")
		waitAll(append(others, known, other))
		known.Want(200, "for me")
		other.Want(200, "for you")
		for _, a := range others {
			a.Want(200, "for ")
		}
		w.WantCount(3)
	})
}

func TestCOL03_ManyVariantsAtOnceAreFetchedAtOnce(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			language := r.Header.Get("Accept-Language")
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: Accept-Language"}, Body: language, Delay: 2 * time.Second}
		})
		language := func(i int) string { return fmt.Sprintf("l%d", i%20) }
		answers := crowd(w, 200, func(i int) []string { return []string{"Accept-Language: " + language(i)} })
		if took := waitAll(answers); took != 4*time.Second {
			t.Errorf("took %v, want two fetches", took)
		}
		for i, a := range answers {
			a.Want(200, language(i))
		}
		w.WantCount(20)
		for i := range 20 {
			w.Get("/a", "Accept-Language: "+language(i)).Want(200, language(i)).WantHit()
		}
	})
}

// Some of the variants name further fields.
func TestCOL03_VariantsOfVariantsEndToo(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			vary := "A"
			if r.Header.Get("A") != "0" {
				vary = "A, B"
			}
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: " + vary}, Body: r.Header.Get("A") + r.Header.Get("B"), Delay: time.Second}
		})
		answers := crowd(w, 100, func(i int) []string { return []string{fmt.Sprint("A: ", i%2), fmt.Sprint("B: ", i%10)} })
		if took := waitAll(answers); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		for i, a := range answers {
			if want := fmt.Sprint(i%2, i%10); i%2 == 1 && a.Body() != strings.ReplaceAll(want, " ", "") || a.Body()[:1] != want[:1] {
				t.Fatalf("client %d got %q", i, a.Body())
			}
		}
	})
}

func TestCOL03_UncacheableIsRemembered(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	for name, reply := range map[string]sim.Reply{
		"no-store":                 {Header: []string{"Cache-Control: no-store"}},
		"private":                  {Header: []string{"Cache-Control: private, max-age=60"}},
		"Vary: *":                  {Header: []string{"Cache-Control: max-age=60", "Vary: *"}},
		"max-age=0":                {Header: []string{"Cache-Control: max-age=0", `ETag: "1"`}},
		"stale on arrival":         {Header: []string{"Cache-Control: max-age=60", "Age: 100", `ETag: "1"`}},
		"too large":                {Header: minute.Header, Body: large},
		"too large, nobody told":   {Header: minute.Header, Body: large, Length: -1},
		"a cookie and a heuristic": {Header: []string{"Last-Modified: " + lastModified, "Set-Cookie: a=b"}},
	} {
		for _, memo := range []time.Duration{0, 5 * time.Minute} {
			t.Run(fmt.Sprint(name, memo), func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) { c.Terms.UncacheableMemory = memo }, func(w *sim.World) {
					reply.Delay = time.Second
					w.Origin(reply)
					w.Get("/a")
					span := memo
					if span == 0 {
						span = time.Minute
					}
					for range 5 {
						w.Advance(span/5 - 2*time.Second)
						before := w.Count()
						if took := waitAll(crowd(w, 10, nil)); took != time.Second {
							t.Fatalf("took %v: they waited", took)
						}
						w.WantCount(before + 10)
					}
					w.Advance(span + 2*time.Second) // it may have become cacheable
					before := w.Count()
					w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "now", Delay: time.Second})
					waitAll(crowd(w, 10, nil))
					if asked := w.Count() - before; asked != 1 && reply.Header[0] != "Cache-Control: max-age=0" {
						t.Errorf("%d requests after the memory had faded", asked)
					}
				})
			})
		}
	}
}

func TestCOL04_WaitingEnds(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Second} {
		want := limit
		if limit == 0 {
			want = 5 * time.Second
		}
		t.Run(want.String(), func(t *testing.T) {
			sim.RunWith(t, func(c *engine.Config) { c.Terms.CollapseTimeout = limit }, func(w *sim.World) {
				n := make(chan int, 100)
				for i := range 100 {
					n <- i
				}
				w.Handle(func(*http.Request) sim.Reply {
					if <-n == 0 {
						return sim.Reply{Header: minute.Header, Body: "slow", Delay: time.Minute}
					}
					return sim.Reply{Header: minute.Header, Body: "quick"}
				})
				leader := w.Start("GET", "/a", "")
				w.Settle()
				waiting := crowd(w, 10, nil)
				if took := waitAll(waiting); took != want {
					t.Errorf("waited %v, want %v", took, want)
				}
				for _, a := range waiting {
					a.Want(200, "quick")
				}
				w.Advance(time.Second)
				w.Get("/a").Want(200, "quick").WantHit()
				leader.Wait()
				leader.Want(200, "slow")
			})
		})
	}
	t.Run("over several fetches that fail", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(
				sim.Reply{Err: errors.New("reset"), Delay: 3 * time.Second},
				sim.Reply{Header: minute.Header, Body: "slow", Delay: time.Minute},
				minute)
			first := crowd(w, 3, nil)
			start := time.Now()
			ended := 0
			w.Advance(5 * time.Second)
			w.Settle()
			for _, a := range first {
				if a.Done() {
					ended++
				}
			}
			// One led and failed, one leads now, and the last has waited enough.
			if ended != 2 {
				t.Errorf("%d have an answer after %v", ended, time.Since(start))
			}
			waitAll(first)
		})
	})
}

func TestCOL05_AFailureIsNotEverybodys(t *testing.T) {
	for _, n := range []int{10, 1000} {
		t.Run(fmt.Sprint(n, " then it works"), func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Err: errors.New("reset"), Delay: time.Second}, minute)
				answers := crowd(w, n, nil)
				waitAll(answers)
				failed := 0
				for _, a := range answers {
					if a.Status != 200 {
						failed++
					} else {
						a.Want(200, "page")
					}
				}
				if failed != 1 {
					t.Errorf("%d clients failed, want the leader alone", failed)
				}
				w.WantCount(2)
			})
		})
		t.Run(fmt.Sprint(n, " for good"), func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Err: errors.New("reset"), Delay: time.Second})
				answers := crowd(w, n, nil)
				if took := waitAll(answers); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
				for _, a := range answers {
					if a.Status < 500 || a.Aborted {
						t.Fatalf("status %d", a.Status)
					}
				}
				if w.Count() > 2 {
					t.Errorf("%d requests to an origin that is down", w.Count())
				}
			})
		})
		t.Run(fmt.Sprint(n, " midway"), func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				broken := newTap()
				w.Origin(sim.Reply{Header: minute.Header, Stream: broken, Delay: time.Second}, minute)
				answers := crowd(w, n, nil)
				w.Advance(time.Second)
				w.Settle()
				broken.pour("pa")
				broken.w.CloseWithError(errors.New("reset"))
				waitAll(answers)
				for _, a := range answers {
					if !a.Aborted || a.Body() != "pa" {
						t.Fatalf("aborted %v, body %q", a.Aborted, a.Body())
					}
				}
				w.Get("/a").Want(200, "page").WantMiss("uri-miss")
			})
		})
	}
}

func TestCOL06_TheLeaderMayLeave(t *testing.T) {
	ask := func(w *sim.World) (leader *sim.Answer, others []*sim.Answer, body *tap) {
		body = newTap()
		w.Origin(sim.Reply{Header: minute.Header, Stream: body, Delay: time.Second}, refusing)
		leader = w.Start("GET", "/a", "")
		w.Settle()
		return leader, crowd(w, 10, nil), body
	}
	finish := func(t *testing.T, w *sim.World, leader *sim.Answer, others []*sim.Answer, body *tap) {
		t.Helper()
		w.Advance(time.Second)
		w.Settle()
		body.pour("page")
		body.w.Close()
		leader.Wait()
		waitAll(others)
		w.Settle()
		for _, a := range others {
			a.Want(200, "page")
		}
		w.WantCount(1)
		w.Get("/a").Want(200, "page").WantHit()
	}
	t.Run("before the head", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			leader, others, body := ask(w)
			leader.Leave()
			finish(t, w, leader, others, body)
			if !leader.Aborted || leader.Status != 0 {
				t.Errorf("the leader was answered: %d", leader.Status)
			}
		})
	})
	t.Run("during the body", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			leader, others, body := ask(w)
			w.Advance(time.Second)
			w.Settle()
			body.pour("the ")
			w.Settle()
			leader.Leave()
			leader.Wait()
			body.pour("page")
			body.w.Close()
			waitAll(others)
			for _, a := range others {
				a.Want(200, "the page")
			}
			w.Get("/a").Want(200, "the page").WantHit()
		})
	})
	t.Run("and everybody else", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			leader, others, body := ask(w)
			for _, a := range append(others, leader) {
				a.Leave()
			}
			finish(t, w, leader, nil, body)
		})
	})
	t.Run("while a waiting one leaves too", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			leader, others, body := ask(w)
			others[3].Leave()
			others[3].Wait()
			if !others[3].Aborted {
				t.Error("a client that left still waits")
			}
			finish(t, w, leader, append(others[:3:3], others[4:]...), body)
		})
	})
	t.Run("with a response for itself alone", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			private := newTap()
			w.Origin(sim.Reply{Header: []string{"Cache-Control: private"}, Stream: private, Delay: time.Second}, sim.Reply{Header: []string{"Cache-Control: private"}, Body: "own"})
			leader := w.Start("GET", "/a", "")
			w.Settle()
			others := crowd(w, 10, nil)
			leader.Leave()
			waitAll(others)
			for _, a := range others {
				a.Want(200, "own")
			}
			w.Settle()
			if !private.isClosed() {
				t.Error("nobody ended the body that was for the leader alone")
			}
			w.WantCount(11)
		})
	})
}

func TestCOL07_BodiesReachWaitingClientsWhileTheyArrive(t *testing.T) {
	for _, length := range []int64{0, 9} {
		sim.Run(t, func(w *sim.World) {
			body := newTap()
			w.Origin(sim.Reply{Header: minute.Header, Stream: body, Length: length, Delay: time.Second})
			answers := crowd(w, 10, nil)
			w.Advance(time.Second)
			w.Settle()
			for i, piece := range []string{"one", "two", "end"} {
				body.pour(piece)
				w.Settle()
				if i == 0 {
					answers = append(answers, crowd(w, 5, nil)...) // who comes late gets the beginning as well
					answers = append(answers, w.Start("GET", "/a", "", "Range: bytes=1-6"))
					w.Settle()
				}
				for _, a := range answers[:15] {
					if want := "onetwoend"[:3*(i+1)]; a.Body() != want || a.Flushed() != want && i < 2 {
						t.Fatalf("after %q: body %q, flushed %q", piece, a.Body(), a.Flushed())
					}
				}
			}
			body.w.Close()
			waitAll(answers)
			for _, a := range answers[:15] {
				a.Want(200, "onetwoend")
			}
			if last := answers[15]; length > 0 {
				last.Want(206, "netwoe")
			} else {
				last.Want(200, "onetwoend") // nobody knew where it ends
			}
			w.WantCount(1)
		})
	}
}

// A client alone gets the beginning before the end is there, too.
func TestCOL07_BodiesForOneClientStream(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		body := newTap()
		w.Origin(sim.Reply{Header: []string{"Cache-Control: no-store"}, Stream: body})
		a := w.Start("GET", "/a", "")
		w.Settle()
		body.pour("first")
		w.Settle()
		if a.Flushed() != "first" || a.Done() {
			t.Errorf("flushed %q", a.Flushed())
		}
		body.w.Close()
		a.Wait()
		a.Want(200, "first")
	})
}

func TestCOL08_OnlyReadsAreCollapsed(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "UNKNOWN"} {
		t.Run(method, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: minute.Header, Body: "done", Delay: time.Second})
				var answers []*sim.Answer
				for range 10 {
					answers = append(answers, w.Start(method, "/a", ""))
				}
				if took := waitAll(answers); took != time.Second {
					t.Errorf("took %v", took)
				}
				w.WantCount(10)
			})
		})
	}
}

func TestCOL09_SoftTTL(t *testing.T) {
	soft := func(c *engine.Config) { c.Terms.SoftTTL = 30 * time.Second }
	t.Run("one refresh", func(t *testing.T) {
		sim.RunWith(t, soft, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: 304, Delay: 2 * time.Second})
			w.Get("/a").Want(200, "page")
			w.Advance(89 * time.Second)
			answers := crowd(w, 100, nil)
			if took := waitAll(answers); took != 0 {
				t.Errorf("they waited %v", took)
			}
			for _, a := range answers {
				a.Want(200, "page").WantHit().WantField("Age", "89")
			}
			w.Settle()
			w.WantCount(2)
			w.Advance(3 * time.Second)
			w.Get("/a").WantHit().WantField("Age", "3")
			w.WantCount(2)
		})
	})
	t.Run("hard expiry", func(t *testing.T) {
		sim.RunWith(t, soft, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Status: 304, Delay: 2 * time.Second})
			w.Get("/a").Want(200, "page")
			w.Advance(90 * time.Second)
			answers := crowd(w, 100, nil)
			if took := waitAll(answers); took != 2*time.Second {
				t.Errorf("they waited %v", took)
			}
			w.WantCount(2)
		})
	})
	for _, forbidding := range []string{"must-revalidate", "no-cache", "proxy-revalidate", "s-maxage=60"} {
		t.Run(forbidding, func(t *testing.T) {
			sim.RunWith(t, soft, func(w *sim.World) {
				w.Origin(keptPage("max-age=60, "+forbidding), sim.Reply{Status: 304, Delay: time.Second})
				w.Get("/a").Want(200, "page")
				w.Advance(61 * time.Second)
				start := time.Now()
				w.Get("/a").Want(200, "page").WantMiss("stale")
				if time.Since(start) != time.Second {
					t.Error("served before it was validated")
				}
			})
		})
	}
}

func TestCOL10_RaisingTheVersionRefreshesOncePerEntry(t *testing.T) {
	var mu sync.Mutex
	version := "1"
	raise := func(v string) { mu.Lock(); version = v; mu.Unlock() }
	sim.RunWith(t, func(c *engine.Config) {
		c.Version = func(*http.Request) string { mu.Lock(); defer mu.Unlock(); return version }
	}, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			if r.Header.Get("If-None-Match") != "" {
				return sim.Reply{Status: 304, Delay: time.Second}
			}
			return keptPage("max-age=6000")
		})
		const entries = 20
		for i := range entries {
			w.Get(fmt.Sprint("/", i)).Want(200, "page")
		}
		w.WantCount(entries)
		raise("2")
		w.Advance(time.Second)
		w.WantCount(entries) // nothing happens by itself
		for range 10 {
			for i := range entries / 2 { // those in use
				w.Get(fmt.Sprint("/", i)).Want(200, "page").WantHit()
			}
		}
		w.Settle()
		w.WantCount(entries + entries/2)
		w.Advance(2 * time.Second)
		for i := range entries / 2 {
			w.Get(fmt.Sprint("/", i)).Want(200, "page").WantHit()
		}
		w.Settle()
		w.WantCount(entries + entries/2)
	})
}

// What was asked for under the old version is of the old version, whenever it
// arrives.
func TestCOL10_AnAnswerIsOfTheVersionThatItWasAskedUnder(t *testing.T) {
	var mu sync.Mutex
	version := "1"
	sim.RunWith(t, func(c *engine.Config) {
		c.Version = func(*http.Request) string { mu.Lock(); defer mu.Unlock(); return version }
	}, func(w *sim.World) {
		slow := keptPage("max-age=6000")
		slow.Delay = 2 * time.Second
		w.Origin(slow)
		first := w.Start("GET", "/a", "")
		w.Advance(time.Second)
		mu.Lock()
		version = "2"
		mu.Unlock()
		first.Wait()
		w.Settle() // its fetch is over
		w.Get("/a").Want(200, "page").WantHit()
		w.Settle()
		w.WantCount(2) // refreshed
		w.Advance(3 * time.Second)
		w.Get("/a").Want(200, "page").WantHit()
		w.Settle()
		w.WantCount(2)
	})
}

func TestSTL02_InvalidationDuringAFetch(t *testing.T) {
	t.Run("of a missing page", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			n := make(chan string, 10)
			n <- "old"
			n <- "new"
			w.Handle(func(r *http.Request) sim.Reply {
				if r.Method == "POST" {
					return sim.Reply{Status: 204}
				}
				return sim.Reply{Header: minute.Header, Body: <-n, Delay: 2 * time.Second}
			})
			before := crowd(w, 10, nil)
			w.Advance(time.Second)
			w.Do("POST", "/a", "x").Want(204, "")
			after := crowd(w, 10, nil)
			waitAll(append(before, after...))
			for i := range 10 {
				before[i].Want(200, "old")
				after[i].Want(200, "new") // they did not join what was fetched before
			}
			w.Get("/a").Want(200, "new").WantHit()
			w.WantCount(3)
		})
	})
	t.Run("during its body", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			body := newTap()
			w.Handle(func(r *http.Request) sim.Reply {
				if r.Method == "POST" {
					return sim.Reply{Status: 204}
				}
				if w.Count() == 1 {
					return sim.Reply{Header: minute.Header, Stream: body}
				}
				return minute
			})
			before := crowd(w, 10, nil)
			w.Settle()
			body.pour("ol")
			w.Do("POST", "/a", "x").Want(204, "")
			w.Get("/a").Want(200, "page").WantMiss("uri-miss")
			body.pour("d")
			body.w.Close()
			waitAll(before)
			for _, a := range before {
				a.Want(200, "old")
			}
			w.Get("/a").Want(200, "page").WantHit()
			w.WantCount(3)
		})
	})
	t.Run("of a page that is being validated", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Handle(func(r *http.Request) sim.Reply {
				switch {
				case r.Method == "POST":
					return sim.Reply{Status: 204}
				case r.Header.Get("If-None-Match") != "":
					return sim.Reply{Status: 304, Delay: 2 * time.Second}
				case w.Count() == 1:
					return minute
				}
				return sim.Reply{Header: minute.Header, Body: "new"}
			})
			w.Get("/a").Want(200, "page")
			w.Advance(time.Minute)
			before := crowd(w, 10, nil)
			w.Advance(time.Second)
			w.Do("POST", "/a", "x").Want(204, "")
			w.Get("/a").Want(200, "new").WantMiss("uri-miss")
			waitAll(before)
			for _, a := range before {
				if a.Status != 200 || a.Aborted || a.Body() != "new" {
					t.Fatalf("status %d, body %q", a.Status, a.Body())
				}
			}
			w.Get("/a").Want(200, "new").WantHit()
		})
	})
}

func TestCOL06_CloseEndsWhatIsUnderWay(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		silent, talking, private := newTap(), newTap(), newTap()
		replies := map[string]sim.Reply{
			"/slow":    {Header: minute.Header, Body: "late", Delay: time.Hour},
			"/silent":  {Header: minute.Header, Stream: silent},
			"/talking": {Header: minute.Header, Stream: talking},
			"/private": {Header: []string{"Cache-Control: no-store"}, Stream: private},
		}
		w.Handle(func(r *http.Request) sim.Reply {
			if r.URL.Path == "/stale" {
				if r.Header.Get("If-None-Match") != "" {
					return sim.Reply{Status: 304, Delay: time.Hour}
				}
				return keptPage("max-age=1, stale-while-revalidate=60")
			}
			return replies[r.URL.Path]
		})
		w.Get("/stale").Want(200, "page")
		w.Advance(2 * time.Second)
		w.Get("/stale").Want(200, "page").WantHit()
		var answers []*sim.Answer
		for path := range replies {
			for range 3 {
				answers = append(answers, w.Start("GET", path, ""))
			}
		}
		w.Settle()
		talking.pour("some")
		w.Settle()
		start := time.Now()
		w.Engine.Close()
		waitAll(answers)
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		for _, a := range answers {
			if !a.Aborted && a.Status < 500 {
				t.Errorf("a whole answer: %d %q", a.Status, a.Body())
			}
		}
		for _, body := range []*tap{silent, talking, private} {
			if !body.isClosed() {
				t.Error("a body of the origin was left open")
			}
		}
	})
}

func TestCOL06_AClientAloneEndsItsOwnFetch(t *testing.T) {
	t.Run("before the head", func(t *testing.T) {
		sim.Run(t, func(w *sim.World) {
			w.Origin(sim.Reply{Delay: time.Hour})
			a := w.Start("GET", "/a", "", "Authorization: x")
			w.Settle()
			a.Leave()
			a.Wait()
			w.Settle()
			if w.Last().Context().Err() == nil {
				t.Error("the origin is still asked")
			}
		})
	})
	for name, reply := range map[string]sim.Reply{
		"for one client":      {Header: []string{"Cache-Control: no-store"}},
		"larger than is kept": {Header: minute.Header, Length: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				body := newTap()
				reply.Stream = body
				w.Origin(reply)
				a := w.Start("GET", "/a", "")
				w.Settle()
				body.pour("event")
				w.Settle()
				if a.Flushed() != "event" {
					t.Errorf("flushed %q", a.Flushed())
				}
				a.Leave() // while the origin says nothing
				a.Wait()
				w.Settle()
				if !body.isClosed() {
					t.Error("the origin goes on for nobody")
				}
			})
		})
	}
}

// alphabet is a body that ends only when it is closed.
type alphabet struct {
	mu     sync.Mutex
	sent   int64
	closed bool
}

func (e *alphabet) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, io.ErrClosedPipe
	}
	for i := range p {
		p[i] = byte('a' + (e.sent+int64(i))%23)
	}
	e.sent += int64(len(p))
	return len(p), nil
}

func (e *alphabet) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}

func (e *alphabet) ended() (sent int64, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent, e.closed
}

// smallStore keeps bodies of up to 64 KiB.
func smallStore(t *testing.T, configure func(c *engine.Config), body func(w *sim.World)) {
	t.Helper()
	s := memory.New(memory.Options{Budget: 1 << 20, MaxObject: 64 << 10})
	defer s.Close()
	sim.RunWith(t, func(c *engine.Config) {
		c.Store = s
		if configure != nil {
			configure(c)
		}
	}, body)
}

func TestSTO23_ABodyThatOutgrowsTheStoreReachesAllWhoCameInTime(t *testing.T) {
	smallStore(t, nil, func(w *sim.World) {
		whole := strings.Repeat("0123456789abcde\n", 8<<10) // 128 KiB
		body := newTap()
		w.Origin(sim.Reply{Header: minute.Header, Stream: body, Delay: time.Second}, sim.Reply{Header: minute.Header, Body: whole, Length: -1})
		early := crowd(w, 10, nil)
		w.Advance(time.Second)
		w.Settle()
		body.pour(whole[:100_000])
		w.Settle()
		late := crowd(w, 3, nil) // the beginning is gone
		waitAll(late)
		body.pour(whole[100_000:])
		body.w.Close()
		waitAll(early)
		for _, a := range append(early, late...) {
			a.Want(200, whole)
		}
		if w.Count() != 4 {
			t.Errorf("%d requests, want one and those of the late ones", w.Count())
		}
		w.Get("/a").Want(200, whole).WantMiss("uri-miss")
	})
}

func TestSTO23_ABodyKnownToBeTooLargeStreams(t *testing.T) {
	smallStore(t, nil, func(w *sim.World) {
		body := newTap()
		w.Origin(sim.Reply{Header: minute.Header, Stream: body, Length: 100_000}, sim.Reply{Header: minute.Header, Body: strings.Repeat("x", 100_000)})
		a := w.Start("GET", "/a", "")
		w.Settle()
		body.pour("first")
		w.Settle()
		if a.Flushed() != "first" {
			t.Errorf("flushed %d octets", len(a.Flushed()))
		}
		w.Get("/a").Want(200, strings.Repeat("x", 100_000)).WantMiss("uri-miss") // nobody waits for it
		body.pour(strings.Repeat("y", 99_995))
		body.w.Close()
		a.Wait()
		a.Want(200, "first"+strings.Repeat("y", 99_995)).WantField("Content-Length", "100000")
	})
}

func TestSTO23_AnEndlessBodyEndsWithItsClients(t *testing.T) {
	smallStore(t, nil, func(w *sim.World) {
		body := &alphabet{}
		w.Origin(sim.Reply{Header: minute.Header, Stream: body})
		gate := newGate()
		gate.ask(w)
		w.Settle()
		if sent, closed := body.ended(); closed || sent > 2<<20 {
			t.Fatalf("the origin has sent %d octets to a client that takes none", sent)
		}
		gate.leave()
		w.Settle()
		if _, closed := body.ended(); !closed {
			t.Error("the origin goes on for nobody")
		}
	})
}

func TestSTO23_CloseDoesNotWaitForAStuckClient(t *testing.T) {
	smallStore(t, nil, func(w *sim.World) {
		body := &alphabet{}
		w.Origin(sim.Reply{Header: minute.Header, Stream: body})
		gate := newGate()
		ended := gate.ask(w)
		w.Settle()
		w.Engine.Close()
		if _, closed := body.ended(); !closed {
			t.Error("the origin was left open")
		}
		gate.open()
		if p := <-ended; p != http.ErrAbortHandler {
			t.Errorf("the transfer ended with %v, not broken off", p)
		}
	})
}

// One client that takes nothing holds up the others for so long, and not for
// ever; then it is the one to go.
func TestSTO23_AStuckClientIsCutOff(t *testing.T) {
	smallStore(t, nil, func(w *sim.World) {
		const size = 8 << 20
		body := newTap()
		w.Origin(sim.Reply{Header: minute.Header, Stream: body})
		gate := newGate()
		cut := gate.ask(w)
		w.Settle()
		others := crowd(w, 5, nil)
		w.Settle()
		go func() {
			_, _ = io.Copy(body.w, io.LimitReader(&alphabet{}, size))
			body.w.Close()
		}()
		w.Advance(2 * time.Second)
		w.Settle()
		for _, a := range others {
			if a.Done() || len(a.Body()) > 3<<20 {
				t.Fatalf("%d octets, done %v, while one client takes none", len(a.Body()), a.Done())
			}
		}
		if took := waitAll(others); took > 15*time.Second {
			t.Errorf("it held the others up for %v", took)
		}
		for _, a := range others {
			if a.Aborted || len(a.Body()) != size {
				t.Fatalf("%d octets, aborted %v", len(a.Body()), a.Aborted)
			}
		}
		gate.open()
		if p := <-cut; p != http.ErrAbortHandler {
			t.Errorf("the stuck client's transfer ended with %v, not broken off", p)
		}
		if n := gate.taken(); n >= size {
			t.Errorf("the stuck client got %d octets", n)
		}
	})
}

// The range of a body that outgrows the store on the way begins where it was
// asked for.
func TestSTO23_RangesOfABodyThatOutgrowsTheStore(t *testing.T) {
	s := memory.New(memory.Options{Budget: 4 << 20, MaxObject: 3 << 20})
	defer s.Close()
	sim.RunWith(t, func(c *engine.Config) { c.Store = s }, func(w *sim.World) {
		var text strings.Builder
		for i := range 300_000 {
			fmt.Fprintf(&text, "%09d\n", i)
		}
		whole := text.String()
		body, hog := newTap(), newTap()
		w.Handle(func(r *http.Request) sim.Reply {
			if r.URL.Path == "/hog" {
				return sim.Reply{Header: minute.Header, Stream: hog}
			}
			return sim.Reply{Header: minute.Header, Stream: body, Length: int64(len(whole))}
		})
		first := w.Start("GET", "/a", "")
		w.Settle()
		body.pour(whole[:30_000])
		w.Settle()
		ranges := map[string]*sim.Answer{}
		for _, r := range []string{"0-9", "500000-1999999", "2000000-2000009", "2999990-", "1048575-1048576"} {
			ranges[r] = w.Start("GET", "/a", "", "Range: bytes="+r)
		}
		other := w.Start("GET", "/hog", "")
		w.Settle()
		hog.pour(strings.Repeat("h", 2_200_000)) // now there is no room
		w.Settle()
		body.pour(whole[30_000:])
		body.w.Close()
		hog.w.Close()
		first.Wait()
		other.Wait()
		first.Want(200, whole)
		target := canon.Target{Scheme: "http", Host: sim.Host, Path: "/a"}
		if entries, err := s.Lookup(t.Context(), target.AppendKey(nil, ""), nil); err != nil || len(entries) > 0 {
			t.Errorf("%d entries, %v: it has not outgrown the store", len(entries), err)
		}
		for r, a := range ranges {
			a.Wait()
			from, to := 0, len(whole)-1
			_, _ = fmt.Sscanf(r, "%d-%d", &from, &to)
			a.Want(206, whole[from:to+1])
		}
	})
}

func TestPOL19_CollapseOff(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms = rules.Terms{NoCollapse: true} }, func(w *sim.World) {
		slow := minute
		slow.Delay = time.Second
		w.Origin(slow)
		waitAll(crowd(w, 10, nil))
		w.WantCount(10)
	})
}

// A pausing store holds up the one who looks something up after pause was set,
// once the answer is known.
type pausing struct {
	store.Store
	pause atomic.Pointer[chan struct{}]
}

func (p *pausing) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	entries, err := p.Store.Lookup(ctx, key, into)
	if c := p.pause.Swap(nil); c != nil {
		<-*c
	}
	return entries, err
}

// Whoever is slow between looking up and joining finds what has arrived since.
func TestCOL01_NobodyFetchesWhatHasJustArrived(t *testing.T) {
	for _, c := range []struct {
		name, directives string
		age              time.Duration // 0: nothing is stored yet
	}{
		{"missing", "max-age=60", 0},
		{"stale", "max-age=60", time.Minute},
		{"stale while it is validated", "max-age=60, stale-while-revalidate=60", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pausing{}
			sim.RunWith(t, func(conf *engine.Config) { p.Store = conf.Store; conf.Store = p }, func(w *sim.World) {
				w.Origin(keptPage(c.directives), sim.Reply{Status: 304})
				before := 0
				if c.age > 0 {
					w.Get("/a").Want(200, "page")
					w.Advance(c.age)
					before = 1
				}
				hold := make(chan struct{})
				p.pause.Store(&hold)
				slow := w.Start("GET", "/a", "")
				w.Settle()
				w.Get("/a").Want(200, "page")
				w.Settle()
				w.WantCount(before + 1)
				close(hold)
				slow.Wait()
				slow.Want(200, "page").WantHit()
				w.Settle()
				w.WantCount(before + 1)
			})
		})
	}
}
