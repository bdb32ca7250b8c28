package vfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// only is a Hook for calls of one Kind.
func only(kind Kind, fault Fault) func(Op) Fault {
	return func(op Op) Fault {
		if op.Kind == kind {
			return fault
		}
		return Fault{}
	}
}

// every makes one call of each Kind, and returns the error of each.
func every(t *testing.T, fsys FS) map[Kind]error {
	t.Helper()
	errs := map[Kind]error{}
	var f File
	if f, errs[OpOpen] = fsys.Open("a", create); errs[OpOpen] == nil {
		_, errs[OpWriteAt] = f.WriteAt([]byte("text"), 10)
		_, errs[OpReadAt] = f.ReadAt(make([]byte, 4), 0)
		_, errs[OpSize] = f.Size()
		errs[OpTruncate] = f.Truncate(4)
		errs[OpAllocate] = f.Allocate(8)
		errs[OpSync] = f.Sync()
		errs[OpClose] = f.Close()
	}
	l, err := fsys.Lock("lock")
	if errs[OpLock] = err; err == nil {
		errs[OpUnlock] = l.Close()
	}
	_, errs[OpList] = fsys.List()
	_, errs[OpFree] = fsys.Free()
	errs[OpRename] = fsys.Rename("a", "b")
	errs[OpSyncDir] = fsys.Sync()
	errs[OpRemove] = fsys.Remove("b")
	return errs
}

const kinds = 15

func TestHookSeesEveryCall(t *testing.T) {
	var seen []Op
	d := &Faulty{FS: &Mem{}, Hook: func(op Op) Fault {
		seen = append(seen, op)
		return Fault{}
	}}
	for kind, err := range every(t, d) {
		if err != nil && kind != OpReadAt {
			t.Errorf("%s: %v", kind, err)
		}
	}
	want := []Op{
		{1, OpOpen, "a", "", 0, 0},
		{2, OpWriteAt, "a", "", 10, 4},
		{3, OpReadAt, "a", "", 0, 4},
		{4, OpSize, "a", "", 0, 0},
		{5, OpTruncate, "a", "", 0, 4},
		{6, OpAllocate, "a", "", 0, 8},
		{7, OpSync, "a", "", 0, 0},
		{8, OpClose, "a", "", 0, 0},
		{9, OpLock, "lock", "", 0, 0},
		{10, OpUnlock, "lock", "", 0, 0},
		{11, OpList, "", "", 0, 0},
		{12, OpFree, "", "", 0, 0},
		{13, OpRename, "a", "b", 0, 0},
		{14, OpSyncDir, "", "", 0, 0},
		{15, OpRemove, "b", "", 0, 0},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the hook saw\n%v, want\n%v", seen, want)
	}
	if d.Count() != kinds {
		t.Errorf("Count is %d", d.Count())
	}
}

// each call can fail with each error, and none but that one fails.
func TestEachCallFailsInTurn(t *testing.T) {
	for _, disk := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE} {
		var kind Kind
		for n := int64(1); n <= kinds; n++ {
			hook := FailNth(n, disk)
			d := &Faulty{FS: tempDir(t), Hook: func(op Op) Fault {
				if op.N == n {
					kind = op.Kind
				}
				return hook(op)
			}}
			err := every(t, d)[kind]
			wantErr(t, string(kind), err, disk)
			var path *fs.PathError
			if !errors.As(err, &path) || path.Op != string(kind) {
				t.Errorf("%v does not say that it was %s", err, kind)
			}
		}
	}
}

func TestFailDoesNothing(t *testing.T) {
	m := &Mem{}
	f := put(t, m, "a", "text")
	must(t, f.Sync())
	must(t, m.Sync())
	d := &Faulty{FS: m}
	f = openFile(t, d, "a", os.O_RDWR)
	d.Hook = func(Op) Fault { return Fail(syscall.EIO) }
	if n, err := f.WriteAt([]byte("lost"), 0); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("WriteAt: %d, %v", n, err)
	}
	for _, err := range []error{f.Truncate(1), f.Allocate(9), d.Rename("a", "b"), d.Remove("a")} {
		wantErr(t, "call", err, syscall.EIO)
	}
	if got := tree(t)(m); got != "a=text" {
		t.Errorf("what failed left %q", got)
	}
}

func TestWriteInPart(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
		n     int
		text  string
	}{
		{"Fail", Fail(syscall.EIO), 0, ""},
		{"Short", Short(3, syscall.EIO), 3, "fir"},
		{"Short of more", Short(9, syscall.EIO), 5, "first"},
		{"Short of less", Short(-1, syscall.EIO), 0, ""},
		{"Torn", Torn(3, syscall.EIO), 0, "fir"},
		{"Late", Late(syscall.EIO), 0, "first"},
	} {
		m := &Mem{}
		f := openFile(t, &Faulty{FS: m, Hook: only(OpWriteAt, c.fault)}, "a", create)
		n, err := f.WriteAt([]byte("first"), 0)
		wantErr(t, c.name, err, syscall.EIO)
		if got := text(t, m, "a"); n != c.n || got != c.text {
			t.Errorf("%s says %d and writes %q, want %d and %q", c.name, n, got, c.n, c.text)
		}
	}
}

func TestLateDoesAllAndFails(t *testing.T) {
	m := &Mem{}
	must(t, put(t, m, "a", "text").Close())
	d := &Faulty{FS: m, Hook: func(Op) Fault { return Late(syscall.EIO) }}
	wantErr(t, "Rename", d.Rename("a", "b"), syscall.EIO)
	if f, err := d.Open("c", create); f != nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("Open returns %v, %v", f, err)
	}
	if l, err := d.Lock("lock"); l != nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("Lock returns %v, %v", l, err)
	}
	l, err := m.Lock("lock") // it was let go of
	must(t, err)
	must(t, l.Close())
	if got := tree(t)(m); got != "b=text c= lock=" {
		t.Errorf("there is %q", got)
	}
}

