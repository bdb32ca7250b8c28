package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// fill commits bodies of size octets under new keys until so many segments more
// were reclaimed.
func fill(t testing.TB, s *Store, segments int64, size int, each func()) {
	t.Helper()
	for want, n := s.Stats().Reclaimed+segments, 0; s.Stats().Reclaimed < want; n++ {
		o := object(s, fmt.Sprint("filler ", n), 0, size)
		if err := s.Put(o); errors.Is(err, store.ErrFull) {
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if each != nil {
			each()
		}
		if n > 100_000 {
			t.Fatal("nothing is ever reclaimed")
		}
	}
}

// The oldest leave when there is no room, but for those that were used.
func TestReclaim(t *testing.T) {
	mem := vfs.NewMem(1 << 30)
	s := mustOpen(t, tiny(mem))
	hot, cold := put(t, s, "hot", 2000), put(t, s, "cold", 2000)
	large := put(t, s, "large", 100_000)
	use := func() {
		r, err := s.Open(ctx, store.Key("hot"), hot.ID, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, pattern("hot", 0, 2000)) {
			t.Fatalf("what is used has %d octets, %v", len(got), err)
		}
	}
	fill(t, s, 64, 5000, use)
	if ids := found(t, s, "cold"); len(ids) > 0 {
		t.Errorf("what is not used never leaves: %v, %d", ids, cold.ID)
	}
	if ids := found(t, s, "large"); len(ids) > 0 {
		t.Errorf("a body of reclaimed chunks is there: %v, %d", ids, large.ID)
	}
	if st := s.Stats(); st.Moved == 0 || st.Objects < 50 || st.Objects > 400 {
		t.Errorf("%+v", st)
	}
	s.Close()
	s = mustOpen(t, tiny(mem))
	use()
}

// A reader reads on though its entry was reclaimed, and even if so many readers
// stay that there is no room without overwriting, nobody reads wrong octets.
func TestReclaimUnderReaders(t *testing.T) {
	s := mustOpen(t, tiny(vfs.NewMem(1<<30)))
	e := put(t, s, "k", 200_000)
	r, err := s.Open(ctx, store.Key("k"), e.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 40, 5000, nil)
	if ids := found(t, s, "k"); len(ids) > 0 {
		t.Error("the entry was not reclaimed")
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, pattern("k", 0, 200_000)) {
		t.Errorf("the reader has %d octets, %v", len(got), err)
	}
	r.Close()

	var readers []io.ReadCloser
	for n := range 12 {
		key := fmt.Sprint("long ", n)
		e := put(t, s, key, 100_000)
		if r, err := s.Open(ctx, store.Key(key), e.ID, 0, -1); err != nil {
			t.Fatal(err)
		} else {
			readers = append(readers, r)
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, s, 40, 5000, nil)
	broken := 0
	for n, r := range readers {
		got, err := io.ReadAll(r)
		if !bytes.HasPrefix(pattern(fmt.Sprint("long ", n), 0, 100_000), got) || err == nil && len(got) != 100_000 {
			t.Errorf("reader %d has %d wrong octets", n, len(got))
		}
		if err != nil {
			broken++
		}
		r.Close()
	}
	if broken == 0 || broken == len(readers) {
		t.Errorf("%d of %d readers were cut off, want some", broken, len(readers))
	}
	fill(t, s, 20, 5000, nil) // all places are in use again
}

// A store that is too small for what is done to it never returns a wrong octet.
func TestHammerSmall(t *testing.T) {
	for _, disks := range []int{1, 2} {
		var fsys []vfs.FS
		for range disks {
			fsys = append(fsys, vfs.NewMem(1<<30))
		}
		storetest.Hammer(t, mustOpen(t, tiny(fsys...)))
	}
}

// A body of unknown length may grow to half of the disk, not more, and is there
// afterwards.
func TestLargest(t *testing.T) {
	s := mustOpen(t, tiny(vfs.NewMem(1<<30)))
	const most = 1 << 19
	body := pattern("k", 0, most)
	for _, declared := range []int64{-1, most} {
		w, err := s.Create(ctx, store.Key("k"), store.Head{}, declared)
		if err != nil {
			t.Fatal(err)
		}
		follower, err := w.Open(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		for rest := body; len(rest) > 0; rest = rest[min(7777, len(rest)):] {
			if _, err := w.Write(rest[:min(7777, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		e, err := w.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{0, 1, 16_383, 16_384, 65_536, 300_000, most - 1} {
			r, err := s.Open(ctx, store.Key("k"), e.ID, off, 20_000)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body[off:min(most, off+20_000)]) {
				t.Errorf("from %d there are %d octets, %v", off, len(got), err)
			}
			r.Close()
		}
		if got, err := io.ReadAll(follower); err != nil || !bytes.Equal(got, body) {
			t.Errorf("a follower has %d octets, %v", len(got), err)
		}
		follower.Close()
	}
	if _, err := s.Create(ctx, store.Key("k"), store.Head{}, most+1); !errors.Is(err, store.ErrFull) {
		t.Errorf("Create of more than half of the disk: %v", err)
	}
	w, err := s.Create(ctx, store.Key("k"), store.Head{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort(nil)
	if n, err := w.Write(make([]byte, most+1)); n != 0 || !errors.Is(err, store.ErrFull) {
		t.Errorf("Write of more than half of the disk: %d, %v", n, err)
	}
}
