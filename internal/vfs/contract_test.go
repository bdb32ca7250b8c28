package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// everyFS runs a test on each implementation.
func everyFS(t *testing.T, test func(t *testing.T, fsys FS)) {
	t.Run("Dir", func(t *testing.T) { test(t, tempDir(t)) })
	t.Run("Mem", func(t *testing.T) { test(t, &Mem{}) })
	t.Run("Faulty", func(t *testing.T) { test(t, &Faulty{FS: &Mem{}}) })
}

func tempDir(t *testing.T) *Folder {
	t.Helper()
	dir, err := Dir(filepath.Join(t.TempDir(), "made", "here"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, dir.Close()) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

const create = os.O_RDWR | os.O_CREATE

// open opens a file until the test ends.
func openFile(t testing.TB, fsys FS, name string, flag int) File {
	t.Helper()
	f, err := fsys.Open(name, flag)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() }) // some tests close it themselves
	return f
}

// put creates a file that holds text.
func put(t testing.TB, fsys FS, name, text string) File {
	t.Helper()
	f := openFile(t, fsys, name, create)
	write(t, f, text, 0)
	return f
}

func write(t testing.TB, f File, text string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(text), off); err != nil || n != len(text) {
		t.Fatalf("WriteAt: %d, %v", n, err)
	}
}

// held returns all that f holds.
func held(t testing.TB, f File) string {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n != len(p) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt: %d of %d, %v", n, size, err)
	}
	return string(p)
}

// text returns what the file of that name holds, or "-" if there is none.
func text(t testing.TB, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	defer f.Close()
	return held(t, f)
}

func TestOpenTakesTheFlagsItSays(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "there", "text")
		for _, c := range []struct {
			name string
			flag int
			err  error
			text string
		}{
			{"there", os.O_RDONLY, nil, "text"},
			{"there", os.O_RDWR, nil, "text"},
			{"there", create, nil, "text"},
			{"there", create | os.O_EXCL, fs.ErrExist, "text"},
			{"there", os.O_RDWR | os.O_TRUNC, nil, ""},
			{"there", create | os.O_TRUNC, nil, ""},
			{"not", os.O_RDONLY, fs.ErrNotExist, "-"},
			{"not", os.O_RDWR, fs.ErrNotExist, "-"},
			{"not", os.O_RDWR | os.O_TRUNC, fs.ErrNotExist, "-"},
			{"new1", create, nil, ""},
			{"new2", create | os.O_EXCL, nil, ""},
			{"new3", create | os.O_TRUNC, nil, ""},
			{"there", os.O_WRONLY, fs.ErrInvalid, ""},
			{"there", os.O_RDWR | os.O_APPEND, fs.ErrInvalid, ""},
			{"there", os.O_RDWR | os.O_EXCL, fs.ErrInvalid, ""},
			{"there", os.O_RDONLY | os.O_TRUNC, fs.ErrInvalid, ""},
		} {
			f, err := fsys.Open(c.name, c.flag)
			if !errors.Is(err, c.err) || err == nil != (c.err == nil) {
				t.Errorf("Open(%s, %#x): %v, want %v", c.name, c.flag, err, c.err)
			}
			if err == nil {
				must(t, f.Close())
			} else if f != nil {
				t.Errorf("Open(%s, %#x) returns a File and an error", c.name, c.flag)
			} else if !strings.Contains(err.Error(), c.name) {
				t.Errorf("Open(%s, %#x): the error %q does not name the file", c.name, c.flag, err)
			}
			if got := text(t, fsys, c.name); got != c.text {
				t.Errorf("after Open(%s, %#x) it holds %q, want %q", c.name, c.flag, got, c.text)
			}
		}
	})
}

func TestNamesDoNotLeaveTheFolder(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "a", "")
		for _, name := range []string{"", ".", "..", "../a", "/a", "b/a", `b\a`, "a/", "a\x00b"} {
			_, err := fsys.Open(name, create)
			wantErr(t, "Open", err, fs.ErrInvalid)
			wantErr(t, "Rename from", fsys.Rename(name, "x"), fs.ErrInvalid)
			wantErr(t, "Rename to", fsys.Rename("a", name), fs.ErrInvalid)
			wantErr(t, "Remove", fsys.Remove(name), fs.ErrInvalid)
			_, err = fsys.Lock(name)
			wantErr(t, "Lock", err, fs.ErrInvalid)
		}
		_, err := fsys.Open(strings.Repeat("n", 256), create)
		wantErr(t, "Open", err, syscall.ENAMETOOLONG)
		put(t, fsys, strings.Repeat("n", 255), "")
	})
}