func TestFlipBitTellsNobody(t *testing.T) {
	m := &Mem{}
	put(t, m, "a", "abc")
	for bit, want := range []string{0: "`bc", 1: "cbc", 8: "acc", 24: "`bc"} {
		if want == "" {
			continue
		}
		f := openFile(t, &Faulty{FS: m, Hook: only(OpReadAt, FlipBit(int64(bit)))}, "a", os.O_RDONLY)
		if got := held(t, f); got != want {
			t.Errorf("with bit %d it reads %q, want %q", bit, got, want)
		}
	}
	if got := text(t, m, "a"); got != "abc" {
		t.Errorf("the file holds %q", got)
	}
}

func TestAfterHoldsTheCallBack(t *testing.T) {
	asked, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	m := &Mem{}
	d := &Faulty{FS: m, Hook: func(Op) Fault {
		close(asked)
		return Fail(syscall.EIO).After(goOn)
	}}
	go func() { done <- d.Remove("a") }()
	<-asked
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
	default:
	}
	put(t, m, "a", "") // the folder itself is not held up
	close(goOn)
	wantErr(t, "Remove", <-done, syscall.EIO)
}

// A Sync that failed has lost what it was for; one that was not reached before
// the crash has not.
func TestFailedSyncLosesUnlessItCrashed(t *testing.T) {
	for _, c := range []struct {
		fail error
		want bool
	}{{syscall.EIO, false}, {ErrCrashed, true}} {
		m := &Mem{}
		d := &Faulty{FS: m}
		f := put(t, d, "a", "text")
		must(t, d.Sync())
		d.Hook = only(OpSync, Fail(c.fail))
		wantErr(t, "Sync", f.Sync(), c.fail)
		if got := slices.Contains(outcomes(m, PowerCut, tree(t)), "a=text"); got != c.want {
			t.Errorf("after %v a power cut can leave it: %t", c.fail, got)
		}
		d.Hook = nil
		must(t, f.Sync())
		if got := tree(t)(m.Crash(nil, UnsyncedLost)) == "a=text"; got != c.want {
			t.Errorf("after %v the next Sync makes it durable: %t", c.fail, got)
		}
	}
}

func TestFaultsLeaveNothingOpen(t *testing.T) {
	for _, fault := range []Fault{Fail(syscall.EIO), Late(syscall.EIO)} {
		dir := tempDir(t)
		d := &Faulty{FS: dir}
		f := put(t, d, "a", "")
		l, err := d.Lock("lock")
		must(t, err)
		d.Hook = func(Op) Fault { return fault }
		wantErr(t, "Close", f.Close(), syscall.EIO)
		wantErr(t, "Close of a lock", l.Close(), syscall.EIO)
		wantErr(t, "Close of the file below", f.(*faultyFile).file.Close(), fs.ErrClosed)
		l, err = dir.Lock("lock")
		must(t, err)
		must(t, l.Close())
	}
}

// replace is how one puts a new file in the place of another.
func replace(fsys FS, text string) (err error) {
	f, err := fsys.Open("new", create|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename("new", "a"); err != nil {
		return err
	}
	return fsys.Sync()
}

// the loop that the disk store's tests make, on a small customer:
// a crash at every call, and all that the disk may hold then.
func TestCrashAtEveryCall(t *testing.T) {
	for n := int64(1); ; n++ {
		m, _ := synced(t, "old")
		d := &Faulty{FS: m, Hook: CrashNth(n)}
		err := replace(d, "fresh")
		crashed := d.Count() >= n
		if crashed != errors.Is(err, ErrCrashed) {
			t.Fatalf("crash at call %d of %d: %v", n, d.Count(), err)
		}
		for _, left := range outcomes(m, PowerCutWide, tree(t)) {
			a, _, _ := strings.Cut(left, " ")
			if a != "a=fresh" && (!crashed || a != "a=old") {
				t.Errorf("a crash at call %d leaves %q", n, left)
			}
		}
		if !crashed {
			if n < 5 {
				t.Errorf("it took %d calls", n-1)
			}
			return
		}
	}
}

func TestNothingWorksAfterTheCrash(t *testing.T) {
	m := &Mem{}
	d := &Faulty{FS: m, Hook: CrashNth(2)}
	f := openFile(t, d, "a", create)
	for range 3 {
		_, err := f.WriteAt([]byte("text"), 0)
		wantErr(t, "WriteAt", err, ErrCrashed)
		wantErr(t, "Sync", f.Sync(), ErrCrashed)
		wantErr(t, "FS.Sync", d.Sync(), ErrCrashed)
	}
	if got := tree(t)(m); got != "a=" {
		t.Errorf("there is %q", got)
	}
}

func TestChoicesMakesEachSequenceOnce(t *testing.T) {
	var seen []string
	for chance := range Choices() {
		s := string(rune('a' + chance.IntN(2)))
		if s == "b" {
			s += string(rune('0'+chance.IntN(3))) + string(rune('x'+chance.IntN(1)))
		}
		seen = append(seen, s)
	}
	if want := []string{"a", "b0x", "b1x", "b2x"}; !slices.Equal(seen, want) {
		t.Errorf("it makes %q, want %q", seen, want)
	}
	n := 0
	for range Choices() { // nothing to decide: once
		n++
	}
	if n != 1 {
		t.Errorf("with nothing to decide there are %d", n)
	}
}
