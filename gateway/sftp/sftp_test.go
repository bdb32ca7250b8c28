package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestAsksNothingBeforeItIsAsked(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	for _, name := range []string{"a\nb", "a\rb", "a\x00", "\x7f", "..", "a/../b", "a/./b", "a//b", "/a", "a/", `a\..\b`, "a/.. /b", strings.Repeat("a/", 100) + "a"} {
		if _, err := src.Open(t.Context(), name, gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open %q: %v", name, err)
		}
		if _, err := src.List(t.Context(), name, 1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List %q: %v", name, err)
		}
		if _, err := src.Put(t.Context(), name, strings.NewReader(""), 0, nil, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Put %q: %v", name, err)
		}
		if err := src.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete %q: %v", name, err)
		}
	}
	if n := s.dials(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestFewConnectionsCarryManyRequests(t *testing.T) {
	s := serve(t)
	octets := gatewaytest.Octets(1<<20, 1)
	s.put(t, "x", octets, gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 2 }))
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || !bytes.Equal(got, octets) {
				t.Errorf("%d octets, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if n := s.dials(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

func TestRelativeRootIsBelowHome(t *testing.T) {
	s := serve(t)
	s.put(t, "sub/x", []byte("here"), gatewaytest.Past())
	for root, name := range map[string]string{"": "sub/x", "sub": "x", ".": "sub/x"} {
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Root = root }))
		if got, err := gatewaytest.Read(t.Context(), src, name, 0, -1); err != nil || string(got) != "here" {
			t.Errorf("root %q: %q %v", root, got, err)
		}
	}
}

func TestBrokenConnectionIsReplaced(t *testing.T) {
	s := serve(t)
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil {
		t.Fatal(err)
	}
	c, err := src.conns.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	src.conns.put(c)
	s.hangUp()
	<-c.dead // noticed though nobody asks
	if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
		t.Errorf("%q %v", got, err)
	}
}

func TestPeerThatVanishedIsNoticed(t *testing.T) {
	s := serve(t, func(s *server) { s.mute = true })
	src := gatewaytest.Closing(t, s.source(t))
	src.beat = 10 * time.Millisecond
	c, err := src.conns.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-c.dead
	src.conns.put(c)
}

