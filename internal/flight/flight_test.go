package flight_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/larderhq/larder/internal/flight"
)

type group = flight.Group[string]

var key = []byte("/a")

func wantLen(t *testing.T, g *group, n int) {
	t.Helper()
	if got := g.Len(); got != n {
		t.Fatalf("%d flights are under way, want %d", got, n)
	}
}

func TestJoinsTheFlightOfItsLane(t *testing.T) {
	var g group
	f, leader := g.Join(key, "en")
	if !leader || !f.Shared() {
		t.Fatal("the first does not lead, or leads alone")
	}
	if again, leader := g.Join([]byte("/a"), "en"); leader || again != f {
		t.Error("the second of the lane does not join the first")
	}
	if other, leader := g.Join(key, "de"); !leader || other == f {
		t.Error("another lane joined")
	}
	if other, leader := g.Join([]byte("/b"), "en"); !leader || other == f {
		t.Error("another key joined")
	}
	if g.Active(key, "en") != f || g.Active(key, "fr") != nil || g.Active([]byte("/c"), "en") != nil {
		t.Error("Active found another flight than Join")
	}
	wantLen(t, &g, 3)
}

func TestNobodyJoinsAlone(t *testing.T) {
	var g group
	alone := g.Alone(key)
	if alone.Shared() || g.Active(key, "") != nil {
		t.Error("a flight alone is shared")
	}
	f, leader := g.Join(key, "")
	if !leader || f == alone {
		t.Error("somebody joined a flight alone")
	}
	if g.Alone(key) == alone {
		t.Error("two that want to be alone are together")
	}
	wantLen(t, &g, 3)
}

func TestEveryoneGetsTheResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		f, _ := g.Join(key, "")
		var got atomic.Int64
		for range 100 {
			go func() {
				f, leader := g.Join(key, "")
				if leader {
					t.Error("a second leader")
				}
				<-f.Landed()
				if f.Result() == "done" {
					got.Add(1)
				}
			}()
		}
		synctest.Wait()
		if got.Load() != 0 {
			t.Fatal("a result before the landing")
		}
		f.Land("done")
		synctest.Wait()
		if got.Load() != 100 {
			t.Errorf("%d got the result", got.Load())
		}
		// Landed, and still under way: a latecomer joins.
		if late, leader := g.Join(key, ""); leader || late.Result() != "done" {
			t.Error("a latecomer did not join")
		}
		f.End()
		wantLen(t, &g, 0)
		if _, leader := g.Join(key, ""); !leader {
			t.Error("joined a flight that has ended")
		}
	})
}

func TestEndTakesOutItsOwnFlightOnly(t *testing.T) {
	var g group
	a, _ := g.Join(key, "a")
	b, _ := g.Join(key, "b")
	c := g.Alone(key)
	b.End()
	b.End()
	wantLen(t, &g, 2)
	if g.Active(key, "a") != a || g.Active(key, "b") != nil {
		t.Error("the wrong flight ended")
	}
	c.End()
	a.End()
	wantLen(t, &g, 0)
}

func TestForgottenFlightsCommitNothing(t *testing.T) {
	var g group
	shared, _ := g.Join(key, "a")
	alone := g.Alone(key)
	other, _ := g.Join([]byte("/b"), "a")
	g.Forget(key, nil)
	wantLen(t, &g, 1)
	for _, f := range []*flight.Flight[string]{shared, alone} {
		if f.Commit(func() { t.Error("kept") }) {
			t.Error("a forgotten flight committed")
		}
	}
	kept := false
	if !other.Commit(func() { kept = true }) || !kept {
		t.Error("another key was forgotten as well")
	}
	// Those who wait still get their answer; who comes later does not.
	shared.Land("old")
	if <-shared.Landed(); shared.Result() != "old" {
		t.Error("no answer")
	}
	later, leader := g.Join(key, "a")
	if !leader || later == shared {
		t.Fatal("joined a forgotten flight")
	}
	shared.End() // which is not in the group any more
	if g.Active(key, "a") != later {
		t.Error("the end of a forgotten flight ended its successor")
	}
	if !later.Commit(func() {}) {
		t.Error("the successor is forgotten, too")
	}
}

func TestForgetAgain(t *testing.T) {
	var g group
	g.Forget(key, nil)
	f, _ := g.Join(key, "")
	if !f.Commit(func() {}) {
		t.Error("a flight that began after Forget may not commit")
	}
	g.Forget(key, nil)
	g.Forget(key, nil)
	if f.Commit(func() {}) {
		t.Error("committed")
	}
}

// Once Forget returns, a commit that had begun is over, so that whoever removes
// then removes what it kept.
func TestForgetWaitsForACommitUnderWay(t *testing.T) {
	var g group
	f, _ := g.Join(key, "")
	started, release := make(chan struct{}), make(chan struct{})
	var kept atomic.Bool
	go f.Commit(func() {
		close(started)
		<-release
		kept.Store(true)
	})
	<-started
	forgotten := make(chan bool)
	go func() {
		g.Forget(key, nil)
		forgotten <- kept.Load()
	}()
	for g.Len() > 0 { // Forget has begun
		runtime.Gosched()
	}
	close(release)
	if !<-forgotten {
		t.Error("Forget returned before the commit under way was over")
	}
	if f.Commit(func() {}) {
		t.Error("committed after Forget")
	}
}

// Whatever the order of events, nothing is there that was fetched before Forget
// and kept after it.
func TestForgetAndCommitExcludeEachOther(t *testing.T) {
	const rounds = 2000
	var g group
	var generation, stored atomic.Int64 // of what is fetched, of what is stored
	var wg sync.WaitGroup
	for lane := range 3 {
		wg.Go(func() {
			for range rounds {
				f, _ := g.Join(key, fmt.Sprint(lane))
				fetched := generation.Load()
				runtime.Gosched()
				f.Commit(func() { stored.Store(fetched) })
				f.End()
			}
		})
	}
	wg.Go(func() {
		for range rounds {
			now := generation.Add(1)
			g.Forget(key, nil)
			stored.Store(now) // what is removed is as good as new
			runtime.Gosched()
			if got := stored.Load(); got < now {
				t.Errorf("generation %d is stored after %d was invalidated", got, now)
				return
			}
		}
	})
	wg.Wait()
	wantLen(t, &g, 0)
}

// Two invalidations at once: the second must not return while a commit is under
// way that only the first has seen.
func TestForgetWaitsForWhatAnotherForgets(t *testing.T) {
	var g flight.Group[string]
	f, _ := g.Join(key, "")
	committing, release := make(chan struct{}), make(chan struct{})
	var kept atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		f.Commit(func() {
			close(committing)
			<-release
			kept.Store(true)
		})
	})
	<-committing
	all.Go(func() { g.Forget(key, nil) })
	for g.Len() > 0 { // until the first has taken it out
		runtime.Gosched()
	}
	all.Go(func() {
		g.Forget(key, nil)
		if !kept.Load() {
			t.Error("returned before the commit was over")
		}
	})
	for range 1000 { // a chance to return too early
		runtime.Gosched()
	}
	close(release)
	all.Wait()
	f.End()
}
