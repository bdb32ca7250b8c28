package disk

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
)

// What was written last is there as soon as it was read, while what is older is
// still being looked for; what was removed, replaced or forgotten is not, in
// either part, not even for a moment.
func TestShownWhileRecovering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 30)
		opts := tiny(mem)
		opts.CheckpointEvery = time.Hour
		s := mustOpen(t, opts)
		old := put(t, s, "old", 3000)
		removed := put(t, s, "removed later", 3000)
		put(t, s, "forgotten later", 3000)
		put(t, s, "forgotten while it is recovered", 3000)
		for i := range 3 { // now in older segments than what follows
			for j := range 20 {
				put(t, s, fmt.Sprint("filler ", i, j), 3000)
			}
		}
		replaced := put(t, s, "replaced", 3000)
		last := put(t, s, "replaced", 3000, replaced.ID)
		if err := s.Remove(ctx, store.Key("removed later"), removed.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.Forget(ctx, store.Key("forgotten later")); err != nil {
			t.Fatal(err)
		}
		mem = mem.Clone().Crash(nil, vfs.ProcessDied)
		s.Close()

		// The oldest segment is in the first place of the file.
		hold := make(chan struct{})
		opts = tiny(&vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
			if op.Kind == vfs.OpReadAt && op.Name == "segments" && op.Off < 64<<10 {
				return vfs.Fault{}.After(hold)
			}
			return vfs.Fault{}
		}})
		opts.Patience = time.Hour
		s, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if ids := found(t, s, "replaced"); len(ids) != 1 || ids[0] != last.ID {
			t.Errorf("of what was written last there is %v, want %d", ids, last.ID)
		}
		if ids := found(t, s, "old"); len(ids) != 0 {
			t.Errorf("%v is there: the first segment was not held back", ids)
		}
		if err := s.Forget(ctx, store.Key("forgotten while it is recovered")); err != nil {
			t.Fatal(err)
		}
		after := put(t, s, "forgotten while it is recovered", 100)
		gone := func(when string) {
			t.Helper()
			for _, key := range []string{"removed later", "forgotten later"} {
				if ids := found(t, s, key); len(ids) != 0 {
					t.Errorf("%s: %q has come back as %v", when, key, ids)
				}
			}
			if ids := found(t, s, "forgotten while it is recovered"); len(ids) != 1 || ids[0] != after.ID {
				t.Errorf("%s: of what was forgotten there is %v, want %d, which came after", when, ids, after.ID)
			}
		}
		gone("while it is recovered")
		close(hold)
		<-s.Ready()
		gone("recovered")
		if ids := found(t, s, "old"); len(ids) != 1 || ids[0] != old.ID {
			t.Errorf("of what is old there is %v, want %d", ids, old.ID)
		}
		mem = mem.Clone().Crash(nil, vfs.ProcessDied)
		s.Close()
		s = mustOpen(t, tiny(mem))
		<-s.Ready()
		gone("after one more end")
		s.Close()
	})
}

// If the index that a run left when it ended in peace proves damaged, an older one
// may do: but what was written and removed since is not forgotten.
func TestOlderCheckpoint(t *testing.T) {
	mem := vfs.NewMem(1 << 30)
	keeps := &vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpRemove {
			return vfs.Fail(syscall.EIO)
		}
		return vfs.Fault{}
	}}
	s := mustOpen(t, tiny(mem))
	removed, replaced := put(t, s, "removed", 100), put(t, s, "replaced", 100)
	kept := put(t, s, "kept", 100)
	s.Close()
	s = mustOpen(t, quiet(tiny(keeps)))
	if err := s.Remove(ctx, store.Key("removed"), removed.ID); err != nil {
		t.Fatal(err)
	}
	last := put(t, s, "replaced", 100, replaced.ID)
	s.Close()

	names, err := checkpoints(mem)
	if err != nil || len(names) != 2 {
		t.Fatalf("there are %v, %v", names, err)
	}
	f, err := mem.Open(names[0], os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt([]byte("rot"), size-4)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, quiet(tiny(mem)))
	defer s.Close()
	for key, want := range map[string][]store.ID{"removed": nil, "replaced": {last.ID}, "kept": {kept.ID}} {
		if ids := found(t, s, key); !slices.Equal(ids, want) {
			t.Errorf("%q: there are %v, want %v", key, ids, want)
		}
	}
}
