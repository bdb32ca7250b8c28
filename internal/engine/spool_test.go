package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// spooling runs body with a spool whose store keeps limit octets of a body.
func spooling(t *testing.T, limit int64, body func(t *testing.T, s *spool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := memory.New(memory.Options{Budget: 16 << 20, MaxObject: limit})
		defer m.Close()
		w, err := m.Create(t.Context(), store.Key("k"), store.Head{Octets: []byte("head")}, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort(nil)
		body(t, newSpool(w, -1))
	})
}

// octets are n octets of which each place has its own.
func octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

// A taker reads a spool in a goroutine of its own.
type taker struct {
	body io.ReadCloser
	step chan int // how many octets to read next; closed: all
	got  bytes.Buffer
	err  error
	done chan struct{}
}

func take(t *testing.T, s *spool, off int64) *taker {
	t.Helper()
	body, err := s.open(t.Context(), off)
	if err != nil {
		t.Fatal(err)
	}
	k := &taker{body: body, step: make(chan int), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		defer body.Close()
		for n := range k.step {
			if _, k.err = io.CopyN(&k.got, body, int64(n)); k.err != nil {
				return
			}
		}
		_, k.err = io.Copy(&k.got, body)
	}()
	return k
}

func (k *taker) all() { close(k.step) }

func (k *taker) want(t *testing.T, b []byte, err error) {
	t.Helper()
	<-k.done
	if !errors.Is(k.err, err) || !bytes.Equal(k.got.Bytes(), b) {
		t.Errorf("got %d octets and %v, want %d and %v; the same: %v", k.got.Len(), k.err, len(b), err, bytes.Equal(k.got.Bytes(), b))
	}
}

// send writes b to s in pieces, in a goroutine of its own.
func send(s *spool, b []byte, cause error) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := copyBuffered(s, bytes.NewReader(b))
		if err == nil {
			err = cause
		}
		s.end(err)
		done <- err
	}()
	return done
}

func TestSpool_ReadersAnywhereGetAllThatFollows(t *testing.T) {
	const limit, size = 128 << 10, 5 << 20
	spooling(t, limit, func(t *testing.T, s *spool) {
		whole := octets(size)
		offsets := []int64{0, 1, 100, limit - 1, limit, limit + 1, 2 * limit, 3 << 20, size - 1, size}
		var takers []*taker
		for _, off := range offsets {
			takers = append(takers, take(t, s, off))
		}
		halfway := take(t, s, 0)
		done := send(s, whole, nil)
		halfway.step <- 1000 // and then it waits, while the store overflows
		synctest.Wait()
		for _, k := range takers {
			k.all()
		}
		halfway.all()
		for i, k := range takers {
			k.want(t, whole[offsets[i]:], nil)
		}
		halfway.want(t, whole, nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.kept() {
			t.Error("it was kept")
		}
	})
}

func TestSpool_WhoComesAfterTheOverflowIsTooLate(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		early := take(t, s, 0)
		early.all()
		done := send(s, octets(2000), nil)
		<-done
		if _, err := s.open(t.Context(), 0); !errors.Is(err, errTooLate) {
			t.Errorf("opened: %v", err)
		}
		early.want(t, octets(2000), nil)
	})
}

func TestSpool_NobodyReadsSoNobodyWrites(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		if err := <-send(s, octets(100_000), nil); !errors.Is(err, errNobody) {
			t.Errorf("wrote on: %v", err)
		}
	})
	spooling(t, 1000, func(t *testing.T, s *spool) {
		k := take(t, s, 0)
		done := send(s, octets(10<<20), nil)
		k.step <- 5000
		synctest.Wait()
		k.body.Close()
		if err := <-done; !errors.Is(err, errNobody) {
			t.Errorf("wrote on: %v", err)
		}
		k.all()
		<-k.done
	})
}

func TestSpool_MemoryIsBounded(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		slow, quick := take(t, s, 0), take(t, s, 0)
		const size = 4 << 20
		done := send(s, octets(size), nil)
		quick.all()
		for range size / 4096 {
			slow.step <- 4096
			synctest.Wait()
			s.relay.mu.Lock()
			if held, room := len(s.relay.buf), cap(s.relay.buf); held > relayWindow || room > 2*relayWindow {
				t.Fatalf("the relay holds %d octets in a room of %d", held, room)
			}
			s.relay.mu.Unlock()
		}
		slow.all()
		slow.want(t, octets(size), nil)
		quick.want(t, octets(size), nil)
		<-done
	})
}

