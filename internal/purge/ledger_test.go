package purge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
)

func publish(t testing.TB, l *Ledger, mode Mode, selectors ...Selector) Receipt {
	t.Helper()
	return order(t, l, Order{Selectors: selectors, Mode: mode})
}

func order(t testing.TB, l *Ledger, o Order) Receipt {
	t.Helper()
	r, err := l.Publish(o)
	if err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	return r
}

// asked is something with these tags that is asked for now.
func asked(t testing.TB, l *Ledger, tags ...string) *Subject {
	return l.Subject(&Kept{Stamp: l.Stamp(), Target: target(t, "http://a.example/x"), Tags: tags})
}

func wantVerdict(t testing.TB, s *Subject, want Verdict) {
	t.Helper()
	if got := s.Verdict(); got != want {
		t.Errorf("verdict %d, want %d", got, want)
	}
}

func wantState(t testing.TB, l *Ledger, id ID, want State) Receipt {
	t.Helper()
	r, _, err := l.Receipt(id)
	if err != nil || r.State != want {
		t.Errorf("purge %s is %q (%v), want %q", id, r.State, err, want)
	}
	return r
}

var red = Selector{Tag: "red"}

func TestPRG05_OlderIsWhatWasAskedForBefore(t *testing.T) {
	l := New(Options{})
	before := asked(t, l, "red")
	r := publish(t, l, Refetch, red)
	after := asked(t, l, "red")
	wantVerdict(t, before, Gone)
	wantVerdict(t, after, Clean)
	if !r.Applied || r.State != InForce {
		t.Errorf("%+v", r)
	}
	publish(t, l, Refresh, red)
	wantVerdict(t, before, Gone) // the greater one counts
	wantVerdict(t, after, Stale)
	publish(t, l, Refetch, red)
	wantVerdict(t, after, Gone)
}

func TestUndoMakesFreshAgain(t *testing.T) {
	l := New(Options{})
	s := asked(t, l, "red")
	first, second := publish(t, l, Refresh, red), publish(t, l, Refresh, Selector{Prefix: "/x"})
	marks := l.Find(s).Marks()
	if !slices.Equal(marks, []uint64{uint64(first.ID), uint64(second.ID)}) {
		t.Errorf("marks %v", marks)
	}
	kept := l.Subject(&Kept{Stamp: s.stamp, Target: s.target, Marks: marks})
	l.Walked(first.ID) // the other was undone before it was
	for _, s := range []*Subject{s, kept} {
		wantVerdict(t, s, Stale)
	}
	for i, id := range []ID{second.ID, first.ID} {
		if _, err := l.Undo(id); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Subject{kept, l.Subject(&Kept{Stamp: s.stamp, Target: s.target, Marks: marks})} {
			wantVerdict(t, s, []Verdict{Stale, Clean}[i])
		}
		wantState(t, l, id, Undone)
	}
	hard := publish(t, l, Refetch, red)
	var refused *StateError
	if _, err := l.Undo(hard.ID); !errors.As(err, &refused) {
		t.Errorf("a refetch was undone: %v", err)
	}
	if _, err := l.Undo(first.ID); !errors.As(err, &refused) {
		t.Errorf("it was undone twice: %v", err)
	}
}

func TestCancelEndsAJob(t *testing.T) {
	l := New(Options{})
	s := asked(t, l, "red")
	for _, mode := range []Mode{Refetch, Refresh} {
		for _, selector := range []Selector{red, {URL: "/x"}, {Regex: "x$"}, {All: true}} {
			r := publish(t, l, mode, selector)
			if s.Verdict() == Clean {
				t.Errorf("%v does not purge", selector)
			}
			if _, err := l.Cancel(r.ID); err != nil {
				t.Fatal(err)
			}
			wantVerdict(t, s, Clean)
			if r := wantState(t, l, r.ID, Cancelled); r.Applied {
				t.Error("it is applied although it was cancelled")
			}
		}
	}
	if _, err := l.Cancel(12345); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// A purge of everything takes the place of those before it. They must not come back
// with it.
func TestPRG05_EverythingThatIsTakenBackBringsNothingBack(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Options{Now: func() time.Time { return now }})
	s := asked(t, l, "red")
	first := publish(t, l, Refetch, red)
	all := publish(t, l, Refetch, Selector{All: true})
	wantState(t, l, first.ID, Done)
	if _, err := l.Cancel(all.ID); err == nil {
		t.Error("it was cancelled")
	}
	wantVerdict(t, s, Gone)

	l = New(Options{Now: func() time.Time { return now }})
	s = asked(t, l, "red")
	publish(t, l, Refetch, red)
	r := order(t, l, Order{Selectors: []Selector{{All: true}}, End: now.Add(time.Hour)})
	now = now.Add(2 * time.Hour)
	l.Tick()
	wantState(t, l, r.ID, Ended)
	wantVerdict(t, s, Gone)
}

