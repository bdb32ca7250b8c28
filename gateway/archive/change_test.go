package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

// later is when archives were made that replace others.
var later = past.Add(time.Hour)

// A counter is a format that counts how often it reads an index, and can wait first.
type counter struct {
	read    atomic.Int32
	begun   chan struct{} // nil: it does not wait
	release chan struct{}
}

func (c *counter) format(ctx context.Context, r io.ReaderAt, size int64, x *index) error {
	if c.read.Add(1) > 1 && c.begun != nil {
		c.begun <- struct{}{}
		select {
		case <-c.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return readZip(ctx, r, size, x)
}

// counted serves octets by a counter.
func counted(t *testing.T, c *counter, o Options, octets []byte) (*Source, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	put(t, path, octets, past)
	s, err := open(path, o, c.format, maxEntries)
	check(t, err)
	return s, path
}

func TestAReplacedArchiveIsServed(t *testing.T) {
	older, newer := strings.Repeat("older ", 50_000), strings.Repeat("newer ", 50_000)
	for _, deflate := range []bool{false, true} {
		var c counter
		s, path := counted(t, &c, Options{}, zipOf(t, item{"a", older, deflate}, item{"gone", "x", deflate}))
		o, err := s.Open(t.Context(), "a", gateway.Want{})
		check(t, err)
		was := o.Info()
		r, err := o.Range(t.Context(), 0, was.Size)
		check(t, err)
		first := make([]byte, 1000)
		_, err = io.ReadFull(r, first)
		check(t, err)

		// Of the same size and time: the inode tells.
		replace(t, path, zipOf(t, item{"a", newer, deflate}, item{"here", "x", deflate}), past)
		if got := walk(t, s, ""); len(got) != 2 || got[1] != "here" {
			t.Errorf("listed: %q", got)
		}
		has(t, s, "a", newer)
		hasNot(t, s, "gone", fs.ErrNotExist)
		now, err := s.Open(t.Context(), "a", gateway.Want{})
		check(t, err)
		if i := now.Info(); i.Version == was.Version || !i.Certain {
			t.Errorf("%+v, and then %+v", was, i)
		}
		check(t, now.Close())
		if n := c.read.Load(); n != 2 {
			t.Errorf("the index was read %d times", n)
		}

		rest, err := io.ReadAll(r)
		if string(first)+string(rest) != older || err != nil {
			t.Errorf("what was open: %d octets, %v", len(rest), err)
		}
		check(t, r.Close())
		file := o.(*object).a.file
		if _, err := file.Stat(); err != nil {
			t.Errorf("the file of an open object: %v", err)
		}
		check(t, o.Close())
		check(t, o.Close()) // again is nothing
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file that nobody holds: %v", err)
		}
		file = s.cur.file
		check(t, s.Close())
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file of a closed Source: %v", err)
		}
	}
}

func TestAnObjectOutlivesItsSource(t *testing.T) {
	var c counter
	s, _ := counted(t, &c, Options{}, zipOf(t, item{"a", "octets", true}))
	o, err := s.Open(t.Context(), "a", gateway.Want{})
	check(t, err)
	check(t, s.Close())
	if b, err := part(t.Context(), o, 0, 6); err != nil || string(b) != "octets" {
		t.Errorf("%q, %v", b, err)
	}
	check(t, o.Close())
}