func TestSpool_TheOneThatHoldsUpOthersIsCutOff(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		whole := octets(4 << 20)
		stuck, slow, quick := take(t, s, 0), take(t, s, 0), take(t, s, 0)
		done := send(s, whole, nil)
		quick.all()
		start := time.Now()
		go func() { // slower than the origin, and faster than the patience
			for range 3 {
				slow.step <- 1 << 20
				time.Sleep(relayPatience - time.Second)
			}
			slow.all()
		}()
		quick.want(t, whole, nil)
		slow.want(t, whole, nil)
		if took := time.Since(start); took > 4*relayPatience {
			t.Errorf("took %v", took)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		stuck.all()
		<-stuck.done
		stuck.want(t, whole[:stuck.got.Len()], errTooSlow)
		if stuck.got.Len() >= len(whole) {
			t.Error("the stuck reader got all")
		}
	})
}

func TestSpool_ALoneReaderMayTakeItsTime(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		whole := octets(3 << 20)
		k := take(t, s, 0)
		done := send(s, whole, nil)
		for range 2 {
			k.step <- 100_000
			time.Sleep(time.Hour)
		}
		k.all()
		k.want(t, whole, nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Nobody waits while both of them are stuck; once one goes on, it does.
func TestSpool_OfTwoStuckTheFirstToGoOnWins(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		whole := octets(3 << 20)
		a, b := take(t, s, 0), take(t, s, 0)
		done := send(s, whole, nil)
		time.Sleep(time.Hour)
		a.all()
		start := time.Now()
		a.want(t, whole, nil)
		if took := time.Since(start); took < relayPatience || took > relayPatience+time.Second {
			t.Errorf("the other was cut off after %v", took)
		}
		<-done
		b.all()
		<-b.done
		if !errors.Is(b.err, errTooSlow) {
			t.Errorf("the other ended with %v", b.err)
		}
	})
}

func TestSpool_TheCauseComesAfterAllOctets(t *testing.T) {
	broken := errors.New("reset by the origin")
	for _, size := range []int{500, 5000} { // kept so far, or not
		spooling(t, 1000, func(t *testing.T, s *spool) {
			k := take(t, s, 0)
			k.all()
			<-send(s, octets(size), broken)
			k.want(t, octets(size), broken)
		})
	}
}

func TestSpool_AReaderEndsWithItsContext(t *testing.T) {
	for _, size := range []int{500, 5000} {
		spooling(t, 1000, func(t *testing.T, s *spool) {
			ctx, cancel := context.WithCancel(t.Context())
			body, err := s.open(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			other := take(t, s, 0)
			_, _ = s.Write(octets(size))
			got := make(chan error, 1)
			go func() {
				n, err := io.Copy(io.Discard, body)
				if n != int64(size) {
					t.Errorf("%d octets", n)
				}
				got <- err
			}()
			synctest.Wait()
			cancel()
			if err := <-got; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			if n, err := body.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Error("went on after its end")
			}
			s.end(nil)
			other.all()
			other.want(t, octets(size), nil)
		})
	}
}

func TestSpool_StopEndsAWriteThatWaits(t *testing.T) {
	spooling(t, 1000, func(t *testing.T, s *spool) {
		k := take(t, s, 0)
		done := send(s, octets(10<<20), nil)
		synctest.Wait()
		stopped := errors.New("closing")
		s.stop(stopped)
		if err := <-done; !errors.Is(err, stopped) {
			t.Errorf("ended with %v", err)
		}
		k.all()
		<-k.done
		if !errors.Is(k.err, stopped) {
			t.Errorf("the reader ended with %v", k.err)
		}
	})
}

// failing is a writer of a store that breaks down.
type failing struct {
	store.Writer
	left int
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) <= f.left {
		f.left -= len(p)
		return f.Writer.Write(p)
	}
	n, _ := f.Writer.Write(p[:f.left]) // a part of it is there, like on a disk
	f.left = 0
	return n, errors.New("input/output error")
}

func TestSpool_AStoreThatBreaksDownIsNotNoticed(t *testing.T) {
	for _, left := range []int{0, 1, 70_000, 1 << 20} {
		spooling(t, 2<<20, func(t *testing.T, s *spool) {
			s.w = &failing{s.w, left}
			whole := octets(1<<20 + 1)
			a, b := take(t, s, 0), take(t, s, 500_000)
			a.all()
			b.all()
			if err := <-send(s, whole, nil); err != nil {
				t.Error(err)
			}
			a.want(t, whole, nil)
			b.want(t, whole[500_000:], nil)
			if s.kept() {
				t.Error("it was kept")
			}
		})
	}
}
