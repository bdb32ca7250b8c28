package purge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/vfs"
)

func quiet(string) {}

func openMem(t testing.TB, folders ...vfs.FS) *Journal {
	t.Helper()
	var all []Folder
	for i, f := range folders {
		all = append(all, Folder{f, fmt.Sprint("disk", i)})
	}
	j, err := OpenJournal(all, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// A diary is what somebody was told who used a Ledger.
type diary struct {
	lineage string
	acked   []ID // of purges, and of those that were undone
	undone  []ID
	waits   []ID
	stamp   uint64 // of before all
}

// write uses a Ledger in these folders for a while, and notes what is acknowledged.
func (d *diary) write(folders ...vfs.FS) {
	var all []Folder
	for i, f := range folders {
		all = append(all, Folder{f, fmt.Sprint("disk", i)})
	}
	j, err := OpenJournal(all, quiet)
	if err != nil {
		return
	}
	if d.lineage != j.Lineage() {
		*d = diary{lineage: j.Lineage()}
	}
	l := New(Options{Journal: j})
	if d.stamp == 0 {
		d.stamp = l.Stamp()
	}
	var ids []ID
	for n := range 5 {
		r, err := l.Publish(Order{Selectors: []Selector{{Tag: fmt.Sprint("t", n)}}, Mode: Refresh})
		ids = append(ids, r.ID)
		if err == nil && r.Durable {
			d.acked = append(d.acked, r.ID)
		}
	}
	if r, err := l.Publish(Order{Selectors: []Selector{{Tag: "later"}}, Start: time.Now().Add(time.Hour)}); err == nil {
		d.waits = append(d.waits, r.ID)
	}
	if _, err := l.Undo(ids[1]); err == nil {
		d.undone = append(d.undone, ids[1])
	}
	l.Walked(ids[2])
	_ = l.Close() // it may fail as all else
}

// check looks at what a later run finds.
func (d *diary) check(t *testing.T, what string, folders ...vfs.FS) {
	t.Helper()
	j := openMem(t, folders...)
	defer j.Close()
	if j.Lineage() != d.lineage {
		return // then all that was kept counts as purged
	}
	l := New(Options{Journal: j})
	state := map[ID]State{}
	for _, r := range l.Receipts() {
		state[r.ID] = r.State
		if !r.Durable {
			t.Errorf("%s: purge %s was read, and is not durable", what, r.ID)
		}
	}
	for _, id := range d.acked {
		if s := state[id]; s != InForce && s != Done && s != Undone {
			t.Errorf("%s: purge %s is forgotten: it is %q", what, id, s)
		}
	}
	for _, id := range d.waits {
		if state[id] != Scheduled {
			t.Errorf("%s: purge %s, which is to begin, is %q", what, id, state[id])
		}
	}
	for _, id := range d.undone {
		if state[id] != Undone {
			t.Errorf("%s: purge %s was undone, and is %q", what, id, state[id])
		}
	}
	if stamp := l.Stamp(); len(d.acked) > 0 && stamp <= uint64(d.acked[len(d.acked)-1]) {
		t.Errorf("%s: stamp %d was given before", what, stamp)
	}
}

func TestPRG05_ARestartForgetsNothing(t *testing.T) {
	var m vfs.Mem
	var d diary
	for range 3 {
		d.write(&m)
	}
	if len(d.acked) != 15 || len(d.undone) != 3 || len(d.waits) != 3 {
		t.Fatalf("%+v", d)
	}
	d.check(t, "restart", &m)

	l := New(Options{Journal: openMem(t, &m)})
	old := func(tag string) *Subject {
		return l.Subject(&Kept{Stamp: d.stamp, Target: target(t, "/x"), Tags: []string{tag}})
	}
	wantVerdict(t, old("t0"), Stale)
	wantVerdict(t, old("t1"), Clean) // undone
	wantVerdict(t, old("t2"), Clean) // gone through
	wantVerdict(t, asked(t, l, "t0"), Clean)
	marked := l.Subject(&Kept{Stamp: d.stamp, Target: target(t, "/x"), Marks: []uint64{uint64(d.undone[0])}})
	wantVerdict(t, marked, Clean)
}

// Each call in turn fails, in each way, or is the last one. Whatever the disk has kept of what
// was not synced: what was acknowledged is there, or it is another lineage.
func TestPRG05_NoAcknowledgedPurgeIsLost(t *testing.T) {
	ways := map[string]func(n int64) func(vfs.Op) vfs.Fault{
		"fails": func(n int64) func(vfs.Op) vfs.Fault { return vfs.FailNth(n, syscall.EIO) },
		"crash": vfs.CrashNth,
		"late":  func(n int64) func(vfs.Op) vfs.Fault { return nth(n, vfs.Late(syscall.EIO)) },
		"torn":  func(n int64) func(vfs.Op) vfs.Fault { return nth(n, vfs.Torn(20, syscall.EIO)) },
		"short": func(n int64) func(vfs.Op) vfs.Fault { return nth(n, vfs.Short(600, syscall.ENOSPC)) },
		"full": func(n int64) func(vfs.Op) vfs.Fault { // from then on
			return func(op vfs.Op) vfs.Fault {
				if op.N >= n && (op.Kind == vfs.OpWriteAt || op.Kind == vfs.OpSync) {
					return vfs.Fail(syscall.ENOSPC)
				}
				return vfs.Fault{}
			}
		},
	}
	for way, hook := range ways {
		for n := int64(1); ; n++ {
			m := &vfs.Mem{}
			var d diary
			d.write(m)
			faulty := &vfs.Faulty{FS: m, Hook: hook(n)}
			d.write(faulty)
			what := fmt.Sprintf("%s at %d", way, n)
			d.check(t, what, m.Clone())
			d.check(t, what+", unsynced lost", m.Clone().Crash(nil, vfs.UnsyncedLost))
			rnd := rand.New(rand.NewPCG(uint64(n), 3))
			for range 20 {
				d.check(t, what+", power cut", m.Clone().Crash(rnd, vfs.PowerCut))
			}
			if t.Failed() {
				return
			}
			if faulty.Count() < n {
				break
			}
		}
	}
}

func nth(n int64, f vfs.Fault) func(vfs.Op) vfs.Fault {
	return func(op vfs.Op) vfs.Fault {
		if op.N == n {
			return f
		}
		return vfs.Fault{}
	}
}

// Where there are two disks, either may fail at any time, and after that the other may be
// lost: what the one has must not be believed if it lacks something.
func TestPRG05_ADiskThatLacksSomethingIsNotBelieved(t *testing.T) {
	for _, fault := range []vfs.Fault{vfs.Fail(syscall.EIO), vfs.Late(syscall.EIO)} {
		for n := int64(1); ; n++ {
			bad, good := &vfs.Mem{}, &vfs.Mem{}
			var d diary
			d.write(bad, good)
			faulty := &vfs.Faulty{FS: bad, Hook: nth(n, fault)}
			d.write(faulty, good)
			d.check(t, fmt.Sprintf("the good one after call %d", n), good.Clone())
			d.check(t, fmt.Sprintf("both after call %d", n), bad.Clone(), good.Clone())
			d.check(t, fmt.Sprintf("the bad one alone after call %d", n), bad.Clone())
			if faulty.Count() < n || t.Failed() {
				break
			}
		}
	}
}

// A disk that fails to take the place of its journal as the last of several failures is not
// believed either.
func TestPRG05_AJournalThatFailedTwiceIsNotBelieved(t *testing.T) {
	bad, good := &vfs.Mem{}, &vfs.Mem{}
	writes, syncs := 0, 0
	faulty := &vfs.Faulty{FS: bad}
	failing := false
	faulty.Hook = func(op vfs.Op) vfs.Fault {
		switch {
		case !failing:
		case op.Kind == vfs.OpWriteAt:
			if writes++; writes != 2 { // the first replacement gets through
				return vfs.Fail(syscall.EIO)
			}
		case op.Kind == vfs.OpSyncDir:
			if syncs++; syncs == 2 { // but its name is not certain
				return vfs.Fail(syscall.EIO)
			}
		}
		return vfs.Fault{}
	}
	j := openMem(t, faulty, good)
	l := New(Options{Journal: j})
	failing = true
	var d diary
	d.lineage = j.Lineage()
	for n := range 4 {
		d.acked = append(d.acked, publish(t, l, Refetch, Selector{Tag: fmt.Sprint(n)}).ID)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.check(t, "the bad one alone", bad.Clone())
	d.check(t, "both", bad.Clone(), good.Clone())
}

func contents(t testing.TB, f vfs.FS) []byte {
	t.Helper()
	file, err := f.Open(journalName, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size, err := file.Size()
	text := make([]byte, size)
	if err == nil {
		_, err = file.ReadAt(text, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func holding(t testing.TB, text []byte) *vfs.Mem {
	t.Helper()
	m := &vfs.Mem{}
	f, err := m.Open(journalName, os.O_RDWR|os.O_CREATE)
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPRG05_DamageOrLossIsAnotherLineage(t *testing.T) {
	var m vfs.Mem
	var d diary
	d.write(&m)
	text := contents(t, &m)
	last := strings.LastIndexByte(string(text[:len(text)-1]), '\n') + 1
	for i := range last - 1 { // without the end of a line, the next one is part of it
		for _, change := range []byte{1, 0x80} {
			if at := i - (strings.LastIndexByte(string(text[:i]), '\n') + 1); at == sumLen-1 {
				continue // the blank behind the sum
			}
			damaged := []byte(string(text))
			damaged[i] ^= change
			j := openMem(t, holding(t, damaged))
			if j.Lineage() == d.lineage {
				// The sum in capitals is the same sum.
				if strings.ToLower(string(damaged[i:i+1])) != string(text[i:i+1]) {
					t.Fatalf("octet %d of %d turned by %x: the same lineage", i, len(text), change)
				}
			}
		}
	}
	for _, lost := range [][2]int{{0, last}, {0, 10}, {100, 200}, {0, len(text)}} {
		j := openMem(t, holding(t, append(append([]byte(nil), text[:lost[0]]...), text[lost[1]:]...)))
		if j.Lineage() == d.lineage {
			t.Errorf("octets %v are lost: the same lineage", lost)
		}
	}
	if err := m.Remove(journalName); err != nil {
		t.Fatal(err)
	}
	if j := openMem(t, &m); j.Lineage() == d.lineage {
		t.Error("no journal: the same lineage")
	}
	// What was being written when the last run ended was acknowledged to nobody.
	for end := last; end < len(text); end++ {
		if j := openMem(t, holding(t, text[:end])); j.Lineage() != d.lineage {
			t.Fatalf("torn at %d of %d: another lineage", end, len(text))
		}
	}
}

func TestNoFolderCanBeWritten(t *testing.T) {
	full := &vfs.Faulty{FS: &vfs.Mem{}, Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpWriteAt {
			return vfs.Fail(syscall.ENOSPC)
		}
		return vfs.Fault{}
	}}
	var notes []string
	_, err := OpenJournal([]Folder{{full, "/a"}, {full, "/b"}}, func(n string) { notes = append(notes, n) })
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/a") || len(notes) != 2 {
		t.Errorf("%v, notes %q", err, notes)
	}
	// One will do.
	j, err := OpenJournal([]Folder{{full, "/a"}, {&vfs.Mem{}, "/b"}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if r := publish(t, New(Options{Journal: j}), Refetch, red); !r.Durable {
		t.Error("it is not durable")
	}
}

// A journal does not grow for ever, and forgets nothing for that.
func TestJournalIsRewritten(t *testing.T) {
	m := &vfs.Mem{}
	j := openMem(t, m)
	l := New(Options{Journal: j})
	stays := publish(t, l, Refetch, Selector{Tag: "stays"})
	for range (slack + 5000) / 2 {
		r := publish(t, l, Refetch, red)
		l.Walked(r.ID)
	}
	if n := strings.Count(string(contents(t, m)), "\n"); n > slack {
		t.Errorf("%d lines", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again := openMem(t, m)
	if again.Lineage() != j.Lineage() {
		t.Error("another lineage")
	}
	wantState(t, New(Options{Journal: again}), stays.ID, InForce)
}

// Many publish while the disks fail now and then: the race detector watches.
func TestManyPublishAtOnce(t *testing.T) {
	shaky := func(every int64) *vfs.Faulty {
		return &vfs.Faulty{FS: &vfs.Mem{}, Hook: func(op vfs.Op) vfs.Fault {
			if op.N%every == 0 && op.N > 10 && op.Kind != vfs.OpClose {
				return vfs.Fail(syscall.EIO)
			}
			return vfs.Fault{}
		}}
	}
	a, b := shaky(13), shaky(17)
	j := openMem(t, a, b)
	l := New(Options{Journal: j})
	var mu sync.Mutex
	d := diary{lineage: j.Lineage()}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 50 {
				r, err := l.Publish(Order{Selectors: []Selector{{Tag: fmt.Sprint(n, i)}}})
				mu.Lock()
				if err == nil {
					d.acked = append(d.acked, r.ID)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	_ = l.Close()
	if len(d.acked) == 0 {
		t.Error("nothing was acknowledged")
	}
	slicesMax := ID(0)
	for _, id := range d.acked {
		slicesMax = max(slicesMax, id)
	}
	d.acked = append(d.acked, slicesMax)
	d.check(t, "after all", a.FS, b.FS)
}

// Whatever is in a journal: it is read or refused, and what is written then is found again.
func FuzzJournal(f *testing.F) {
	var m vfs.Mem
	var d diary
	d.write(&m)
	text := contents(f, &m)
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Add([]byte("00000000 {}\n"))
	f.Add(encodeLine(&line{Line: 1, Run: 1<<32 - 1, Lineage: "x", Job: &jobLine{ID: 5, State: InForce}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := holding(t, text)
		j, err := OpenJournal([]Folder{{m, "mem"}}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		l := New(Options{Journal: j})
		r := publish(t, l, Refetch, red)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again := openMem(t, m)
		if again.Lineage() != j.Lineage() {
			t.Fatal("another lineage after a restart")
		}
		wantState(t, New(Options{Journal: again}), r.ID, InForce)
	})
}
