package disk

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
)

// A disk that is in use, or of another version, is refused with what to do; one
// whose descriptions are both destroyed begins anew, and that is noted.
func TestOpenRefuses(t *testing.T) {
	mem := vfs.NewMem(1 << 30)
	s := mustOpen(t, tiny(mem))
	put(t, s, "k", 100)
	if _, err := Open(tiny(mem)); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("Open of a disk in use: %v", err)
	}
	s.Close()

	other := mem.Clone()
	super, err := readSuper(other)
	if err != nil {
		t.Fatal(err)
	}
	super.Format++
	if err := writeSuper(other, super); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(tiny(other)); !errors.Is(err, errFormat) || !strings.Contains(fmt.Sprint(err), "empty the folder") {
		t.Errorf("Open of another version: %v", err)
	}

	for _, name := range []string{superName, spareName} {
		if err := mem.Flip(name, 20, 3); err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	opts := tiny(mem)
	opts.Notes = func(line string) { notes = append(notes, line) }
	s = mustOpen(t, opts)
	if ids := found(t, s, "k"); len(ids) > 0 {
		t.Errorf("a disk that begins anew has %v", ids)
	}
	put(t, s, "k", 100)
	if len(notes) != 1 || !strings.Contains(notes[0], "begins anew") {
		t.Errorf("notes: %q", notes)
	}
}

// Options that cannot work are refused with what to give instead; more room given
// later is used, and less is enough.
func TestSizes(t *testing.T) {
	for _, opts := range []Options{
		{},
		{Segment: 1000, Disks: []Disk{{FS: vfs.NewMem(1 << 30), Size: 1 << 20}}},
		{Segment: 64 << 10, Disks: []Disk{{FS: vfs.NewMem(1 << 30), Size: 3 * 64 << 10}}},
	} {
		if _, err := Open(opts); err == nil || !strings.Contains(err.Error(), "give") {
			t.Errorf("Open with segments of %d octets: %v", opts.Segment, err)
		}
	}
	mem := vfs.NewMem(1 << 30)
	for _, size := range []int64{1 << 20, 2 << 20, 512 << 10} {
		opts := tiny(mem)
		opts.Disks[0].Size = size
		s := mustOpen(t, opts)
		if got := s.Stats().Size; got != size {
			t.Errorf("given %d octets, it has %d", size, got)
		}
		if size == 2<<20 && len(found(t, s, "k")) == 0 {
			t.Error("an entry was lost when the disk grew")
		}
		fill(t, s, size>>16, 5000, nil)
		for s.Put(object(s, "k", 0, 100)) != nil {
			fill(t, s, 1, 5000, nil)
		}
		s.Close()
	}
}
