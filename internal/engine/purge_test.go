package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

func purgeNow(t *testing.T, w *sim.World, mode purge.Mode, s purge.Selector) purge.Receipt {
	t.Helper()
	r, err := w.Engine.Purge(context.Background(), purge.Order{Selectors: []purge.Selector{s}, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// carryOut has the walker come by, and the purges leave the ledger.
func carryOut(t *testing.T, w *sim.World) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Engine.Ledger.Tend(ctx, w.Engine)
	}()
	w.Settle()
	cancel()
	<-done
	for _, r := range w.Engine.Ledger.Receipts() {
		if r.State == purge.InForce {
			t.Fatalf("purge %s is still in force", r.ID)
		}
	}
}

// A 304 that was asked for before a purge may take away the tag by which what it confirms
// was purged. Whoever comes later gets none of it.
func TestPRG05_TagsThatA304TakesAway(t *testing.T) {
	for _, mode := range []purge.Mode{purge.Refetch, purge.Refresh} {
		for _, walks := range []bool{false, true} {
			sim.Run(t, func(w *sim.World) {
				old := sim.Reply{Header: []string{"Cache-Control: max-age=10", `ETag: "1"`, "Cache-Tag: red"}, Body: "old"}
				confirmed := sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Cache-Tag: blue"}, Delay: 2 * time.Second}
				w.Origin(old, confirmed, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`, "Cache-Tag: blue"}, Body: "new"})
				w.Get("/a").Want(200, "old")
				w.Advance(20 * time.Second)
				first := w.Start("GET", "/a", "")
				w.Advance(time.Second)
				purgeNow(t, w, mode, purge.Selector{Tag: "red"})
				later := w.Start("GET", "/a", "")
				if walks {
					go func() { _ = w.Engine.Walk(context.Background()) }()
				}
				w.Advance(5 * time.Second)
				first.Wait() // it had begun, and may get either
				later.Wait()
				if mode == purge.Refetch {
					later.Want(200, "new")
				}
				carryOut(t, w)
				w.Get("/a")
				w.Settle()
				w.Get("/a").Want(200, "new").WantHit()
				if n := w.Count(); n > 4 { // the first may find it gone, and ask once more
					t.Errorf("%d requests reached the origin", n)
				}
			})
		}
	}
}

// A download that began before a soft purge does not take the place of what was fetched
// after it.
func TestPRG05_AnOldDownloadDoesNotReplaceARefresh(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		page := func(n int, delay time.Duration) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", fmt.Sprintf(`ETag: "%d"`, n), "Cache-Tag: red"}, Body: fmt.Sprint("page ", n), Delay: delay}
		}
		w.Origin(page(1, 20*time.Second), page(2, 0))
		first := w.Start("GET", "/a", "")
		w.Settle()
		purgeNow(t, w, purge.Refresh, purge.Selector{Tag: "red"})
		w.Get("/a").Want(200, "page 2") // which has waited for the first for a while
		w.Advance(20 * time.Second)
		first.Wait()
		first.Want(200, "page 1")
		carryOut(t, w)
		w.Get("/a").Want(200, "page 2").WantHit()
		w.WantCount(2)
	})
}

// Who asks after a soft purge is not told that a fetch from before it is the refresh.
func TestPRG04_AFetchFromBeforeIsNoRefresh(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		n := 0
		w.Handle(func(*http.Request) sim.Reply {
			n++
			reply := sim.Reply{Header: []string{"Cache-Control: max-age=10, stale-while-revalidate=1000", "Cache-Tag: red"}, Body: fmt.Sprint("page ", n)}
			if n == 2 {
				reply.Delay = time.Minute
			}
			return reply
		})
		w.Get("/a").Want(200, "page 1")
		w.Advance(20 * time.Second)
		w.Get("/a").Want(200, "page 1") // which begins a refresh that takes long
		w.Settle()
		purgeNow(t, w, purge.Refresh, purge.Selector{Tag: "red"})
		w.Get("/a").Want(200, "page 1")
		w.Settle()
		w.WantCount(3)
		w.Get("/a").Want(200, "page 3").WantHit()
		w.Advance(2 * time.Minute) // the slow one comes, and is older
		w.Settle()
		w.Get("/a").Want(200, "page 3")
	})
}

// What a soft purge has made stale is as fresh as it was when that is undone: before a walker
// has come by, after that, and after a restart.
func TestUndoMakesFreshAgain(t *testing.T) {
	for _, when := range []string{"at once", "walked", "restarted", "undone before the restart"} {
		t.Run(when, func(t *testing.T) {
			folder := &vfs.Mem{}
			ledger := func() *purge.Ledger {
				j, err := purge.OpenJournal([]purge.Folder{{FS: folder, Name: "mem"}}, func(note string) { t.Error(note) })
				if err != nil {
					t.Fatal(err)
				}
				return purge.New(purge.Options{Journal: j})
			}
			sim.RunWith(t, func(c *engine.Config) { c.Ledger = ledger() }, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Cache-Tag: red"}, Body: "page"})
				restart := func() {
					if err := w.Engine.Ledger.Close(); err != nil {
						t.Fatal(err)
					}
					w.Engine.Close()
					c := w.Engine.Config
					c.Ledger = ledger()
					w.Engine = engine.New(c)
				}
				undo := func(id purge.ID) {
					if _, err := w.Engine.Ledger.Undo(id); err != nil {
						t.Fatal(err)
					}
				}
				w.Get("/a").Want(200, "page")
				r := purgeNow(t, w, purge.Refresh, purge.Selector{Tag: "red"})
				switch when {
				case "at once":
					undo(r.ID)
				case "walked":
					carryOut(t, w)
					undo(r.ID)
				case "restarted":
					carryOut(t, w)
					restart()
					undo(r.ID)
				default:
					carryOut(t, w)
					undo(r.ID)
					restart()
				}
				w.Get("/a").Want(200, "page").WantHit()
				w.Settle()
				w.WantCount(1)
				w.Engine.Close()
			})
		})
	}
}

// A HEAD that was asked before a purge says nothing of what was fetched after it.
func TestPRG05_AHeadFromBeforeUpdatesNothing(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		head := sim.Reply{Header: []string{"Cache-Control: max-age=3600", `ETag: "1"`, "X-Price: 1"}, Length: 4, Delay: time.Second}
		w.Origin(head, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "X-Price: 2"}, Body: "page"})
		h := w.Start("HEAD", "/a", "")
		w.Settle()
		purgeNow(t, w, purge.Refetch, purge.Selector{All: true})
		w.Get("/a").Want(200, "page")
		w.Advance(2 * time.Second)
		h.Wait()
		h.Want(200, "")
		w.Get("/a").Want(200, "page").WantHit().WantField("X-Price", "2")
	})
}

// A hooked store has the test do something at a certain moment.
type hooked struct {
	store.Store
	lookedUp func() // after a Lookup
	visit    func() // before an entry is shown
}

func (h *hooked) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	into, err := h.Store.Lookup(ctx, key, into)
	if do := h.lookedUp; do != nil {
		h.lookedUp = nil
		do()
	}
	return into, err
}

func (h *hooked) Walk(ctx context.Context, visit func(store.Key, store.Entry, []byte) bool) error {
	return h.Store.(store.Walker).Walk(ctx, func(key store.Key, e store.Entry, head []byte) bool {
		if do := h.visit; do != nil {
			h.visit = nil
			do()
		}
		return visit(key, e, head)
	})
}

// runHooked is sim.Run with a hooked store.
func runHooked(t *testing.T, body func(w *sim.World, h *hooked)) {
	t.Helper()
	h := &hooked{}
	sim.RunWith(t, func(c *engine.Config) {
		h.Store = c.Store
		c.Store = h
	}, func(w *sim.World) { body(w, h) })
}

// A purge that comes when something was looked up, and is about to be validated, comes
// before the validation: which must not bring it back.
func TestPRG05_AValidationBringsNothingBack(t *testing.T) {
	runHooked(t, func(w *sim.World, h *hooked) {
		old := sim.Reply{Header: []string{"Cache-Control: max-age=10", `ETag: "1"`, "Cache-Tag: red"}, Body: "old"}
		same := old
		same.Body = "new"
		w.Handle(func(r *http.Request) sim.Reply {
			switch {
			case r.Header.Get("If-None-Match") != "":
				return sim.Reply{Status: 304, Header: old.Header}
			case w.Count() > 1:
				return same
			}
			return old
		})
		w.Get("/a").Want(200, "old")
		w.Advance(20 * time.Second)
		h.lookedUp = func() { // the first time, to decide
			h.lookedUp = func() { // and once more, when it leads the others
				purgeNow(t, w, purge.Refetch, purge.Selector{Tag: "red"})
			}
		}
		w.Get("/a")
		w.Get("/a").Want(200, "new")
		carryOut(t, w)
		w.Get("/a").Want(200, "new").WantHit()
	})
}

// Who has looked up what a walker marks then, and looks for the purge when that has left the
// ledger, does not take it for fresh.
func TestPRG05_APurgeThatLeavesMeanwhile(t *testing.T) {
	for _, mode := range []purge.Mode{purge.Refetch, purge.Refresh} {
		runHooked(t, func(w *sim.World, h *hooked) {
			page := func(n int) sim.Reply {
				return sim.Reply{Header: []string{"Cache-Control: max-age=60", "Cache-Tag: red"}, Body: fmt.Sprint("page ", n)}
			}
			w.Origin(page(1), page(2))
			w.Get("/a").Want(200, "page 1")
			w.Get("/a").WantHit() // and it is remembered
			purgeNow(t, w, mode, purge.Selector{Tag: "red"})
			h.lookedUp = func() { carryOut(t, w) }
			a := w.Get("/a")
			w.Settle()
			if w.WantCount(2); mode == purge.Refetch {
				a.Want(200, "page 2")
			}
			w.Get("/a").Want(200, "page 2").WantHit()
		})
	}
}

// What was refreshed while the walker was on its way stays fresh.
func TestPRG04_TheWalkerLeavesARefreshAlone(t *testing.T) {
	runHooked(t, func(w *sim.World, h *hooked) {
		page := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Cache-Tag: red"}, Body: "page"}
		w.Origin(page, sim.Reply{Status: 304, Header: page.Header})
		w.Get("/a").Want(200, "page")
		purgeNow(t, w, purge.Refresh, purge.Selector{Tag: "red"})
		h.visit = func() {
			w.Get("/a").Want(200, "page")
			for w.Count() < 2 || len(w.Events()) < 2 {
				w.Advance(time.Millisecond)
			}
			w.Advance(time.Second) // the refresh lands
		}
		if err := w.Engine.Walk(context.Background()); err != nil {
			t.Fatal(err)
		}
		carryOut(t, w)
		w.Get("/a").Want(200, "page").WantHit()
		w.Settle()
		w.WantCount(2)
	})
}

// A part of before a purge, which the walker has not seen yet, is not joined with one of
// after it.
func TestPRG05_PartsOfBeforeAreNotJoined(t *testing.T) {
	for _, mode := range []purge.Mode{purge.Refetch, purge.Refresh} {
		sim.Run(t, func(w *sim.World) {
			w.Handle(tenDigits.serve)
			fetched(w, "0-2")
			purgeNow(t, w, mode, purge.Selector{All: true})
			w.Handle(file{body: "ABCDEFGHIJ", header: tenDigits.header}.serve) // under the same tag
			wantPart(t, fetched(w, "3-5"), "DEF", 3, 5, "10")
			w.Settle()
			fetched(w, "0-5")
			w.Settle()
			wantPart(t, fetched(w, "0-5"), "ABCDEF", 0, 5, "10")
			carryOut(t, w)
			wantPart(t, fetched(w, "0-5"), "ABCDEF", 0, 5, "10")
		})
	}
}

// Who comes after a purge of a URL does not wait for a fetch from before it.
func TestPRG05_NobodyWaitsForWhatWouldNotDo(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Delay, slow.Body = time.Hour, "slow"
		w.Origin(slow, minute)
		first := w.Start("GET", "/a", "")
		w.Settle()
		start := time.Now()
		purgeNow(t, w, purge.Refetch, purge.Selector{URL: "//" + sim.Host + "/a"})
		w.Get("/a").Want(200, "page")
		if took := time.Since(start); took > 0 {
			t.Errorf("it waited %v", took)
		}
		first.Wait()
		first.Want(200, "slow")
		w.Get("/a").WantMiss("stale") // an hour later
	})
}

// What is on its way and will not be kept, such as an answer without an end to a POST, does not
// keep purges in the ledger; nor does a POST whose content is still to come.
func TestPurgesDoNotWaitForWhatIsNotKept(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "GET"} {
		sim.Run(t, func(w *sim.World) {
			w.Handle(func(r *http.Request) sim.Reply {
				if r.URL.Path == "/late" {
					return sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page", Delay: time.Hour}
				}
				body, _ := io.Pipe() // which nobody ends
				return sim.Reply{Header: []string{"Cache-Control: no-store"}, Stream: body}
			})
			ctx, leave := context.WithCancel(context.Background())
			endless := w.Send(sim.Request(method, "/endless", "").WithContext(ctx))
			w.Settle()
			late := w.Start("POST", "/late", "content")
			w.Settle()
			purgeNow(t, w, purge.Refetch, purge.Selector{Tag: "red"})
			carryOut(t, w)
			leave()
			endless.Wait()
			late.Wait()
		})
	}
}

// A dozing store is as slow as can be, two seconds after its beginning: what it found may
// have changed by the time it says so.
type dozing struct {
	store.Store
	began time.Time
	dozed *atomic.Bool
}

func (d dozing) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	found, err := d.Store.Lookup(ctx, key, into)
	if time.Since(d.began) == 2*time.Second && !d.dozed.Swap(true) {
		time.Sleep(time.Second)
	}
	return found, err
}

func (d dozing) Walk(ctx context.Context, visit func(store.Key, store.Entry, []byte) bool) error {
	return d.Store.(store.Walker).Walk(ctx, visit)
}

// Of two refreshes of what was purged twice the one that was asked for last is kept, also if
// the other one is just about to be.
func TestPRG05_RefreshesOvertake(t *testing.T) {
	configure := func(c *engine.Config) { c.Store = dozing{c.Store, time.Now(), new(atomic.Bool)} }
	sim.RunWith(t, configure, func(w *sim.World) {
		reply := func(body string, delay time.Duration) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "` + body + `"`}, Body: body, Delay: delay}
		}
		w.Origin(reply("old", 0), reply("first", 2*time.Second), reply("second", 1200*time.Millisecond))
		w.Get("/a").Want(200, "old")
		for range 2 {
			purgeNow(t, w, purge.Refresh, purge.Selector{All: true})
			w.Get("/a").Want(200, "old")
			w.Advance(time.Second)
		}
		w.Advance(5 * time.Second) // "first" is about to be kept from 2 s to 3 s, and "second" comes in between
		w.Get("/a").Want(200, "second")
		w.WantCount(3)
	})
}

// What an unsafe request puts in doubt stays so, also if the walker comes by at that moment.
func TestPRG05_WalkerOvertakesDoubt(t *testing.T) {
	configure := func(c *engine.Config) { c.Store = dozing{c.Store, time.Now(), new(atomic.Bool)} }
	sim.RunWith(t, configure, func(w *sim.World) {
		reply := func(body string) sim.Reply {
			return sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "` + body + `"`}, Body: body}
		}
		w.Origin(reply("old"), sim.Reply{Err: errors.New("gone")}, reply("new"))
		w.Get("/a").Want(200, "old")
		purgeNow(t, w, purge.Refresh, purge.Selector{All: true})
		w.Advance(2 * time.Second)
		walked := make(chan error, 1)
		go func() { walked <- w.Engine.Walk(context.Background()) }()
		w.Settle() // it has found the entry, and is about to mark it
		posted := w.Start("POST", "/a", "x")
		w.Advance(2 * time.Second)
		posted.Wait()
		if err := <-walked; err != nil {
			t.Error(err)
		}
		w.Get("/a").Want(200, "new")
	})
}
