package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/gateway"
)

func TestUnavailableStorageIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		traits  gateway.Traits
		err     error
		fails   int // times
		status  int
		opens   int
		noFault bool
	}{
		{remote, errDown, 0, 200, 1, true},
		{remote, errDown, 1, 200, 2, true},
		{remote, errDown, 3, 200, 4, true},
		{remote, errDown, 4, 503, 4, false},
		{remote, fs.ErrNotExist, 4, 404, 1, true},
		{remote, fs.ErrPermission, 4, 403, 1, true},
		{remote, errors.New(secretWord), 4, 500, 1, false},
		{remote, gateway.ErrChanged, 4, 503, 1, false},
		{local, errDown, 1, 503, 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := holding(c.traits, map[string]string{"f.txt": "hello"})
			left := c.fails
			f.onOpen = func(context.Context, string) error {
				if left--; left >= 0 {
					return c.err
				}
				return nil
			}
			faults := 0
			h := gateway.New(f, gateway.Options{
				Patience: gateway.Patience{Tries: 4, Backoff: time.Second},
				Failed:   func(*http.Request, error) { faults++ },
			})
			start := time.Now()
			a := ask(h, "GET", "/f.txt", nil)
			a.is(t, c.status)
			opens := 0
			for _, call := range f.asked() {
				if strings.HasPrefix(call, "open") {
					opens++
				}
			}
			if opens != c.opens || (faults == 0) != c.noFault {
				t.Errorf("%+v: %d opens, %d faults", c, opens, faults)
			}
			// Pauses of 1, 2 and 4 s at most, and half of that at least.
			most := time.Duration(1<<(c.opens-1)-1) * time.Second
			if took := time.Since(start); took > most || took < most/2 {
				t.Errorf("%+v: took %v", c, took)
			}
			if c.status == 503 && a.Header().Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		})
	}
}

func TestListsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := holding(bucket, map[string]string{"dir/f": ""})
		fails := 2
		f.onList = func(context.Context, string) ([]gateway.Info, error) {
			if fails--; fails >= 0 {
				return nil, errDown
			}
			return []gateway.Info{{Name: "f"}}, nil
		}
		h := gateway.New(f, gateway.Options{Listing: true})
		ask(h, "GET", "/dir/", nil).is(t, 200)
		// That it could not be told is not remembered as absence.
		fails = 3
		ask(h, "GET", "/dir", nil).is(t, 503, "Cache-Control", "no-store")
		fails = 2
		ask(h, "GET", "/dir", nil).is(t, 301, "Location", "./dir/")
	})
}

func TestWritesAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeWriter{fake: holding(remote, map[string]string{"f": "old"})}
		f.onWrite = func(context.Context, string, io.Reader) error { return errDown }
		h := gateway.New(f, gateway.Options{Write: true})
		ask(h, "PUT", "/f", strings.NewReader("x")).is(t, 503)
		ask(h, "DELETE", "/f", nil).is(t, 503)
		equal(t, "writes", f.asked(), "open f 0+0", "close f", "put f 1 absent=false version=", "delete f absent=false version=")
	})
}

func TestBodiesThatBreakOffAreResumed(t *testing.T) {
	text := pattern(100_000)
	for _, field := range []string{"", "bytes=500-90499", "bytes=10-20,30000-60000"} {
		synctest.Test(t, func(t *testing.T) {
			f := holding(remote, map[string]string{"f.txt": text})
			open := 0
			f.onRange = func(_ context.Context, _ string, off, n int64) (io.ReadCloser, error) {
				open++
				// Each piece breaks off after a third, once by an early end.
				err := errDown
				if open%2 == 0 {
					err = io.EOF
				}
				if n > 10 {
					n = max(n/3, 10)
				} else {
					err = io.EOF
				}
				return &piece{Reader: strings.NewReader(text[off : off+n]), err: err, closed: func() { open-- }}, nil
			}
			h := gateway.New(f, gateway.Options{Patience: gateway.Patience{Tries: 2}})
			var fields []string
			if field != "" {
				fields = []string{"Range", field}
			}
			a := ask(h, "GET", "/f.txt", nil, fields...)
			if a.aborted != nil || open != 0 {
				t.Fatalf("aborted by %v, %d readers open", a.aborted, open)
			}
			if !octetsAre(t, a, text) {
				t.Errorf("%s: wrong octets", field)
			}
			if calls := f.asked(); len(calls) < 5 {
				t.Errorf("it never broke off: %v", calls)
			}
		})
	}
}

