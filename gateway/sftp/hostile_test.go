package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

const opRemove = 13

// withoutExtensions takes them from the servers of a test.
func withoutExtensions(t *testing.T) {
	t.Helper()
	if err := sftp.SetSFTPExtensions(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sftp.SetSFTPExtensions(posixRename, "hardlink@openssh.com", statvfs); err != nil {
			t.Error(err)
		}
	})
}

// TestSuccessThatTellsNothingIsAnError: the library makes a nil of it without an error, or the end of a folder.
func TestSuccessThatTellsNothingIsAnError(t *testing.T) {
	for _, op := range []byte{opOpen, opRead, opLstat, opFstat, opOpendir, opReaddir, opRealpath, opStat} {
		var lies atomic.Bool
		s := serve(t, func(s *server) {
			s.hook = func(kind byte, _ []byte) (byte, []byte) {
				if kind == op && lies.Load() {
					return reStatus, status(0)
				}
				return 0, nil
			}
		})
		s.put(t, "x", []byte("here"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		ask := func() error {
			_, readErr := gatewaytest.Read(t.Context(), src, "x", 0, -1)
			_, listErr := src.List(t.Context(), "", 9)
			_, putErr := src.Put(t.Context(), "y", strings.NewReader("new"), 3, nil, gateway.If{})
			return errors.Join(readErr, listErr, putErr)
		}
		lies.Store(true)
		if err := ask(); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("type %d: %v", op, err)
		}
		lies.Store(false)
		if err := ask(); err != nil {
			t.Errorf("type %d, after it: %v", op, err)
		}
	}
}

func TestEmptySuccessOfStatvfsIsNoRoomKnown(t *testing.T) {
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, p []byte) (byte, []byte) {
			switch {
			case kind == opWrite:
				return reStatus, status(4)
			case kind == opExtended && bytes.Contains(p, []byte(statvfs)):
				return reStatus, status(0)
			}
			return 0, nil
		}
	})
	if _, err := gatewaytest.Closing(t, s.source(t)).Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{}); err == nil || errors.Is(err, gateway.ErrFull) || errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

func TestPanicOfTheLibraryEndsTheConnectionOnly(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	c, err := src.conns.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer src.conns.put(c)
	if err := do(t.Context(), c, func() error { panic("malformed") }); !errors.Is(err, gateway.ErrUnavailable) || !c.isDead() {
		t.Error(err)
	}
}

func TestSizeThatIsNoneIsRefused(t *testing.T) {
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind == opLstat {
				return 105, slices.Concat(binary.BigEndian.AppendUint32(nil, 1), binary.BigEndian.AppendUint64(nil, 1<<64-16))
			}
			return 0, nil
		}
	})
	if _, err := gatewaytest.Closing(t, s.source(t)).Open(t.Context(), "x", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

func TestBrokenBodyIsTakenUp(t *testing.T) {
	for _, changes := range []bool{false, true} {
		s := serve(t)
		octets := gatewaytest.Octets(200_000, 1)
		s.put(t, "x", octets, gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t))
		o, err := src.Open(t.Context(), "x", gateway.Want{N: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		before, c := o.Info(), o.(*object).conn
		s.hangUp()
		<-c.dead
		if changes {
			s.put(t, "x", octets[1:], gatewaytest.Past())
		}
		r, err := o.Range(t.Context(), 100_000, 100_000)
		if changes {
			if !errors.Is(err, gateway.ErrChanged) {
				t.Errorf("changed: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, octets[100_000:]) || o.Info().Version != before.Version {
			t.Errorf("%d octets, %v", len(got), err)
		}
		_ = r.Close()
	}
}

// TestSwapThatBreaksOffIsEnded: between its two renames there is no object.
func TestSwapThatBreaksOffIsEnded(t *testing.T) {
	withoutExtensions(t)
	for _, done := range []bool{false, true} { // what the connection breaks at
		for _, breaking := range []int32{1, 2} {
			var renames atomic.Int32
			s := serve(t, func(s *server) {
				s.hook = func(kind byte, p []byte) (byte, []byte) {
					if kind != opRename || renames.Add(1) != breaking {
						return 0, nil
					}
					if p = p[4:]; done {
						n := 4 + binary.BigEndian.Uint32(p)
						if err := os.Rename(string(p[4:n]), string(p[n+4:])); err != nil {
							t.Error(err)
						}
					}
					s.hangUp()
					return never, nil
				}
			})
			s.put(t, "x", []byte("old"), gatewaytest.Past())
			_, err := gatewaytest.Closing(t, s.source(t)).Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
			want := "new"
			if err != nil {
				want = "old"
			}
			if got, readErr := os.ReadFile(filepath.Join(s.dir, "x")); readErr != nil || string(got) != want {
				t.Errorf("rename %d, done %t: %q %v (%v)", breaking, done, got, readErr, err)
			}
			if l := leftovers(t, s.dir); len(l) > 0 {
				t.Errorf("rename %d, done %t: %q", breaking, done, l)
			}
		}
	}
}

func TestSwapIsEndedWithoutTheClient(t *testing.T) {
	withoutExtensions(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			switch kind {
			case opRename:
				cancel()
			case opRemove: // of what is old
				return reStatus, status(3)
			}
			return 0, nil
		}
	})
	s.put(t, "x", []byte("old"), gatewaytest.Past())
	if _, err := gatewaytest.Closing(t, s.source(t)).Put(ctx, "x", strings.NewReader("new"), 3, nil, gateway.If{}); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "x")); err != nil || string(got) != "new" {
		t.Errorf("%q %v", got, err)
	}
}

func TestBodyThatStandsStillEndsWithTheContext(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	body, in := io.Pipe()
	defer in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := src.Put(ctx, "x", body, -1, nil, gateway.If{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestNoFolderIsRemoved: where REMOVE is refused, the library would try RMDIR.
func TestNoFolderIsRemoved(t *testing.T) {
	s := serve(t, func(s *server) {
		s.hook = func(kind byte, _ []byte) (byte, []byte) {
			if kind == opRemove {
				return reStatus, status(4)
			}
			return 0, nil
		}
	})
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	if err := gatewaytest.Closing(t, s.source(t)).Delete(t.Context(), "x", gateway.If{}); err == nil || s.count(opRmdir) != 0 {
		t.Errorf("%v, RMDIR %d times", err, s.count(opRmdir))
	}
}