func TestWhileTheArchiveIsBrokenNothingIsServed(t *testing.T) {
	good := zipOf(t, item{"a", "good", true})
	var c counter
	s, path := counted(t, &c, Options{}, good)
	defer s.Close()
	unavailable := func(what string) {
		t.Helper()
		for _, name := range []string{"a", "none", ""} {
			_, err := s.Open(t.Context(), name, gateway.Want{})
			if !errors.Is(err, gateway.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %q: %v", what, name, err)
			}
		}
		if _, err := s.List(t.Context(), "", 10); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	replace(t, path, good[:len(good)-1], later)
	unavailable("cut off")
	if n := c.read.Load(); n != 2 {
		t.Errorf("the index was read %d times", n)
	}
	check(t, os.Remove(path))
	unavailable("removed")
	put(t, path, zipOf(t, item{"a", "new", true}), later) // of the same size and time as what was cut off
	has(t, s, "a", "new")
	check(t, os.Remove(path))
	check(t, os.Mkdir(path, 0o700))
	unavailable("a folder")
	check(t, os.Remove(path))
	replace(t, path, good, later)
	has(t, s, "a", "good")
}

func TestWhatIsWrittenToIsNotRead(t *testing.T) {
	text := string(gatewaytest.Octets(300_000, 1))
	for name, deflate := range map[string]bool{"a": false, "b": true, "b.gz": true} {
		var c counter
		octets := zipOf(t, item{strings.TrimSuffix(name, ".gz"), text, deflate})
		s, path := counted(t, &c, Options{}, octets)
		o, err := s.Open(t.Context(), name, gateway.Want{})
		check(t, err)
		r, err := o.Range(t.Context(), 0, o.Info().Size)
		check(t, err)
		_, err = io.ReadFull(r, make([]byte, 10))
		check(t, err)
		put(t, path, octets, later)                                                                 // in place
		if rest, err := io.ReadAll(r); !errors.Is(err, gateway.ErrChanged) || len(rest) > 100_000 { // read ahead before
			t.Errorf("%s: %d octets more, %v", name, len(rest), err)
		}
		check(t, r.Close())
		if _, err := part(t.Context(), o, 5, 5); !errors.Is(err, gateway.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		check(t, o.Close())
		check(t, s.Close())
	}
}

func TestWhatIsWrittenToIsNotCalledDamaged(t *testing.T) {
	var c counter
	s, path := counted(t, &c, Options{}, zipOf(t, item{"a", "text", true}))
	defer s.Close()
	a, err := s.current(t.Context())
	check(t, err)
	defer a.release()
	put(t, path, make([]byte, 100), later) // in place, after it was looked at
	if _, err := a.open("a"); !errors.Is(err, gateway.ErrChanged) {
		t.Errorf("%v", err)
	}
}

func TestOneReadsTheIndexForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := counter{begun: make(chan struct{}, 100), release: make(chan struct{})}
		s, path := counted(t, &c, Options{}, zipOf(t, item{"a", "old", true}))
		defer s.Close()
		replace(t, path, zipOf(t, item{"a", "new", true}), later)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { has(t, s, "a", "new") })
		}
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error)
		go func() {
			_, err := s.Open(ctx, "a", gateway.Want{})
			given <- err
		}()
		synctest.Wait() // until all wait for the index
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting for the index: %v", err)
		}
		close(c.release)
		wg.Wait()
		if n := c.read.Load(); n != 2 {
			t.Errorf("the index was read %d times", n)
		}
	})
}

func TestCloseEndsTheReadingOfAnIndex(t *testing.T) {
	c := counter{begun: make(chan struct{}), release: make(chan struct{})}
	s, path := counted(t, &c, Options{}, zipOf(t, item{"a", "old", true}))
	replace(t, path, zipOf(t, item{"a", "new", true}), later)
	given := make(chan error)
	go func() {
		_, err := s.Open(context.Background(), "a", gateway.Want{})
		given <- err
	}()
	<-c.begun
	check(t, s.Close())
	if err := <-given; err == nil {
		t.Error("a closed Source was read")
	}
}

func TestAnArchiveThatKeepsChangingIsUnavailable(t *testing.T) {
	octets := zipOf(t, item{"a", "x", true})
	path := filepath.Join(t.TempDir(), "archive")
	put(t, path, octets, past)
	times := 0
	s, err := open(path, Options{}, func(ctx context.Context, r io.ReaderAt, size int64, x *index) error {
		if times++; times > 1 {
			replace(t, path, octets, past.Add(time.Duration(times)*time.Hour))
		}
		return readZip(ctx, r, size, x)
	}, maxEntries)
	check(t, err)
	defer s.Close()
	replace(t, path, octets, later)
	hasNot(t, s, "a", gateway.ErrUnavailable)
	if times != 1+attempts {
		t.Errorf("the index was read %d times", times)
	}
}

func TestVersionsAreCertainOnceTheArchiveIsLeftAlone(t *testing.T) {
	clock := past.Add(settled - 1)
	var c counter
	s, path := counted(t, &c, Options{Now: func() time.Time { return clock }}, zipOf(t, item{"a", "one", false}))
	defer s.Close()
	version := func(certain bool, reads int32) string {
		t.Helper()
		o, err := s.Open(t.Context(), "a", gateway.Want{})
		check(t, err)
		defer o.Close()
		if i := o.Info(); i.Certain != certain || c.read.Load() != reads {
			t.Errorf("certain %t, after %d indexes", i.Certain, c.read.Load())
		}
		return o.Info().Version
	}
	version(false, 1)
	version(false, 1)
	// Within the same tick, of the same size: only a new index can tell.
	put(t, path, zipOf(t, item{"b", "two", false}), past)
	clock = clock.Add(1)
	hasNot(t, s, "a", fs.ErrNotExist)
	has(t, s, "b", "two")
	put(t, path, zipOf(t, item{"a", "one", false}), later)
	clock = later.Add(settled)
	first := version(true, 3)
	put(t, path, zipOf(t, item{"a", "one", false}), later.Add(1))
	clock = clock.Add(1)
	if version(true, 4) == first {
		t.Error("one version of two archives")
	}
}