// octetsAre tells whether what an answer says about its octets holds.
func octetsAre(t *testing.T, a answer, text string) bool {
	t.Helper()
	switch kind, params, _ := mime.ParseMediaType(a.Header().Get("Content-Type")); {
	case a.Code == 200:
		return a.Body.String() == text
	case kind == "multipart/byteranges":
		parts := multi(t, a.Body.String(), params["boundary"])
		for _, p := range parts {
			if !isPart(p.field, p.text, text) {
				return false
			}
		}
		return len(parts) > 0
	}
	return isPart(a.Header().Get("Content-Range"), a.Body.String(), text)
}

func TestResumingIsGivenUp(t *testing.T) {
	text := pattern(10_000)
	for name, c := range map[string]struct {
		err   error
		then  error
		opens int
	}{
		"for good":          {errDown, errDown, 3},
		"short":             {io.EOF, errDown, 3},
		"changed":           {gateway.ErrChanged, nil, 1},
		"changed meanwhile": {errDown, gateway.ErrChanged, 2},
		"gone meanwhile":    {errDown, fs.ErrNotExist, 2},
		"broken":            {errors.New(secretWord), nil, 1},
	} {
		for _, at := range []int{1, 5000, 9999} {
			for _, together := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					f := holding(remote, map[string]string{"f.txt": text})
					opens := 0
					f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) {
						if opens++; opens > 1 {
							return nil, c.then
						}
						if together { // with the error come octets
							return io.NopCloser(&together1{text[:at], c.err}), nil
						}
						return breaking(text[:at], c.err), nil
					}
					var told error
					h := gateway.New(f, gateway.Options{Failed: func(_ *http.Request, err error) { told = err }})
					a := ask(h, "GET", "/f.txt", nil)
					if a.aborted != http.ErrAbortHandler || told == nil {
						t.Errorf("%s at %d: aborted by %v, told %v", name, at, a.aborted, told)
					}
					if got := a.Body.String(); !strings.HasPrefix(text, got) || len(got) > at {
						t.Errorf("%s at %d: %d octets", name, at, len(got))
					}
					if opens != c.opens {
						t.Errorf("%s at %d: %d opens, want %d", name, at, opens, c.opens)
					}
				})
			}
		}
	}
}

// together1 gives octets and an error at once, and then the end, as if nothing had been.
type together1 struct {
	text string
	err  error
}

func (r *together1) Read(p []byte) (int, error) {
	n := copy(p, r.text)
	r.text = r.text[n:]
	if r.text != "" {
		return n, nil
	}
	err := r.err
	r.err = io.EOF
	return n, err
}

// With the last octets comes that they are of another version.
func TestChangedAtTheLastOctet(t *testing.T) {
	for _, traits := range []gateway.Traits{local, remote} {
		f := holding(traits, map[string]string{"f.txt": "hello"})
		f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(&together1{"hello", gateway.ErrChanged}), nil
		}
		if a := ask(gateway.New(f, gateway.Options{}), "GET", "/f.txt", nil); a.aborted != http.ErrAbortHandler {
			t.Errorf("remote %t: %d %q taken for whole", traits.Remote, a.Code, a.Body)
		}
	}
}