func TestNamesAreRenamedAndRemoved(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		a, b := put(t, fsys, "a", "AA"), put(t, fsys, "b", "B")
		must(t, fsys.Rename("a", "b"))
		if got := text(t, fsys, "a") + text(t, fsys, "b"); got != "-AA" {
			t.Errorf("after Rename(a, b) they hold %q", got)
		}
		must(t, fsys.Rename("b", "b"))
		if got := held(t, a) + held(t, b); got != "AAB" {
			t.Errorf("open files hold %q after Rename", got)
		}
		must(t, fsys.Remove("b"))
		write(t, a, "X", 0)
		if got := text(t, fsys, "b") + held(t, a); got != "-XA" {
			t.Errorf("after Remove there is %q", got)
		}
		wantErr(t, "Remove", fsys.Remove("b"), fs.ErrNotExist)
		wantErr(t, "Rename", fsys.Rename("b", "c"), fs.ErrNotExist)
		must(t, fsys.Sync())
		for _, name := range []string{"z", "y", "x"} {
			put(t, fsys, name, "")
		}
		if names, err := fsys.List(); err != nil || !slices.Equal(names, []string{"x", "y", "z"}) {
			t.Errorf("List: %q, %v", names, err)
		}
	})
}

func TestFileRefuses(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "a", "text")
		f, one := openFile(t, fsys, "a", os.O_RDONLY), make([]byte, 1)
		refused := func(what string, err error) {
			t.Helper()
			if err == nil {
				t.Errorf("%s went through", what)
			}
		}
		_, err := f.WriteAt(one, 0)
		refused("WriteAt on a file for reading", err)
		refused("Truncate on a file for reading", f.Truncate(1))
		refused("Allocate on a file for reading", f.Allocate(10))
		must(t, f.Sync())
		must(t, f.Close())

		f = openFile(t, fsys, "a", os.O_RDWR)
		_, err = f.WriteAt(one, -1)
		refused("WriteAt(-1)", err)
		_, err = f.ReadAt(one, -1)
		refused("ReadAt(-1)", err)
		refused("Truncate(-1)", f.Truncate(-1))
		refused("Allocate(-1)", f.Allocate(-1))
		if got := held(t, f); got != "text" {
			t.Errorf("what was refused left %q", got)
		}
		must(t, f.Close())
		_, err = f.ReadAt(one, 0)
		wantErr(t, "ReadAt after Close", err, fs.ErrClosed)
		_, err = f.WriteAt(one, 0)
		wantErr(t, "WriteAt after Close", err, fs.ErrClosed)
		_, err = f.Size()
		wantErr(t, "Size after Close", err, fs.ErrClosed)
		wantErr(t, "Truncate after Close", f.Truncate(1), fs.ErrClosed)
		wantErr(t, "Allocate after Close", f.Allocate(1), fs.ErrClosed)
		wantErr(t, "Sync after Close", f.Sync(), fs.ErrClosed)
		wantErr(t, "Close after Close", f.Close(), fs.ErrClosed)
	})
}

// What ReadNow gives is what ReadAt gives, from the first octet on.
func TestReadNow(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		f := put(t, fsys, "a", "some text")
		now, ok := f.(Prompt)
		if !ok {
			t.Log("these files cannot")
			return
		}
		p := make([]byte, 20)
		n, err := now.ReadNow(p, 5)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Log("this file system cannot")
			return
		}
		if got := string(p[:n]); !strings.HasPrefix("text", got) {
			t.Errorf("ReadNow at 5: %q, %v", got, err)
		}
		if n, _ := now.ReadNow(p, 100); n != 0 {
			t.Errorf("ReadNow beyond the end: %d octets", n)
		}
		if n, err := now.ReadNow(nil, 0); n != 0 || err != nil {
			t.Errorf("ReadNow of nothing: %d, %v", n, err)
		}
		if _, err := now.ReadNow(p, -1); err == nil {
			t.Error("ReadNow(-1) went through")
		}
		must(t, f.Close())
		_, err = now.ReadNow(p, 0)
		wantErr(t, "ReadNow after Close", err, fs.ErrClosed)
	})
}

