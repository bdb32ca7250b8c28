package engine_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

var errRotten = errors.New("a block does not check")

// A rotten store cannot read past an offset of any body.
type rotten struct {
	store.Store
	from int64
}

func (s *rotten) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	r, err := s.Store.Open(ctx, key, id, off, n)
	if err != nil || n == 0 {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, max(s.from-off, 0)), broken{}), r}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errRotten }

// ranging is an origin that has body under tag, and serves one range of it if
// it knows ranges at all.
func ranging(body, tag string, ranges bool) func(*http.Request) sim.Reply {
	return func(r *http.Request) sim.Reply {
		kept := []string{"Cache-Control: max-age=60", "ETag: " + tag}
		if !ranges || r.Header.Get("Range") == "" || r.Header.Get("If-Range") != tag {
			return sim.Reply{Header: kept, Body: body}
		}
		var first, last int
		for i, at := range []*int{&first, &last} {
			for _, c := range strings.Split(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")[i] {
				*at = *at*10 + int(c-'0')
			}
		}
		if last == 0 {
			last = len(body) - 1
		}
		p := part(first, last)
		p.Header = append([]string{}, kept...)
		p.Header = append(p.Header, part(first, last).Header...)
		p.Body = body[first : last+1]
		return p
	}
}

func TestSTO29_WhatTheStoreLosesMidwayComesFromTheOrigin(t *testing.T) {
	const page = "0123456789"
	for _, c := range []struct {
		name    string
		ranges  bool
		request []string
		status  int
		want    string
	}{
		{"the whole", true, nil, 200, page},
		{"the whole, no ranges", false, nil, 200, page},
		{"a range", true, []string{"Range: bytes=2-8"}, 206, "2345678"},
		{"a range, no ranges at the origin", false, []string{"Range: bytes=2-8"}, 206, "2345678"},
		{"a range that is lost from its beginning", true, []string{"Range: bytes=7-8"}, 206, "78"},
		{"a range that is not lost", true, []string{"Range: bytes=1-3"}, 206, "123"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Store = &rotten{conf.Store, 4} }, func(w *sim.World) {
				w.Handle(ranging(page, `"1"`, c.ranges))
				w.Get("/a").Want(200, page)
				w.Settle()
				a := w.Get("/a", c.request...)
				if a.Want(c.status, c.want); a.Aborted {
					t.Error("the transfer was broken off")
				}
			})
		})
	}
	t.Run("several ranges", func(t *testing.T) {
		sim.RunWith(t, func(conf *engine.Config) { conf.Store = &rotten{conf.Store, 4} }, func(w *sim.World) {
			w.Handle(ranging(page, `"1"`, true))
			w.Get("/a").Want(200, page)
			w.Settle()
			a := w.Get("/a", "Range: bytes=1-5,7-9")
			if body := a.Body(); a.Aborted || !strings.Contains(body, "\r\n\r\n12345\r\n") || !strings.Contains(body, "\r\n\r\n789\r\n") {
				t.Errorf("aborted %t: %q", a.Aborted, body)
			}
		})
	})
}

// Octets of two contents are never mixed: without proof that they are the same
// the transfer breaks, and the next request gets the new content.
func TestSTO29_NothingIsMendedOnSuspicion(t *testing.T) {
	const page = "0123456789"
	for _, c := range []struct {
		name, tag string
		after     func(*http.Request) sim.Reply
	}{
		{"another tag", `"1"`, ranging("abcdefghij", `"2"`, true)},
		{"a weak tag", `W/"1"`, ranging("abcdefghij", `W/"1"`, true)},
		{"no tag", "", ranging("abcdefghij", "", true)},
		{"an error", `"1"`, func(*http.Request) sim.Reply { return sim.Reply{Status: 500} }},
		{"another part", `"1"`, func(r *http.Request) sim.Reply {
			if r.Header.Get("Range") == "" {
				return ranging("abcdefghij", `"2"`, true)(r)
			}
			return part(3, 8, `ETag: "1"`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s *rotten
			sim.RunWith(t, func(conf *engine.Config) { s = &rotten{conf.Store, 4}; conf.Store = s }, func(w *sim.World) {
				w.Handle(ranging(page, c.tag, true))
				w.Get("/a").Want(200, page)
				w.Settle()
				w.Handle(c.after)
				if a := w.Get("/a"); !a.Aborted || !strings.HasPrefix(page, a.Body()) {
					t.Errorf("status %d, aborted %t: %q", a.Status, a.Aborted, a.Body())
				}
				s.from = 1 << 20
				if a := w.Get("/a"); a.Hit() {
					t.Error("what could not be read is tried again")
				}
			})
		})
	}
}

// A leaky store cannot give back what lies past an offset of a body that is being
// written, and keeps only so much of it.
type leaky struct {
	store.Store
	from, room int64
}

func (s *leaky) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	w, err := s.Store.Create(ctx, key, head, size)
	return &leakyWriter{Writer: w, store: s}, err
}