func TestEarlyEndsAbort(t *testing.T) {
	f := holding(local, map[string]string{"f.txt": "hello"})
	f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) {
		return breaking("hel", io.EOF), nil
	}
	if a := ask(gateway.New(f, gateway.Options{}), "GET", "/f.txt", nil); a.aborted != http.ErrAbortHandler {
		t.Errorf("%d %q taken for whole", a.Code, a.Body)
	}
	f = holding(local, map[string]string{"f": "hello"}) // of which the type is looked for
	f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) {
		return breaking("hel", io.EOF), nil
	}
	ask(gateway.New(f, gateway.Options{}), "GET", "/f", nil).is(t, 500, "Cache-Control", "no-store", "ETag", "", "Last-Modified", "")
}

func TestStorageThatHangs(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("%s: %w", secretWord, ctx.Err())
	}
	patience := gateway.Patience{Answer: 7 * time.Second}
	within := func(t *testing.T, start time.Time) {
		t.Helper()
		if took := time.Since(start); took != patience.Answer {
			t.Errorf("took %v, want %v", took, patience.Answer)
		}
	}
	t.Run("open", func(t *testing.T) {
		for _, says := range []error{nil, gateway.ErrUnavailable} {
			synctest.Test(t, func(t *testing.T) {
				f := holding(remote, nil)
				f.onOpen = func(ctx context.Context, _ string) error {
					err := hang(ctx)
					if says != nil { // it takes a context that ended for trouble of the network
						err = fmt.Errorf("%w: %w", says, err)
					}
					return err
				}
				h := gateway.New(f, gateway.Options{Patience: patience})
				start := time.Now()
				ask(h, "GET", "/f", nil).is(t, 504, "Cache-Control", "no-store")
				within(t, start)
			})
		}
	})
	t.Run("list", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := holding(remote, nil)
			f.onList = func(ctx context.Context, _ string) ([]gateway.Info, error) { return nil, hang(ctx) }
			h := gateway.New(f, gateway.Options{Patience: patience, Listing: true})
			start := time.Now()
			ask(h, "GET", "/", nil).is(t, 504)
			within(t, start)
		})
	})
	t.Run("put", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeWriter{fake: holding(remote, nil)}
			f.onWrite = func(ctx context.Context, _ string, _ io.Reader) error { return hang(ctx) }
			h := gateway.New(f, gateway.Options{Patience: patience, Write: true})
			start := time.Now()
			ask(h, "PUT", "/f", strings.NewReader("x")).is(t, 504)
			if d := time.Since(start); d != time.Minute {
				t.Errorf("after %v", d)
			}
		})
	})
	t.Run("delete", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeWriter{fake: holding(remote, nil)}
			f.onWrite = func(ctx context.Context, _ string, _ io.Reader) error { return hang(ctx) }
			h := gateway.New(f, gateway.Options{Patience: patience, Write: true})
			start := time.Now()
			ask(h, "DELETE", "/f", nil).is(t, 504)
			within(t, start)
		})
	})
	t.Run("range", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := holding(remote, map[string]string{"f.txt": "hello"})
			f.onRange = func(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) { return nil, hang(ctx) }
			h := gateway.New(f, gateway.Options{Patience: patience})
			start := time.Now()
			ask(h, "GET", "/f.txt", nil).is(t, 504, "Cache-Control", "no-store", "ETag", "", "Content-Length", "")
			within(t, start)
		})
	})
	t.Run("body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := holding(remote, map[string]string{"f.txt": "hello"})
			f.onRange = func(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("hel"), stalled{ctx})), nil
			}
			h := gateway.New(f, gateway.Options{Patience: patience})
			start := time.Now()
			if a := ask(h, "GET", "/f.txt", nil); a.aborted != http.ErrAbortHandler || a.Body.String() != "hel" {
				t.Errorf("%d %q, aborted by %v", a.Code, a.Body, a.aborted)
			}
			within(t, start)
		})
	})
	// What comes slowly comes, however long it takes, and a client may be slow, too.
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := holding(remote, map[string]string{"f.txt": "hello"})
			f.onRange = func(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) {
				return io.NopCloser(&trickle{ctx, "hello", 6 * time.Second}), nil
			}
			h := gateway.New(f, gateway.Options{Patience: patience})
			rec := httptest.NewRecorder()
			h.ServeHTTP(&slowClient{rec, time.Hour}, httptest.NewRequest("GET", "/f.txt", nil))
			if rec.Body.String() != "hello" {
				t.Errorf("%q", rec.Body)
			}
		})
	})
}