// TestRefusalIsASignOfLife: no server knows the question, and all answer it.
func TestRefusalIsASignOfLife(t *testing.T) {
	s := serve(t, func(s *server) { s.beats = make(chan byte, 100) })
	src := gatewaytest.Closing(t, s.source(t))
	src.beat = 300 * time.Millisecond
	c, err := src.conns.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer src.conns.put(c)
	for range 3 {
		<-s.beats
	}
	if c.isDead() {
		t.Error("hung up")
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	src.beat, src.idle = 5*time.Millisecond, time.Millisecond
	o, err := src.Open(t.Context(), "", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	c := o.(*object).conn
	_ = o.Close()
	<-c.dead
}

// resolving makes REALPATH resolve links, as OpenSSH's does and the library's does not.
func resolving(s *server) {
	s.hook = func(kind byte, payload []byte) (byte, []byte) {
		if kind != opRealpath {
			return 0, nil
		}
		path, err := filepath.EvalSymlinks(filepath.Join("/", string(payload[8:])))
		if err != nil {
			return reStatus, status(2)
		}
		return reName, slices.Concat(binary.BigEndian.AppendUint32(nil, 1), text(path), text(path), make([]byte, 4))
	}
}

func TestLinksDoNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, resolves := range []bool{true, false} {
		s := serve(t, func(s *server) {
			if resolves {
				resolving(s)
			}
		})
		s.put(t, "dir/x", []byte("inside"), gatewaytest.Past())
		for name, target := range map[string]string{
			"in": "dir/x", "indir": "dir", "out": filepath.Join(outside, "secret"), "outdir": outside, "up": "../..", "self": "self", "none": "dir/none", "beside": s.dir + "-more",
		} {
			if err := os.Symlink(target, filepath.Join(s.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		src := gatewaytest.Closing(t, s.source(t))
		for _, name := range []string{"out", "outdir", "outdir/secret", "up", "self", "none", "beside", "up/" + filepath.Base(filepath.Dir(s.dir))} {
			if _, err := src.Open(t.Context(), name, gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) && (name != "self" || err == nil) {
				t.Errorf("resolves %t: Open %q: %v", resolves, name, err)
			}
			if _, err := src.List(t.Context(), name, 9); err == nil {
				t.Errorf("resolves %t: listed %q", resolves, name)
			}
			if _, err := src.Put(t.Context(), name+"/new", strings.NewReader("x"), 1, nil, gateway.If{}); err == nil {
				t.Errorf("resolves %t: Put below %q", resolves, name)
			}
		}
		listed, err := src.List(t.Context(), "", 99)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"dir"}
		if resolves {
			want = append(want, "in", "indir")
		}
		var names []string
		for _, i := range listed {
			names = append(names, i.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("resolves %t: listed %q", resolves, names)
		}
		for _, name := range []string{"in", "indir/x"} {
			got, err := gatewaytest.Read(t.Context(), src, name, 0, -1)
			if resolves && (err != nil || string(got) != "inside") || !resolves && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("resolves %t: %q: %q %v", resolves, name, got, err)
			}
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("outside: %v %v", entries, err)
		}
	}
}

func TestRangeOfHugeObjectReadsLittle(t *testing.T) {
	s := serve(t)
	s.put(t, "huge", nil, time.Time{})
	path := filepath.Join(s.dir, "huge")
	const size, mib = 1 << 40, 1 << 20
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	end := gatewaytest.Octets(mib, 1)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(end, size-mib); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	src := gatewaytest.Closing(t, s.source(t))
	got, err := gatewaytest.Read(t.Context(), src, "huge", size-mib, mib)
	if err != nil || !bytes.Equal(got, end) || s.count(opRead) != 32 {
		t.Errorf("%d octets by %d requests, %v", len(got), s.count(opRead), err)
	}
}

// TestRoundTrips counts what is asked for a small file in a folder: it must not creep up.
func TestRoundTrips(t *testing.T) {
	s := serve(t)
	s.put(t, "dir/x", []byte("here"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := gatewaytest.Read(t.Context(), src, "dir/x", 0, -1); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[byte]int{opRealpath: 2, opOpen: 1, opFstat: 2, opRead: 1} { // one REALPATH is of the root
		if got := s.count(kind); got != want {
			t.Errorf("%d requests of type %d, want %d", got, kind, want)
		}
	}
	o, err := src.Open(t.Context(), "dir/x", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	known := o.Info()
	_ = o.Close()
	o, err = src.Open(t.Context(), "dir/x", gateway.Want{Unless: known.Version, N: -1})
	if err != nil || !o.Info().Unchanged || s.count(opOpen) != 1 {
		t.Errorf("opened again: %v", err)
	}
	_ = o.Close()
}

func TestReadsAreAskedForAhead(t *testing.T) {
	many := make(chan struct{})
	var reads atomic.Int32
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind != opRead {
				return 0, nil
			}
			if reads.Add(1) == 16 {
				close(many)
			}
			return never, nil
		}
	})
	s.put(t, "x", make([]byte, 4<<20), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-many // though not one of them was answered
		cancel()
	}()
	if _, err := gatewaytest.Read(ctx, src, "x", 0, -1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestHangingServerHarmsNobodyElse(t *testing.T) {
	for _, what := range []byte{opRealpath, opOpen, opFstat, opRead, opReaddir, opWrite} {
		var hangs atomic.Bool
		asked := make(chan struct{}, 1000)
		s := serve(t, func(s *server) {
			s.hook = func(kind byte, _ []byte) (byte, []byte) {
				if kind != what || !hangs.Load() {
					return 0, nil
				}
				asked <- struct{}{}
				return never, nil
			}
		})
		s.put(t, "x", []byte("here"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 }))
		if _, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil {
			t.Fatal(err)
		}
		hangs.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			hangs.Store(false)
			cancel()
		}()
		var err error
		switch what {
		case opReaddir:
			_, err = src.List(ctx, "", 9)
		case opWrite:
			_, err = src.Put(ctx, "new", strings.NewReader("new"), 3, nil, gateway.If{})
		default:
			_, err = gatewaytest.Read(ctx, src, "x", 0, -1)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("type %d: %v", what, err)
		}
		if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "here" {
			t.Errorf("type %d, after it: %q %v", what, got, err)
		}
		if n := s.dials(); n != 1 {
			t.Errorf("type %d: %d connections", what, n)
		}
	}
}

// TestServerThatAnswersNobodyIsLeft: an answer that nobody waits for has to come some day.
func TestServerThatAnswersNobodyIsLeft(t *testing.T) {
	asked := make(chan struct{})
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind == opRead {
				close(asked)
				return never, nil
			}
			return 0, nil
		}
	})
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	ctx, cancel := context.WithCancel(t.Context())
	o, err := src.Open(ctx, "x", gateway.Want{N: -1})
	if err != nil {
		t.Fatal(err)
	}
	o.(*object).conn.patience = 20 * time.Millisecond
	r, err := o.Range(ctx, 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, _ = r.Close(), o.Close()
	<-o.(*object).conn.dead
}

func TestShortAnswersAreFilledUp(t *testing.T) {
	octets := gatewaytest.Octets(200_000, 1)
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, p []byte) (byte, []byte) {
			if kind != opRead {
				return 0, nil
			}
			p = p[8+binary.BigEndian.Uint32(p[4:]):] // id and handle
			off := int(binary.BigEndian.Uint64(p))
			return reData, text(string(octets[off:min(off+20_000, len(octets))]))
		}
	})
	s.put(t, "x", octets, gatewaytest.Past())
	if got, err := gatewaytest.Read(t.Context(), gatewaytest.Closing(t, s.source(t)), "x", 0, -1); err != nil || !bytes.Equal(got, octets) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

