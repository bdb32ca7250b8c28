package ftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	real "goftp.io/server/v2"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

// TestReplyThatTheLibraryPanicsAtIsAnError, and costs no place.
func TestReplyThatTheLibraryPanicsAtIsAnError(t *testing.T) {
	for command, reply := range map[string]string{"PASV": ")(", "PWD": `"`} {
		s := serve(t, old, func(s *server) {
			s.replace(command, func(sess *real.Session, _ string, _ real.Command) {
				sess.WriteMessage(map[string]int{"PASV": 227, "PWD": 257}[command], reply)
			})
		})
		s.put(t, "x", []byte("here"), gatewaytest.Past())
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 }))
		for range 2 {
			if _, err := gatewaytest.Read(t.Context(), src, "x", 0, -1); !errors.Is(err, gateway.ErrUnavailable) {
				t.Errorf("%s: %v", command, err)
			}
		}
		if n := len(src.conns.places); n != 0 {
			t.Errorf("%s: %d places are taken", command, n)
		}
	}
}

func TestSizeThatIsNoneIsRefused(t *testing.T) {
	s := serve(t, old, func(s *server) {
		s.replace("SIZE", func(sess *real.Session, _ string, _ real.Command) { sess.WriteMessage(213, "-5") })
	})
	s.put(t, "x", []byte("here"), gatewaytest.Past())
	if _, err := gatewaytest.Closing(t, s.source(t)).Open(t.Context(), "x", gateway.Want{}); !errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestRestOfARefusedTransferIsForgotten has a server that remembers it.
func TestRestOfARefusedTransferIsForgotten(t *testing.T) {
	var busy atomic.Bool
	var keeps atomic.Pointer[real.Session]
	octets := gatewaytest.Octets(1<<20, 1)
	s := serve(t, func(s *server) {
		s.replace("RETR", func(sess *real.Session, param string, original real.Command) {
			switch {
			case busy.CompareAndSwap(true, false):
				keeps.Store(sess)
				sess.WriteMessage(450, "busy")
			case keeps.Load() == sess:
				sess.WriteMessage(150, "from where it was")
				_, _ = sess.DataConn().Write(octets[500_000:])
				_ = sess.DataConn().Close()
				sess.WriteMessage(226, "done")
			default:
				original.Execute(sess, param)
			}
		})
	})
	s.put(t, "x", octets, gatewaytest.Past())
	for _, known := range []bool{false, true} { // that the server heeds REST
		src := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 }))
		src.restarts.Store(known)
		busy.Store(true)
		if _, err := gatewaytest.Read(t.Context(), src, "x", 500_000, 10); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("known %t: %v", known, err)
		}
		if got, err := gatewaytest.Read(t.Context(), src, "x", 0, 10); err != nil || !bytes.Equal(got, octets[:10]) {
			t.Errorf("known %t: %x %v", known, got, err)
		}
	}
}

// TestSwapThatBreaksOffIsEnded: between its two renames there is no object.
func TestSwapThatBreaksOffIsEnded(t *testing.T) {
	for _, done := range []bool{false, true} { // what the connection breaks at
		for _, breaking := range []int32{1, 2} {
			var renames atomic.Int32
			s := serve(t, func(s *server) {
				s.replace("RNTO", func(sess *real.Session, param string, original real.Command) {
					if _, err := os.Lstat(filepath.Join(s.dir, param)); err == nil {
						sess.WriteMessage(553, "cannot")
					} else if renames.Add(1) != breaking {
						original.Execute(sess, param)
					} else {
						sess.Close()
						if done {
							original.Execute(sess, param)
						}
					}
				})
			})
			s.put(t, "x", []byte("old"), gatewaytest.Past())
			_, err := gatewaytest.Closing(t, s.source(t, func(o *Options) { o.Conns = 1 })).Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
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
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(s *server) {
		s.replace("RNTO", func(sess *real.Session, param string, original real.Command) {
			if _, err := os.Lstat(filepath.Join(s.dir, param)); err == nil {
				sess.WriteMessage(553, "cannot")
				return
			}
			cancel()
			original.Execute(sess, param)
		})
		s.replace("DELE", func(sess *real.Session, _ string, _ real.Command) { sess.WriteMessage(550, "not allowed") })
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
	if _, err := src.Put(ctx, "x", body, -1, nil, gateway.If{}); !errors.Is(err, context.DeadlineExceeded) || len(src.conns.places) != 0 {
		t.Errorf("%v, %d places are taken", err, len(src.conns.places))
	}
}

// TestWritesFindOutThatTheServerHungUp: they are not tried again by whoever asks.
func TestWritesFindOutThatTheServerHungUp(t *testing.T) {
	s := serve(t)
	src := gatewaytest.Closing(t, s.source(t))
	for _, change := range []func() error{
		func() error {
			_, err := src.Put(t.Context(), "x", strings.NewReader("new"), 3, nil, gateway.If{})
			return err
		},
		func() error { return src.Delete(t.Context(), "x", gateway.If{}) },
	} {
		if _, err := src.Open(t.Context(), "", gateway.Want{}); err != nil {
			t.Fatal(err)
		}
		s.hangUp()
		if err := change(); err != nil {
			t.Error(err)
		}
	}
}