func TestStartAndEnd(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Options{Now: func() time.Time { return now }})
	s := asked(t, l, "red")
	r := order(t, l, Order{Selectors: []Selector{red}, Start: now.Add(time.Minute), End: now.Add(time.Hour)})
	if r.State != Scheduled || r.Applied {
		t.Errorf("%+v", r)
	}
	if next := l.Tick(); next != time.Minute {
		t.Errorf("next in %v", next)
	}
	wantVerdict(t, s, Clean)
	later := asked(t, l, "red") // before it begins
	now = now.Add(time.Minute)
	l.Tick()
	wantState(t, l, r.ID, InForce)
	wantVerdict(t, s, Gone)
	wantVerdict(t, later, Gone)
	after := asked(t, l, "red")
	for range 3 { // once
		l.Tick()
		wantVerdict(t, after, Clean)
	}
	now = now.Add(time.Hour)
	l.Tick()
	wantState(t, l, r.ID, Ended)
	wantVerdict(t, s, Clean)

	missed := order(t, l, Order{Selectors: []Selector{red}, Start: now.Add(time.Minute), End: now.Add(2 * time.Minute)})
	now = now.Add(time.Hour)
	l.Tick()
	wantState(t, l, missed.ID, Ended)
	wantVerdict(t, s, Clean)

	for _, o := range []Order{
		{Selectors: []Selector{red}, End: now},
		{Selectors: []Selector{red}, Start: now.Add(2 * time.Minute), End: now.Add(time.Minute)},
		{Selectors: []Selector{red}, Mode: 2},
		{Selectors: []Selector{red}, Start: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)},
		{},
		{Selectors: make([]Selector, MaxSelectors+1)},
	} {
		var wrong *OrderError
		if _, err := l.Publish(o); !errors.As(err, &wrong) {
			t.Errorf("start %v, end %v: %v", o.Start, o.End, err)
		}
	}
}

func TestRepeatIsAnotherJob(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Options{Now: func() time.Time { return now }})
	r := order(t, l, Order{Selectors: []Selector{red}, Start: now.Add(time.Hour), End: now.Add(2 * time.Hour)})
	s := asked(t, l, "red")
	again, err := l.Publish(r.Order.Again())
	if err != nil || again.ID == r.ID || again.State != InForce || !again.End.IsZero() {
		t.Errorf("%+v, %v", again, err)
	}
	wantVerdict(t, s, Gone)
	wantState(t, l, r.ID, Scheduled)
	if _, _, err := l.Receipt(7); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// An Order is the Ledger's from Publish on.
func TestOrderIsCopied(t *testing.T) {
	l := New(Options{})
	selectors := []Selector{red}
	r := publish(t, l, Refetch, selectors...)
	selectors[0].Tag = "blue"
	if r := wantState(t, l, r.ID, InForce); r.Selectors[0] != red {
		t.Errorf("%+v", r)
	}
}

func TestBumpIsOfEverythingBefore(t *testing.T) {
	l := New(Options{})
	s := asked(t, l)
	l.Bump()
	after := asked(t, l)
	wantVerdict(t, s, Gone)
	r := publish(t, l, Refresh, Selector{All: true})
	wantVerdict(t, after, Stale)
	if _, err := l.Cancel(r.ID); err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, after, Clean)
	wantVerdict(t, s, Gone)
	if !l.Concerns(s.stamp, nil) {
		t.Error("nothing concerns what was bumped")
	}
}

