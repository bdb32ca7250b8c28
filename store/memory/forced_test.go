package memory

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/store"
)

// A mover does by force, to a few entries, what else happens to them now and
// then: records go from sheet to sheet, gaps close, entries get other numbers,
// the index is made anew, heads change, and entries replace each other.
type mover struct {
	t  *testing.T
	s  *Store
	sh *shard
	r  *rand.Rand
}

const fewKeys = 24

// mayBeGone names the keys whose entry is removed before the next one comes.
func mayBeGone(i int) bool { return i%4 == 0 }

var (
	fewNames  [fewKeys]store.Key
	fewBodies [fewKeys][]byte
	fills     [256][]byte // heads are of one octet, which follows from their revision
)

func fillFew() {
	for i := range fewNames {
		fewNames[i] = append(bytes.Repeat([]byte("name "), i%5), byte(i))
		fewBodies[i] = make([]byte, []int{60, 700, 3000, 5000, 9000, 40_000}[i%6])
		fillOctets(fewBodies[i], uint64(i))
	}
	for i := range fills {
		fills[i] = bytes.Repeat([]byte{byte(i)}, 1000)
	}
}

func (m *mover) step() {
	i := m.r.IntN(fewKeys)
	switch m.r.IntN(9) {
	case 0:
		m.replace(i)
	case 8:
		if mayBeGone(i) {
			es, _ := m.s.Lookup(ctx, fewNames[i], nil)
			for _, e := range es {
				if err := m.s.Remove(ctx, fewNames[i], e.ID); err != nil {
					m.t.Error(err)
				}
			}
			m.replace(i)
		}
	case 1, 2:
		es, _ := m.s.Lookup(ctx, fewNames[i], nil)
		for _, e := range es {
			head := fills[byte(e.Rev+1)][:m.r.IntN(1000)]
			if err := m.s.Amend(ctx, fewNames[i], e.ID, store.Head{Octets: head}); err != nil {
				m.t.Error(err)
			}
		}
	case 3:
		m.locked(m.moveRecords)
	case 4:
		m.locked(m.closeGaps)
	case 5, 6:
		m.locked(m.renumber)
	case 7:
		m.locked(func() {
			pages := table(m.sh.index.current.Load()).pages()
			if m.s.charge(pages * pageSize) {
				m.sh.remake(pages)
			}
		})
	}
}

func (m *mover) locked(do func()) {
	m.sh.mu.Lock()
	defer m.sh.mu.Unlock()
	do()
}

func (m *mover) replace(i int) {
	es, _ := m.s.Lookup(ctx, fewNames[i], nil)
	var old []store.ID
	for _, e := range es {
		old = append(old, e.ID)
	}
	w, err := m.s.Create(ctx, fewNames[i], store.Head{Octets: fills[0][:m.r.IntN(100)]}, int64(len(fewBodies[i])))
	if err != nil {
		m.t.Error(err)
		return
	}
	w.Write(fewBodies[i])
	if _, err := w.Commit(ctx, old...); err != nil {
		m.t.Error(err)
	}
}

// moveRecords moves all records of a sheet to another one, which is new.
func (m *mover) moveRecords() {
	ss := &m.sh.sheets
	slot, ok := ss.roomiest()
	if !ok || !m.s.charge(int64(ss.size)) {
		return
	}
	other, _ := ss.region.take(int64(ss.size))
	ss.add(other)
	p := ss.at(slot)
	ss.unlink(p)
	if !m.sh.empty(slot, p) {
		ss.link(slot, p)
		return
	}
	ss.remove(slot, p)
	ss.region.give(slot, int64(ss.size))
	m.s.release(int64(ss.size))
}

func (m *mover) closeGaps() {
	ss := &m.sh.sheets
	for _, first := range ss.bins {
		for at := first; at != 0; at = ss.at(at - 1).next {
			m.sh.tighten(at-1, ss.at(at-1))
		}
	}
}

func (m *mover) renumber() {
	n, page, ok := m.sh.book.next()
	if !ok || page {
		return
	}
	skip := m.r.IntN(fewKeys)
	m.sh.book.all(func(from uint32, e *entry) bool {
		if skip--; skip < 0 && from != n {
			m.sh.renumber(from, n)
			return false
		}
		return true
	})
}

// check reads all of a key and compares it.
func check(t *testing.T, s *Store, i int, p []byte) (read int) {
	var room [8]store.Entry
	es, err := s.Lookup(ctx, fewNames[i], room[:0])
	if err == nil && len(es) == 0 && mayBeGone(i) {
		return 0
	}
	if err != nil || len(es) != 1 {
		t.Errorf("key %d has %d entries, %v", i, len(es), err)
		return 0
	}
	e := es[0]
	head, err := s.Head(ctx, fewNames[i], e.ID, e.Rev)
	if err == nil && !bytes.Equal(head, fills[byte(e.Rev)][:min(len(head), 1000)]) {
		t.Errorf("key %d: a head that is not of revision %d", i, e.Rev)
	} else if err != nil && !errors.Is(err, store.ErrGone) {
		t.Error(err)
	}
	r, err := s.Open(ctx, fewNames[i], e.ID, 0, -1)
	if err != nil {
		if !errors.Is(err, store.ErrGone) {
			t.Error(err)
		}
		return 0
	}
	defer r.Close()
	n, err := io.ReadFull(r, p[:e.Size])
	if err != nil || !bytes.Equal(p[:n], fewBodies[i]) {
		t.Errorf("key %d: %d octets that are not its body, %v", i, n, err)
	}
	return 1
}

// Readers without a lock notice each of these moves.
func TestForcedMoves(t *testing.T) {
	fillFew()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := New(Options{Budget: 8 << 20})
	m := &mover{t: t, s: s, sh: &s.shards[0], r: rand.New(rand.NewPCG(seed, 0))}
	for i := range fewNames {
		m.replace(i)
	}
	stop := make(chan struct{})
	var reads, moves atomic.Int64
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, g+1))
			p := make([]byte, 64<<10)
			for !t.Failed() {
				select {
				case <-stop:
					return
				default:
				}
				if g == 0 {
					m.step()
					moves.Add(1)
				} else {
					reads.Add(int64(check(t, s, r.IntN(fewKeys), p)))
				}
			}
		})
	}
	<-time.After(span(t))
	close(stop)
	wg.Wait()
	t.Logf("%d bodies read, %d moves", reads.Load(), moves.Load())
	audit(t, s)
	wantEmpty(t, s)
}