type leakyWriter struct {
	store.Writer
	store *leaky
	size  int64
}

func (w *leakyWriter) Write(p []byte) (int, error) {
	if w.size += int64(len(p)); w.store.room > 0 && w.size > w.store.room {
		return 0, errRotten
	}
	return w.Writer.Write(p)
}

func (w *leakyWriter) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	r, err := w.Writer.Open(ctx, off)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, max(w.store.from-off, 0)), broken{}), r}, nil
}

// inHalves is an origin whose first answer comes in two halves, the second when the
// test says so. What it answers then is up to after.
func inHalves(page, tag string, declared bool, after func(*http.Request) sim.Reply) (handle func(*http.Request) sim.Reply, second func()) {
	r, w := io.Pipe()
	begun := false
	handle = func(req *http.Request) sim.Reply {
		if begun {
			return after(req)
		}
		begun = true
		go io.WriteString(w, page[:len(page)/2])
		reply := ranging("", tag, false)(req)
		if reply.Stream = r; declared {
			reply.Length = int64(len(page))
		}
		return reply
	}
	return handle, func() {
		_, _ = io.WriteString(w, page[len(page)/2:]) // nobody may be left to read it
		w.Close()
	}
}

// A miss does not suffer from a store that loses what it has just been given:
// neither who caused the fetch nor who waits for it.
func TestSTO29_WhatTheStoreLosesOfAMissComesFromTheOrigin(t *testing.T) {
	const page = "0123456789"
	for _, c := range []struct {
		name             string
		declared, ranges bool
		room             int64
		request          []string
		want             string
	}{
		{"the whole", true, true, 0, nil, page},
		{"of unknown length", false, true, 0, nil, page},
		{"no ranges at the origin", true, false, 0, nil, page},
		{"of unknown length, no ranges", false, false, 0, nil, page},
		{"a range", true, true, 0, []string{"Range: bytes=1-8"}, "12345678"},
		{"a range that is lost from its beginning", true, true, 0, []string{"Range: bytes=7-8"}, "78"},
		{"a store that also stops writing", true, true, 6, nil, page},
		{"a store that also stops writing, of unknown length", false, true, 6, nil, page},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Store = &leaky{conf.Store, 4, c.room} }, func(w *sim.World) {
				handle, second := inHalves(page, `"1"`, c.declared, ranging(page, `"1"`, c.ranges))
				w.Handle(handle)
				leader := w.Start("GET", "/a", "")
				w.Settle()
				follower := w.Start("GET", "/a", "", c.request...)
				w.Settle()
				second()
				leader.Wait()
				follower.Wait()
				for _, a := range []*sim.Answer{leader, follower} {
					if a.Aborted {
						t.Error("the transfer was broken off")
					}
				}
				leader.Want(200, page)
				follower.Want(follower.Status, c.want)
			})
		})
	}
}

// Nothing is added to a body on suspicion, and what the origin itself breaks off
// is not asked for again.
func TestSTO29_AMissIsNotMendedOnSuspicion(t *testing.T) {
	const page = "0123456789"
	for _, c := range []struct {
		name, tag string
		after     func(*http.Request) sim.Reply
	}{
		{"another tag", `"1"`, ranging("abcdefghij", `"2"`, true)},
		{"a weak tag", `W/"1"`, ranging("abcdefghij", `W/"1"`, true)},
		{"no tag", "", ranging("abcdefghij", "", true)},
		{"an error", `"1"`, func(*http.Request) sim.Reply { return sim.Reply{Status: 500} }},
		{"another part", `"1"`, func(*http.Request) sim.Reply { return part(3, 8, `ETag: "1"`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.RunWith(t, func(conf *engine.Config) { conf.Store = &leaky{conf.Store, 4, 0} }, func(w *sim.World) {
				handle, second := inHalves(page, c.tag, true, c.after)
				w.Handle(handle)
				a := w.Start("GET", "/a", "")
				w.Settle()
				second()
				a.Wait()
				if !a.Aborted || !strings.HasPrefix(page, a.Body()) {
					t.Errorf("status %d, aborted %t: %q", a.Status, a.Aborted, a.Body())
				}
			})
		})
	}
	sim.Run(t, func(w *sim.World) {
		reply := ranging(page, `"1"`, true)(&http.Request{})
		reply.Length, reply.BodyErr = 20, errors.New("reset")
		w.Origin(reply)
		if a := w.Get("/a"); !a.Aborted {
			t.Error("a body that the origin broke off is whole")
		}
		w.WantCount(1)
	})
}
