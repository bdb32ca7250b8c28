package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// A world is what a test knows of a store: which entries were acknowledged as
// gone, and that every head says what it belongs to.
type world struct {
	t     testing.TB
	r     *rand.Rand
	keys  int
	large int // longest body, in octets

	generation uint64
	last       store.ID
	removed    map[uint64]bool // generations that Remove has acknowledged
	replaced   map[uint64]bool // those that a Commit took the place of
	stopped    bool            // the disk went away
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{
		t: t, r: rand.New(rand.NewPCG(seed, 0)), keys: 8, large: 50_000,
		removed: map[uint64]bool{}, replaced: map[uint64]bool{},
	}
}

// tiny are options of a store of sixteen segments of 64 KiB, in which bodies
// above 16 KiB are cut in chunks of 16 KiB.
func tiny(fsys ...vfs.FS) Options {
	opts := Options{Segment: 64 << 10, Buffer: 4 << 20, Seed: 1}
	for _, f := range fsys {
		opts.Disks = append(opts.Disks, Disk{FS: f, Size: 1 << 20})
	}
	return opts
}

// pattern returns size octets that no other (key, generation) has.
func pattern(key string, generation uint64, size int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", generation, key))
	b := make([]byte, size)
	rand.NewChaCha8(sum).Read(b)
	return b
}