func TestThereIsRoomForSoMany(t *testing.T) {
	l := New(Options{})
	many := make([]Selector, MaxSelectors)
	for i := range many {
		many[i] = Selector{Tag: fmt.Sprint("t", i)}
	}
	for range MaxRules / MaxSelectors {
		publish(t, l, Refetch, many...)
	}
	if _, err := l.Publish(Order{Selectors: []Selector{red}}); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	s := asked(t, l, "red")
	r := publish(t, l, Refetch, Selector{All: true}) // which makes room
	wantVerdict(t, s, Gone)
	publish(t, l, Refetch, red)
	wantState(t, l, r.ID, InForce)

	l = New(Options{})
	for i := range maxPatterns {
		publish(t, l, Refetch, Selector{Prefix: fmt.Sprint("/", i)})
	}
	if _, err := l.Publish(Order{Selectors: []Selector{{Prefix: "/x"}}}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	publish(t, l, Refetch, red)
	for range maxScheduled {
		order(t, l, Order{Selectors: []Selector{red}, Start: time.Now().Add(time.Hour)})
	}
	if _, err := l.Publish(Order{Selectors: []Selector{red}, Start: time.Now().Add(time.Hour)}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// The list is bounded, and what is in force or to come never leaves it.
func TestHistoryIsBounded(t *testing.T) {
	l := New(Options{})
	waits := order(t, l, Order{Selectors: []Selector{red}, Start: time.Now().Add(time.Hour)})
	stays := publish(t, l, Refetch, Selector{Tag: "stays"})
	for range history + 10 {
		r := publish(t, l, Refetch, red)
		l.Walked(r.ID)
	}
	if n := len(l.Receipts()); n != history+2 {
		t.Errorf("%d jobs in the list", n)
	}
	wantState(t, l, waits.ID, Scheduled)
	wantState(t, l, stays.ID, InForce)
}

// A Subject remembers what was said of it; that must never differ from what is said
// of another one that is the same and new, or from looking at all jobs one by one.
func TestPRG05_VerdictsEqualAPlainModel(t *testing.T) {
	tags := []string{"a", "b", "c"}
	selectors := []Selector{
		{Tag: "a"},
		{Tag: "b"},
		{Tag: "c"},
		{URL: "/x"},
		{URL: "http://a.example/x"},
		{Prefix: "/x"},
		{Glob: "/*"},
		{Regex: "y$"},
		{All: true},
		{Group: "a", Origin: "http://a.example"},
	}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 17))
		l := New(Options{Journal: openMem(t, &vfs.Mem{})})
		var subjects []*Subject
		var ids []ID
		for range 60 {
			switch n := rnd.IntN(12); {
			case n < 3:
				k := &Kept{Stamp: l.Stamp(), Target: target(t, []string{"http://a.example/x", "https://a.example/y"}[rnd.IntN(2)])}
				for _, tag := range tags {
					if rnd.IntN(2) == 0 {
						k.Tags, k.Groups = append(k.Tags, tag), append(k.Groups, tag)
					}
				}
				subjects = append(subjects, l.Subject(k))
			case n < 7:
				some := make([]Selector, 1+rnd.IntN(2))
				for i := range some {
					some[i] = selectors[rnd.IntN(len(selectors))]
				}
				ids = append(ids, publish(t, l, Mode(rnd.IntN(2)), some...).ID)
			case n == 7 && rnd.IntN(8) == 0:
				l.Bump()
			case n < 10 && len(ids) > 0:
				id := ids[rnd.IntN(len(ids))]
				_, _ = []func(ID) (Receipt, error){l.Cancel, l.Undo}[rnd.IntN(2)](id) // it may be too late
			}
			for i, s := range subjects {
				want := Clean
				if s.stamp < l.bumped {
					want = Gone
				}
				for _, r := range l.Receipts() {
					j := l.jobs[r.ID]
					if r.State != InForce || s.stamp >= j.seq {
						continue
					}
					for _, p := range j.parts {
						if p.names(s) {
							want = max(want, j.verdict())
						}
					}
				}
				fresh := Kept{Stamp: s.stamp, Target: s.target}
				other := l.Subject(&fresh)
				other.labels = s.labels
				if rnd.IntN(2) == 0 && s.Verdict() != want || other.Verdict() != want {
					t.Fatalf("seed %d, subject %d: %d, a new one %d, want %d", seed, i, s.Verdict(), other.Verdict(), want)
				}
			}
		}
	}
}