func TestMalformedAnswersAreErrors(t *testing.T) {
	octets := gatewaytest.Octets(100_000, 1)
	for what, answer := range map[string]struct {
		kind byte
		b    []byte
	}{
		"the end":      {reStatus, status(1)},
		"success":      {reStatus, status(0)},
		"failure":      {reStatus, status(4)},
		"nothing":      {reData, text("")},
		"a lie":        {reData, binary.BigEndian.AppendUint32(nil, 1<<31)},
		"no length":    {reData, nil},
		"another type": {reName, text("x")},
		"unknown type": {42, text("x")},
	} {
		s := serve(t, func(s *server) {
			var reads atomic.Int32
			s.hook = func(kind byte, _ []byte) (byte, []byte) {
				if kind == opRead && (reads.Add(1) > 2 || what != "nothing") && reads.Load() < 1000 {
					return answer.kind, answer.b
				}
				return 0, nil
			}
		})
		s.put(t, "x", octets, gatewaytest.Past())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err := gatewaytest.Read(ctx, gatewaytest.Closing(t, s.source(t)), "x", 0, -1)
		cancel()
		if err == nil && !bytes.Equal(got, octets) || err == nil && what != "nothing" {
			t.Errorf("%s: %d octets, %v", what, len(got), err)
		}
	}
}

func TestTruncatedObjectIsChanged(t *testing.T) {
	s := serve(t)
	s.put(t, "x", make([]byte, 300_000), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	o, err := src.Open(t.Context(), "x", gateway.Want{N: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	s.put(t, "x", []byte("short"), gatewaytest.Past())
	if _, err := o.Range(t.Context(), 0, 300_000); !errors.Is(err, gateway.ErrChanged) {
		t.Error(err)
	}
}

func TestEndlessFolderIsBrokenOff(t *testing.T) {
	var answers atomic.Int32
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind != opReaddir {
				return 0, nil
			}
			b := binary.BigEndian.AppendUint32(nil, 100)
			for i := range 100 {
				name := fmt.Sprintf("file %d.%d", answers.Load(), i)
				b = slices.Concat(b, text(name), text("-rw-r--r-- "+name), binary.BigEndian.AppendUint32(nil, 1), binary.BigEndian.AppendUint64(nil, 7))
			}
			answers.Add(1)
			return reName, b
		}
	})
	src := gatewaytest.Closing(t, s.source(t))
	got, err := src.List(t.Context(), "", 50)
	if err != nil || len(got) != 50 || got[49].Size != 7 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	if n := answers.Load(); n > 50 {
		t.Errorf("asked %d times", n)
	}
}

func TestNamesFromTheServerStayInTheFolder(t *testing.T) {
	asked := false
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind != opReaddir || asked {
				return 0, nil
			}
			asked = true
			b := binary.BigEndian.AppendUint32(nil, 5)
			for _, name := range []string{"../../x", "a\nb", "/etc/passwd", "..", "good"} {
				b = slices.Concat(b, text(name), text(name), make([]byte, 4))
			}
			return reName, b
		}
	})
	got, err := gatewaytest.Closing(t, s.source(t)).List(t.Context(), "", 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range got {
		if strings.ContainsAny(i.Name, "/\n") || i.Name == ".." {
			t.Errorf("%+v", i)
		}
	}
}

// leftovers are files of Put that should be gone.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".larder-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFailedReplacementLeavesTheOldObject(t *testing.T) {
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, p []byte) (byte, []byte) {
			if kind == opExtended && bytes.Contains(p, []byte(posixRename)) {
				return reStatus, status(4)
			}
			return 0, nil
		}
	})
	s.put(t, "x", []byte("old"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{}); err == nil {
		t.Error("went through")
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "x")); err != nil || string(got) != "old" {
		t.Errorf("%q %v", got, err)
	}
	if l := leftovers(t, s.dir); len(l) > 0 {
		t.Error(l)
	}
}

