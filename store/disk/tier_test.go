package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// object is an entry as it comes from memory.
func object(s *Store, key string, generation uint64, size int) *store.Object {
	return &store.Object{
		Key: store.Key(key), ID: s.NextID(), Rev: 3, Size: int64(size),
		Head: store.Head{Octets: fmt.Append(nil, "head ", generation), Until: 12345},
		Body: bytes.NewReader(pattern(key, generation, size)),
	}
}

// found returns the IDs under key.
func found(t testing.TB, s *Store, key string) (ids []store.ID) {
	t.Helper()
	es, err := s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		ids = append(ids, e.ID)
	}
	return ids
}

// What was Put comes back by Get with all its names, also after a restart; it can
// be lent and returned, and a Remove drops it though it is lent.
func TestTier(t *testing.T) {
	mem := vfs.NewMem(1 << 30)
	s := mustOpen(t, tiny(mem))
	for i, size := range []int{0, 1, 10_000, 16_384, 16_385, 300_000} {
		key := fmt.Sprint("key ", i)
		o := object(s, key, uint64(i), size)
		if err := s.Put(o); err != nil {
			t.Fatalf("Put of %d octets: %v", size, err)
		}
		k, err := s.Get(ctx, o.Key, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(k.Body, 0, k.Size))
		if err != nil || !bytes.Equal(got, pattern(key, uint64(i), size)) {
			t.Errorf("the body of %d octets came back as %d, %v", size, len(got), err)
		}
		if k.ID != o.ID || k.Rev != 3 || string(k.Head.Octets) != fmt.Sprint("head ", i) || k.Head.Until != 12345 || string(k.Key) != key || k.Served != 0 {
			t.Errorf("%d octets came back as %+v", size, k)
		}
		k.Close()
		if s.Lend(o.Key, k.Mark^1<<40) || !s.Lend(o.Key, k.Mark) || len(found(t, s, key)) != 0 {
			t.Errorf("a lent entry is there, or cannot be lent")
		}
		if !s.Return(o.Key, k.Mark) || len(found(t, s, key)) != 1 {
			t.Errorf("a returned entry is not there, or cannot be returned")
		}
		s.Lend(o.Key, k.Mark)
		if i%2 == 0 {
			if err := s.Remove(ctx, o.Key, o.ID); err != nil {
				t.Fatal(err)
			}
			if s.Return(o.Key, k.Mark) {
				t.Error("a removed entry can be returned")
			}
		}
	}
	s.Close()
	s = mustOpen(t, tiny(mem)) // what was lent is there again, and what was removed not
	for i := range 6 {
		if n := len(found(t, s, fmt.Sprint("key ", i))); n != i%2 {
			t.Errorf("key %d has %d entries after a restart", i, n)
		}
	}
}

// An entry that was lent and changed in memory comes back with a greater
// revision: the older one is never seen again.
func TestPutNewerRevision(t *testing.T) {
	mem := vfs.NewMem(1 << 30)
	s := mustOpen(t, tiny(mem))
	o := object(s, "k", 1, 100)
	if err := s.Put(o); err != nil {
		t.Fatal(err)
	}
	k, err := s.Get(ctx, o.Key, o.ID)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	s.Lend(o.Key, k.Mark)
	o.Rev++
	if err := s.Put(o); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		es, err := s.Lookup(ctx, o.Key, nil)
		if err != nil || len(es) != 1 || es[0].Rev != 4 {
			t.Errorf("found %+v, %v", es, err)
		}
		s.Close()
		s = mustOpen(t, tiny(mem))
	}
	if err := s.Remove(ctx, o.Key, o.ID); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = mustOpen(t, tiny(mem))
	if ids := found(t, s, "k"); len(ids) != 0 {
		t.Errorf("a revision of a removed entry is back: %v", ids)
	}
}

// Put never waits: what does not fit into the buffer is refused at once, and fits
// after Flush.
func TestPutDoesNotWait(t *testing.T) {
	hang := make(chan struct{})
	var broken atomic.Bool
	disk := &vfs.Faulty{FS: vfs.NewMem(1 << 30), Hook: func(op vfs.Op) vfs.Fault {
		if broken.Load() && op.Kind == vfs.OpWriteAt {
			return vfs.Fault{}.After(hang)
		}
		return vfs.Fault{}
	}}
	opts := tiny(disk)
	opts.Buffer = 100_000
	s := mustOpen(t, opts)
	broken.Store(true)
	var err error
	n := 0
	for ; err == nil; n++ {
		err = s.Put(object(s, fmt.Sprint(n), 0, 10_000))
	}
	if !errors.Is(err, store.ErrFull) || n < 8 || n > 11 {
		t.Errorf("the %d-th Put of 10 kB into a buffer of 100 kB: %v", n, err)
	}
	for i := range n - 1 {
		o := object(s, fmt.Sprint(i), 0, 10_000)
		es, _ := s.Lookup(ctx, o.Key, nil)
		if len(es) != 1 {
			t.Fatalf("what is not written yet is not there")
		}
		k, err := s.Get(ctx, o.Key, es[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(k.Body, 0, k.Size)); err != nil || !bytes.Equal(got, pattern(fmt.Sprint(i), 0, 10_000)) {
			t.Errorf("what is not written yet cannot be read: %v", err)
		}
		k.Close()
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Flush(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush of a disk that hangs, without patience: %v", err)
	}
	close(hang)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(object(s, "after", 0, 10_000)); err != nil {
		t.Errorf("Put after Flush: %v", err)
	}
}

// With a budget of writes, and no room but by reclaiming, a new key is refused
// once half of the budget is spent; one that was seen before is kept.
func TestAdmission(t *testing.T) {
	now := int64(1000)
	a := newAdmission(&Options{WriteBudget: 10, Now: func() int64 { return now }}, 1<<30)
	if !a.admits(1, 17_000, true) || !a.admits(2, 2_000, true) {
		t.Error("refused with more than half of the budget left")
	}
	if a.admits(3, 1, true) {
		t.Error("a new key is admitted with less than half of the budget left")
	}
	if !a.admits(3, 1, true) || !a.admits(4, 1, false) {
		t.Error("a key of the second time, or one for a disk with room, is refused")
	}
	now += 3600
	if !a.admits(5, 1, true) {
		t.Error("an hour did not bring the budget back")
	}
	if a := newAdmission(&Options{Now: func() int64 { return now }}, 1<<30); !a.admits(1, 1<<40, true) {
		t.Error("refused without a budget")
	}
}

// A sketch never counts too little, and hardly ever too much.
func TestSketch(t *testing.T) {
	s := newSketch(10_000)
	twice := 0
	for i := range uint64(10_000) {
		h := i * 0x9e3779b97f4a7c15
		if s.add(h) > 1 {
			twice++
		}
	}
	if twice > 500 {
		t.Errorf("%d of 10000 new hashes seem to be known", twice)
	}
	h := uint64(77)
	for n := range 5 {
		if got := s.add(h); got <= n {
			t.Errorf("seen %d times, counted %d", n+1, got)
		}
	}
}