// A trickle gives an octet at a time, after a pause.
type trickle struct {
	ctx   context.Context
	text  string
	pause time.Duration
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	timer := time.NewTimer(r.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
	n := copy(p[:1], r.text)
	r.text = r.text[n:]
	return n, nil
}

// A slowClient takes its time for what it gets.
type slowClient struct {
	http.ResponseWriter
	pause time.Duration
}

func (c *slowClient) Write(p []byte) (int, error) {
	time.Sleep(c.pause) // of a synctest clock
	return c.ResponseWriter.Write(p)
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := holding(remote, map[string]string{"slow": "", "f.txt": "hello"})
		asking, most := 0, 0
		var mu sync.Mutex
		release := make(chan struct{})
		f.onOpen = func(_ context.Context, name string) error {
			mu.Lock()
			asking++
			most = max(most, asking)
			mu.Unlock()
			if name == "slow" {
				<-release
			}
			mu.Lock()
			asking--
			mu.Unlock()
			return nil
		}
		h := gateway.New(f, gateway.Options{Patience: gateway.Patience{Requests: 3, Answer: 5 * time.Second}})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { ask(h, "GET", "/slow", nil).is(t, 200) })
		}
		synctest.Wait()
		start := time.Now()
		ask(h, "GET", "/f.txt", nil).is(t, 503, "Retry-After", "1", "Cache-Control", "no-store")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("waited %v", took)
		}
		// Who is told of before that is served, and whoever goes away waits no longer.
		wg.Go(func() {
			time.Sleep(3 * time.Second)
			close(release)
		})
		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start = time.Now()
		run(h, httptest.NewRequest("GET", "/f.txt", nil).WithContext(gone))
		if took := time.Since(start); took != time.Second {
			t.Errorf("a client that had gone waited %v", took)
		}
		ask(h, "GET", "/f.txt", nil).is(t, 200)
		wg.Wait()
		if most != 3 {
			t.Errorf("%d asked at a time", most)
		}
		// A body on its way needs no place, and what needs no storage neither.
		slow := make(chan struct{})
		f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				<-slow
				return copy(p, "hello"), nil
			})), nil
		}
		for range 5 {
			wg.Go(func() { ask(h, "GET", "/f.txt", nil).is(t, 200) })
		}
		synctest.Wait()
		ask(h, "HEAD", "/f.txt", nil).is(t, 200)
		close(slow)
		wg.Wait()
		ask(h, "OPTIONS", "/f.txt", nil).is(t, 204)
	})
}