// TestReplacesWithoutTheExtension has a server whose rename replaces nothing, as the
// protocol says, and which may fail in the middle.
func TestReplacesWithoutTheExtension(t *testing.T) {
	withoutExtensions(t)
	for _, failing := range []int32{0, 1, 2} {
		var renames atomic.Int32
		s := serve(t, func(s *server) {
			s.hook = func(kind byte, p []byte) (byte, []byte) {
				if kind != opRename {
					return 0, nil
				}
				p = p[4:]
				to := p[4+binary.BigEndian.Uint32(p)+4:]
				if _, err := os.Lstat(string(to)); err == nil || renames.Add(1) == failing {
					return reStatus, status(4)
				}
				return 0, nil
			}
		})
		s.put(t, "x", []byte("old"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		_, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
		want := "new"
		if failing > 0 {
			want = "old"
		}
		if got, readErr := os.ReadFile(filepath.Join(s.dir, "x")); readErr != nil || string(got) != want || (err == nil) != (failing == 0) {
			t.Errorf("rename %d fails: %q %v (%v)", failing, got, readErr, err)
		}
		if l := leftovers(t, s.dir); len(l) > 0 {
			t.Errorf("rename %d fails: %q", failing, l)
		}
		if _, err := src.Put(t.Context(), "fresh", strings.NewReader("new"), 3, nil, gateway.If{Absent: true}); err != nil {
			t.Errorf("a new one: %v", err)
		}
	}
}

// TestAbsentHoldsToTheEnd: another writer comes just before the rename.
func TestAbsentHoldsToTheEnd(t *testing.T) {
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind == opRename {
				s.put(s.t, "x", []byte("of another"), gatewaytest.Past())
				return reStatus, status(4) // it replaces nothing
			}
			return 0, nil
		}
	})
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := src.Put(t.Context(), "x", strings.NewReader("mine"), 4, nil, gateway.If{Absent: true}); !errors.Is(err, gateway.ErrConflict) {
		t.Error(err)
	}
	if l := leftovers(t, s.dir); len(l) > 0 {
		t.Error(l)
	}
}

func TestFullDiskIsTold(t *testing.T) {
	for _, free := range []uint64{0, 5} {
		s := serve(t, func(s *server) {
			s.hook = func(kind byte, p []byte) (byte, []byte) {
				switch {
				case kind == opWrite:
					return reStatus, status(4)
				case kind == opExtended && bytes.Contains(p, []byte(statvfs)):
					b, err := (&sftp.StatVFS{Bavail: free}).MarshalBinary()
					if err != nil {
						s.t.Error(err)
					}
					return 201, b[9:] // length, type and id
				}
				return 0, nil
			}
		})
		src := gatewaytest.Closing(t, s.source(t))
		_, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
		if err == nil || errors.Is(err, gateway.ErrFull) != (free == 0) {
			t.Errorf("%d blocks free: %v", free, err)
		}
		if l := leftovers(t, s.dir); len(l) > 0 {
			t.Error(l)
		}
	}
}

func TestBreakWithinPutLeavesNothing(t *testing.T) {
	var broke atomic.Bool
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind == opWrite && broke.CompareAndSwap(false, true) {
				s.hangUp()
				return never, nil
			}
			return 0, nil
		}
	})
	s.put(t, "x", []byte("old"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{}); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
	if got, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); err != nil || string(got) != "old" {
		t.Errorf("%q %v", got, err)
	}
	if l := leftovers(t, s.dir); len(l) > 0 {
		t.Error(l)
	}
}

func TestPutReplacesALinkAndDeleteRemovesIt(t *testing.T) {
	s := serve(t, resolving)
	s.put(t, "target", []byte("stays"), gatewaytest.Past())
	src := gatewaytest.Closing(t, s.source(t))
	for _, change := range []func() error{
		func() error {
			_, err := src.Put(t.Context(), "link", strings.NewReader("new"), 3, nil, gateway.If{})
			return err
		},
		func() error { return src.Delete(t.Context(), "link", gateway.If{}) },
	} {
		_ = os.Remove(filepath.Join(s.dir, "link"))
		if err := os.Symlink("target", filepath.Join(s.dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Error(err)
		}
		if i, err := os.Lstat(filepath.Join(s.dir, "link")); err == nil && !i.Mode().IsRegular() {
			t.Errorf("%v", i.Mode())
		}
		if got, err := os.ReadFile(filepath.Join(s.dir, "target")); err != nil || string(got) != "stays" {
			t.Errorf("%q %v", got, err)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	for _, o := range []Options{
		{Addr: "host", User: "me", HostKey: ssh.InsecureIgnoreHostKey()}, //nolint:gosec // never used
		{Addr: "host:22", User: "me"},
		{Addr: "host:22", HostKey: ssh.InsecureIgnoreHostKey()}, //nolint:gosec // never used
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v", o)
		}
	}
}