func TestAllocateKeepsOctets(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		f := put(t, fsys, "a", "text")
		for _, c := range []struct{ allocate, size int64 }{{0, 4}, {2, 4}, {10_000, 10_000}, {5_000, 10_000}} {
			must(t, f.Allocate(c.allocate))
			if size, err := f.Size(); err != nil || size != c.size {
				t.Errorf("Allocate(%d) leaves %d octets, want %d (%v)", c.allocate, size, c.size, err)
			}
		}
		if got := held(t, f); got != "text"+strings.Repeat("\x00", 9_996) {
			t.Error("Allocate changed octets")
		}
	})
}

func TestLockIsForOne(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		l, err := fsys.Lock("lock")
		must(t, err)
		_, err = fsys.Lock("lock")
		wantErr(t, "second Lock", err, ErrLocked)
		other, err := fsys.Lock("other")
		must(t, err)
		must(t, other.Close())
		must(t, l.Close())
		wantErr(t, "Close after Close", l.Close(), fs.ErrClosed)
		l, err = fsys.Lock("lock")
		must(t, err)
		must(t, l.Close())
		if got := text(t, fsys, "lock"); got != "" {
			t.Errorf("the locked file holds %q", got)
		}
	})
}

func TestFreeCountsDown(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		if n, err := fsys.Free(); err != nil || n <= 0 {
			t.Errorf("Free: %d, %v", n, err)
		}
	})
}

// A file is an array of octets, whatever was done to it in whatever order.
func TestFileIsAnArray(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		var model []byte
		f := openFile(t, fsys, "a", create)
		const most = 1 << 18
		for i := range 500 {
			off, size := r.Int64N(most), r.Int64N(20_000)
			if r.IntN(4) == 0 {
				off &^= pageLen - 1
			}
			switch r.IntN(12) {
			case 0:
				must(t, f.Truncate(off))
				model = resized(model, off)
			case 1:
				must(t, f.Allocate(off))
				model = resized(model, max(off, int64(len(model))))
			case 2:
				must(t, f.Sync())
			default:
				p := bytes.Repeat([]byte{byte(i)}, int(size))
				if n, err := f.WriteAt(p, off); err != nil || n != len(p) {
					t.Fatalf("seed %d: WriteAt: %d, %v", seed, n, err)
				}
				if size > 0 {
					model = resized(model, max(off+size, int64(len(model))))
				}
				copy(model[min(off, int64(len(model))):], p)
			}
			off, size = r.Int64N(most), r.Int64N(20_000)
			p := bytes.Repeat([]byte{0xaa}, int(size)) // zeros must be read too
			n, err := f.ReadAt(p, off)
			want := model[min(off, int64(len(model))):min(off+size, int64(len(model)))]
			if !bytes.Equal(p[:n], want) || errors.Is(err, io.EOF) != (n < len(p)) {
				t.Fatalf("seed %d, step %d: ReadAt(%d, %d) returns %d octets, %v; want %d", seed, i, size, off, n, err, len(want))
			}
		}
		if held(t, f) != string(model) {
			t.Errorf("seed %d: the file holds something else", seed)
		}
	})
}

func resized(p []byte, size int64) []byte {
	if size <= int64(len(p)) {
		return p[:size:size]
	}
	return append(p, make([]byte, size-int64(len(p)))...)
}

// Every method may be called by any number of goroutines: no lost write, no
// race, no deadlock.
func TestManyAtOnce(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS) {
		shared := openFile(t, fsys, "shared", create)
		const workers, rounds, part = 8, 40, 3000
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				p := bytes.Repeat([]byte{byte(w + 1)}, part)
				own, name := string(rune('a'+w)), string(rune('A'+w))
				for range rounds {
					_, err := shared.WriteAt(p, int64(w*part))
					_, readErr := shared.ReadAt(make([]byte, part), int64(w*part))
					f, openErr := fsys.Open(own, create)
					if err := errors.Join(err, readErr, openErr); err != nil {
						t.Error(err)
						return
					}
					_, listErr := fsys.List()
					_, freeErr := fsys.Free()
					_, sizeErr := shared.Size()
					err = errors.Join(listErr, freeErr, sizeErr, f.Truncate(10), f.Sync(), shared.Sync(),
						fsys.Rename(own, name), fsys.Sync(), fsys.Remove(name), f.Close())
					if err != nil {
						t.Error(err)
					}
					if m, ok := fsys.(*Mem); ok {
						m.Clone()
					}
				}
			})
		}
		wg.Wait()
		all := held(t, shared)
		for i := range all {
			if int(all[i]) != i/part+1 {
				t.Fatalf("octet %d is %d", i, all[i])
			}
		}
	})
}