func TestIDsAreReadAsTheyAreWritten(t *testing.T) {
	for _, id := range []ID{0, 1, 3<<runBits | 17, 1<<64 - 1} {
		got, err := ParseID(id.String())
		if err != nil || got != id {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
	for _, text := range []string{"", "3", "3-", "-1", "3-4-5", "x-1", "3-4294967296", "4294967296-1"} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%q is %v", text, id)
		}
	}
}

// What is being stored when a purge comes is stored before the purge leaves.
func TestPRG05_AJobStaysAsLongAsItsTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		walks := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Tend(ctx, walker(func(context.Context) error { walks++; return nil }))
		}()
		old := l.Begin()
		s := asked(t, l, "red")
		r := publish(t, l, Refetch, red)
		synctest.Wait()
		young := l.Begin()
		wantState(t, l, r.ID, InForce)
		wantVerdict(t, s, Gone)
		old.End()
		synctest.Wait()
		if r := wantState(t, l, r.ID, Done); !r.Complete || walks != 1 {
			t.Errorf("%+v after %d walks", r, walks)
		}
		if l.Concerns(s.stamp, nil) {
			t.Error("it has left, and still concerns")
		}
		young.End()
		Ticket{}.End()
		cancel()
		<-done
	})
}

func TestAWalkThatFailedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		walks := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Tend(ctx, walker(func(context.Context) error {
				if walks++; walks == 1 {
					return errors.New("unread")
				}
				return nil
			}))
		}()
		visited := publish(t, l, Refetch, Selector{URL: "/x"})
		l.Visited(visited.ID)
		r := publish(t, l, Refetch, red)
		synctest.Wait()
		wantState(t, l, r.ID, InForce)
		time.Sleep(retry)
		synctest.Wait()
		wantState(t, l, r.ID, Done)
		wantState(t, l, visited.ID, Done)
		if walks != 2 {
			t.Errorf("%d walks", walks)
		}
		cancel()
		<-done
	})
}

// A job that comes while others are gone through is gone through on its own.
func TestPRG05_AWalkIsForThoseBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		step := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Tend(ctx, walker(func(context.Context) error { <-step; return nil }))
		}()
		first := publish(t, l, Refetch, red)
		synctest.Wait()
		second := publish(t, l, Refetch, red)
		step <- struct{}{}
		synctest.Wait()
		wantState(t, l, first.ID, Done)
		wantState(t, l, second.ID, InForce)
		step <- struct{}{}
		synctest.Wait()
		wantState(t, l, second.ID, Done)
		cancel()
		<-done
	})
}

func TestJobsBeginByTheClockAndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := &vfs.Mem{}
		l := New(Options{Journal: openMem(t, folder)})
		start := time.Now().Add(90 * time.Minute)
		r := order(t, l, Order{Selectors: []Selector{red}, Start: start})
		for run := range 4 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				l.Tend(ctx, walker(func(context.Context) error { return nil }))
			}()
			synctest.Wait()
			s := asked(t, l, "red")
			time.Sleep(31 * time.Minute) // it begins in the third run
			synctest.Wait()
			want := Clean
			if run == 2 {
				want = Gone
			}
			if got := l.left.Load() > 0; got != (run == 2) {
				t.Errorf("run %d: it was done: %v", run, got)
			}
			if want == Gone {
				wantState(t, l, r.ID, Done)
			} else {
				wantVerdict(t, s, Clean)
			}
			cancel()
			<-done
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = New(Options{Journal: openMem(t, folder)})
		}
	})
}

func TestReceiptsTellWhatWasFound(t *testing.T) {
	l := New(Options{})
	s := asked(t, l, "red")
	r := publish(t, l, Refresh, red)
	_, changed, err := l.Receipt(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	l.Find(s).Count(100)
	l.Find(asked(t, l, "red")).Count(1000) // which it is not about
	l.Visited(r.ID)
	l.Walked(r.ID)
	<-changed
	if r := wantState(t, l, r.ID, Done); r.Objects != 1 || r.Bytes != 100 || !r.Complete {
		t.Errorf("%+v", r)
	}
	if strings.Join([]string{Refetch.String(), Refresh.String()}, " ") != "refetch refresh" || new(Mode).UnmarshalText([]byte("soft")) == nil {
		t.Error("names of modes")
	}
}

// A walker is a Keeper whose changes last at once.
type walker func(context.Context) error

func (w walker) Walk(ctx context.Context) error { return w(ctx) }

func (walker) Sync(context.Context) error { return nil }
