package disk

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
)

func TestDbg(t *testing.T) {
	for seed := uint64(1); seed < 3000; seed++ {
		n := int64(40 + seed%200)
		w := newWorld(t, seed)
		mem := vfs.NewMem(1 << 30)
		var what string
		disk := &vfs.Faulty{FS: mem, Hook: func(op vfs.Op) vfs.Fault {
			if op.N == n {
				what = fmt.Sprintf("%+v", op)
				return vfs.Fail(syscall.EIO)
			}
			return vfs.Fault{}
		}}
		var notes []string
		for run := range 2 {
			o := tiny(disk)
			o.Notes = func(l string) { notes = append(notes, fmt.Sprint(run, l)) }
			s, err := Open(o)
			if err != nil {
				notes = append(notes, err.Error())
				continue
			}
			for range 25 {
				w.step(s)
			}
			notes = append(notes, fmt.Sprintf("%+v", s.Stats()))
			if w.r.IntN(2) == 0 {
				notes = append(notes, fmt.Sprint("cp ", s.volumeOf(0).checkpoint(ctx)))
			}
			w.verify(s, true)
			notes = append(notes, fmt.Sprint("close ", s.Close()))
		}
		s := mustOpen(t, quiet(tiny(mem)))
		w.verify(s, false)
		s.Close()
		if t.Failed() {
			t.Fatal(seed, what, notes)
		}
	}
}