// mintHead is a head that names what it belongs to, and is whole or wrong.
func mintHead(key string, generation uint64, size int, salt uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, generation)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, salt)
	b = append(b, key...)
	b = append(b, bytes.Repeat([]byte{byte(salt)}, int(salt%900))...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// readHead returns what mintHead said, or fails the test.
func (w *world) readHead(key string, e store.Entry, head []byte) (generation uint64, ok bool) {
	if len(head) > 20 {
		generation = binary.BigEndian.Uint64(head)
		size, salt := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint32(head[16:])
		if size == uint64(e.Size) && bytes.Equal(head, mintHead(key, generation, int(size), salt)) {
			return generation, true
		}
	}
	w.t.Errorf("under %q: entry %d has a wrong head of %d octets", key, e.ID, len(head))
	return 0, false
}

// allowed says whether a store on a disk that fails may say err.
func allowed(err error) bool {
	return err == nil || errors.Is(err, store.ErrGone) || errors.Is(err, store.ErrFull)
}

// look verifies the heads under key, and returns the entries and their
// generations.
func (w *world) look(s *Store, key string) (entries []store.Entry, generations []uint64) {
	all, err := s.Lookup(ctx, store.Key(key), nil)
	if err != nil {
		w.t.Errorf("Lookup(%q): %v", key, err)
	}
	for _, e := range all {
		head, err := s.Head(ctx, store.Key(key), e.ID, e.Rev)
		if err != nil {
			if !allowed(err) {
				w.t.Errorf("Head: %v", err)
			}
			continue
		}
		if generation, ok := w.readHead(key, e, head); ok {
			entries, generations = append(entries, e), append(generations, generation)
		}
	}
	return entries, generations
}

// read verifies the body of e. A body may end early, with an error, only if
// torn says that somebody is damaging the disk.
func (w *world) read(s *Store, key string, e store.Entry, generation uint64) {
	body, err := s.Open(ctx, store.Key(key), e.ID, 0, -1)
	if err != nil {
		if !allowed(err) {
			w.t.Errorf("Open: %v", err)
		}
		return
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	want := pattern(key, generation, int(e.Size))
	if !bytes.HasPrefix(want, got) {
		w.t.Errorf("under %q: entry %d has wrong octets", key, e.ID)
	}
	if err == nil && len(got) != len(want) {
		w.t.Errorf("under %q: entry %d has %d octets, want %d", key, e.ID, len(got), len(want))
	}
}

// step does one thing to s.
func (w *world) step(s *Store) {
	key := fmt.Sprint("key ", w.r.IntN(w.keys))
	entries, generations := w.look(s, key)
	switch n := w.r.IntN(20); {
	case n < 10 || len(entries) == 0:
		w.commit(s, key, entries, generations)
	case n < 13:
		i := w.r.IntN(len(entries))
		if err := s.Remove(ctx, store.Key(key), entries[i].ID); err == nil {
			w.removed[generations[i]] = true
		} else {
			w.stopped = true
		}
	case n < 16:
		i := w.r.IntN(len(entries))
		head := mintHead(key, generations[i], int(entries[i].Size), w.r.Uint32())
		if err := s.Amend(ctx, store.Key(key), entries[i].ID, store.Head{Octets: head}); !allowed(err) {
			w.t.Errorf("Amend: %v", err)
		}
	default:
		i := w.r.IntN(len(entries))
		w.read(s, key, entries[i], generations[i])
	}
}

// commit stores a body under key, in place of some of what is there.
func (w *world) commit(s *Store, key string, entries []store.Entry, generations []uint64) {
	w.generation++
	generation := w.generation
	body := pattern(key, generation, w.r.IntN(1+w.r.IntN(1+w.r.IntN(w.large))))
	declared := int64(len(body))
	if w.r.IntN(2) == 0 {
		declared = -1
	}
	wr, err := s.Create(ctx, store.Key(key), store.Head{Octets: mintHead(key, generation, len(body), w.r.Uint32())}, declared)
	if err != nil {
		w.full(err)
		return
	}
	defer wr.Abort(nil)
	for rest := body; len(rest) > 0; {
		n := 1 + w.r.IntN(len(rest))
		if _, err := wr.Write(rest[:n]); err != nil {
			w.full(err)
			return
		}
		rest = rest[n:]
	}
	var replaces []store.ID
	var names []uint64
	for i, e := range entries {
		if w.r.IntN(3) > 0 {
			replaces, names = append(replaces, e.ID), append(names, generations[i])
		}
	}
	e, err := wr.Commit(ctx, replaces...)
	if err != nil {
		w.full(err)
		return
	}
	if e.ID <= w.last {
		w.t.Errorf("the ID %d was given after %d", e.ID, w.last)
	}
	w.last = e.ID
	for _, g := range names {
		w.replaced[g] = true
	}
}

func (w *world) full(err error) {
	if !errors.Is(err, store.ErrFull) {
		w.t.Errorf("storing: %v, want ErrFull or nothing", err)
	}
}

// verify reads all that is in s, and returns how many entries that are. What was
// removed is not there; what was replaced neither, unless power was lost.
func (w *world) verify(s *Store, powerLost bool) int {
	n := 0
	for k := range w.keys {
		key := fmt.Sprint("key ", k)
		entries, generations := w.look(s, key)
		n += len(entries)
		for i, e := range entries {
			if w.removed[generations[i]] {
				w.t.Errorf("under %q: generation %d was removed and is back", key, generations[i])
			}
			if w.replaced[generations[i]] && !powerLost {
				w.t.Errorf("under %q: generation %d was replaced and is back", key, generations[i])
			}
			w.read(s, key, e, generations[i])
		}
	}
	return n
}

// usable holds s to keeping something new.
func (w *world) usable(s *Store) {
	key := "a new key"
	body := pattern(key, 1, 30_000)
	wr, err := s.Create(ctx, store.Key(key), store.Head{Octets: []byte("head")}, -1)
	if err != nil {
		w.t.Errorf("Create after a restart: %v", err)
		return
	}
	defer wr.Abort(nil)
	wr.Write(body)
	e, err := wr.Commit(ctx)
	if err != nil {
		w.t.Errorf("Commit after a restart: %v", err)
		return
	}
	if e.ID <= w.last {
		w.t.Errorf("the ID %d was given after %d, before the restart", e.ID, w.last)
	}
	r, err := s.Open(ctx, store.Key(key), e.ID, 0, -1)
	if err != nil {
		w.t.Errorf("Open after a restart: %v", err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
		w.t.Errorf("after a restart a new body has %d octets, %v", len(got), err)
	}
	if err := s.Remove(ctx, store.Key(key), e.ID); err != nil {
		w.t.Errorf("Remove after a restart: %v", err)
	}
}

// newSeed returns a seed and prints it.
func newSeed(t testing.TB) uint64 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}