// Storage that opens an object and then does not give it is an error, for which a cache
// may have something older; an answer that had begun would be broken off.
func TestNoAnswerBeginsWithoutItsFirstOctets(t *testing.T) {
	for _, traits := range []gateway.Traits{remote, local} {
		f := holding(traits, map[string]string{"f.txt": "hello, world"})
		f.onRange = func(context.Context, string, int64, int64) (io.ReadCloser, error) { return nil, gateway.ErrChanged }
		h := gateway.New(f, gateway.Options{Default: time.Hour})
		for _, fields := range [][]string{nil, {"Range", "bytes=3-5"}, {"Range", "bytes=3-5", "If-Range", `"no"`}} {
			ask(h, "GET", "/f.txt", nil, fields...).is(t, 503, "Cache-Control", "no-store", "ETag", "", "Content-Range", "", "Last-Modified", "", "X-Content-Type-Options", "nosniff")
		}
		ask(h, "HEAD", "/f.txt", nil).is(t, 200)
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := holding(remote, map[string]string{"f.txt": "hello", "broken.txt": "hello", "panics": ""})
		f.onRange = func(ctx context.Context, name string, _, _ int64) (io.ReadCloser, error) {
			if name == "broken.txt" {
				return io.NopCloser(iotest.ErrReader(gateway.ErrChanged)), nil
			}
			return stalled{ctx}, nil
		}
		f.onOpen = func(_ context.Context, name string) error {
			if name == "panics" {
				panic("a fault of the Source")
			}
			return nil
		}
		told := 0
		h := gateway.New(f, gateway.Options{Patience: gateway.Patience{Requests: 1}, Failed: func(*http.Request, error) { told++ }})
		for range 3 {
			if a := ask(h, "GET", "/broken.txt", nil); a.aborted != http.ErrAbortHandler {
				t.Errorf("%d %v", a.Code, a.aborted)
			}
			if a := ask(h, "GET", "/panics", nil); a.aborted != "a fault of the Source" {
				t.Errorf("%d %v", a.Code, a.aborted)
			}
			ask(h, "GET", "/none", nil).is(t, 404)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			if a := run(h, httptest.NewRequest("GET", "/f.txt", nil).WithContext(ctx)); a.aborted != http.ErrAbortHandler {
				t.Errorf("%d %v", a.Code, a.aborted)
			}
			if took := time.Since(start); took != time.Second {
				t.Errorf("it went on for %v after its client had gone", took)
			}
		}
		if told != 3 {
			t.Errorf("%d faults; a client that goes away is none", told)
		}
	})
}

// A deafClient goes away as soon as octets come.
type deafClient struct{ http.ResponseWriter }

func (deafClient) Write([]byte) (int, error) { return 0, errors.New("it has gone") }

// Several ranges are read by a goroutine of http.ServeContent, which goes on after it
// has returned. An object is used by one goroutine at a time all the same, and by none
// once it is closed.
func TestSeveralRangesAndAClientThatGoes(t *testing.T) {
	text := pattern(1 << 20)
	var mu sync.Mutex
	readers, closed := 0, false
	f := holding(local, map[string]string{"f.txt": text})
	f.onRange = func(_ context.Context, _ string, off, n int64) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			t.Error("a range of what is closed")
		}
		readers++
		return &piece{Reader: &lone{Reader: strings.NewReader(text[off : off+n])}, err: io.EOF, closed: func() {
			mu.Lock()
			defer mu.Unlock()
			readers--
		}}, nil
	}
	h := gateway.New(f, gateway.Options{})
	for range 50 {
		mu.Lock()
		closed = false
		mu.Unlock()
		req := httptest.NewRequest("GET", "/f.txt", nil)
		req.Header.Set("Range", "bytes=0-99999,200000-299999,400000-")
		h.ServeHTTP(deafClient{httptest.NewRecorder()}, req)
		mu.Lock()
		if readers != 0 {
			t.Errorf("%d readers are open", readers)
		}
		closed = true
		mu.Unlock()
	}
}

// lone has the race detector see who reads together with others.
type lone struct {
	io.Reader
	reads int
}

func (l *lone) Read(p []byte) (int, error) {
	l.reads++
	return l.Reader.Read(p)
}

// Each copy that is looked for takes a round trip, and while one is waited for the others
// are not standing still.
func TestSlowLooksDoNotEndOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := holding(remote, map[string]string{"f.txt": "hello"})
		f.onOpen = func(context.Context, string) error {
			time.Sleep(5 * time.Second)
			return nil
		}
		f.onRange = func(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) { return nil, ctx.Err() }
		h := gateway.New(f, gateway.Options{Precompressed: gateway.Codings(), Patience: gateway.Patience{Answer: 6 * time.Second}})
		ask(h, "GET", "/f.txt", nil).is(t, 200)
	})
}
