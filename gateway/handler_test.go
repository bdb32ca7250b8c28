package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/gateway"
)

var (
	local  = gateway.Traits{}
	remote = gateway.Traits{Remote: true}
	bucket = gateway.Traits{Flat: true, Remote: true}
)

const (
	date     = "Mon, 06 May 2024 07:08:09 GMT" // past
	dayLater = "Tue, 07 May 2024 07:08:09 GMT"
	dayEarly = "Sun, 05 May 2024 07:08:09 GMT"
)

func TestStorageIsAskedForWhatIsWanted(t *testing.T) {
	f := holding(remote, map[string]string{"f.txt": "0123456789"})
	h := gateway.New(f, gateway.Options{})
	all := []string{"open f.txt 0+-1", "range f.txt 0+10", "close f.txt"}
	for _, c := range []struct {
		method string
		fields []string
		status int
		asked  []string
	}{
		{"GET", nil, 200, all},
		{"HEAD", nil, 200, []string{"open f.txt 0+0", "close f.txt"}},
		{"HEAD", []string{"Range", "bytes=1-2"}, 200, []string{"open f.txt 0+0", "close f.txt"}},
		{"GET", []string{"Range", "bytes=1-2"}, 206, []string{"open f.txt 1+2", "range f.txt 1+2", "close f.txt"}},
		{"GET", []string{"Range", "bytes=3-"}, 206, []string{"open f.txt 3+-1", "range f.txt 3+7", "close f.txt"}},
		{"GET", []string{"Range", "bytes=-4"}, 206, []string{"open f.txt -4+-1", "range f.txt 6+4", "close f.txt"}},
		{"GET", []string{"Range", "bytes=-0"}, 416, []string{"open f.txt 0+0", "close f.txt"}},
		{"GET", []string{"Range", "bytes=70-90"}, 416, []string{"open f.txt 70+21", "close f.txt"}},
		{"GET", []string{"Range", "bytes=5-2"}, 200, all},
		{"GET", []string{"Range", "lines=1-2"}, 200, all},
		{"GET", []string{"Range", "bytes=0-1,5-6"}, 206, []string{"open f.txt 0+2", "range f.txt 0+2", "range f.txt 5+2", "close f.txt"}},
		// A resumed download is one question, too, if nothing changed.
		{"GET", []string{"Range", "bytes=7-", "If-Range", `"v1"`}, 206, []string{"open f.txt 7+-1", "range f.txt 7+3", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Range", `"v0"`}, 200, []string{"open f.txt 7+-1", "range f.txt 0+10", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Match", `"v1"`}, 206, []string{"open f.txt 7+-1", "range f.txt 7+3", "close f.txt"}},
		{"GET", []string{"Range", "bytes=7-", "If-Match", `"v0"`}, 412, []string{"open f.txt 7+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+-1 unless v1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `W/"v1"`}, 304, []string{"open f.txt 0+-1 unless v1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v0"`}, 200, []string{"open f.txt 0+-1 unless v0", "range f.txt 0+10", "close f.txt"}},
		{"HEAD", []string{"If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+0 unless v1", "close f.txt"}},
		// What storage can be asked is one tag. Several are judged here, and so is *.
		{"GET", []string{"If-None-Match", `"v0", "v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v0"`, "If-None-Match", `"v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `*`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date}, 304, []string{"open f.txt 0+-1 unless since 07:08:09", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", dayEarly}, 200, []string{"open f.txt 0+-1 unless since 07:08:09", "range f.txt 0+10", "close f.txt"}},
		// A tag goes before a date, and what must hold before both.
		{"GET", []string{"If-None-Match", `"v0"`, "If-Modified-Since", date}, 200, []string{"open f.txt 0+-1 unless v0", "range f.txt 0+10", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Match", `"v0"`}, 412, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Match", `"v1"`}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-None-Match", `"v1"`, "If-Unmodified-Since", dayEarly}, 412, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date, "If-Unmodified-Since", dayLater}, 304, []string{"open f.txt 0+-1", "close f.txt"}},
		{"GET", []string{"If-Modified-Since", date, "If-Modified-Since", date}, 200, all},
	} {
		a := ask(h, c.method, "/f.txt", nil, c.fields...)
		a.is(t, c.status)
		equal(t, fmt.Sprint(c.method, c.fields), f.asked(), c.asked...)
	}
}

func TestTypesAreFoundWithFewOctets(t *testing.T) {
	f := holding(remote, map[string]string{"page": "<!DOCTYPE html>" + strings.Repeat(" ", 2000)})
	h := gateway.New(f, gateway.Options{})
	for _, c := range []struct {
		method, field string
		asked         []string
	}{
		{"GET", "", []string{"open page 0+-1", "range page 0+2015", "close page"}},
		{"HEAD", "", []string{"open page 0+0", "range page 0+512", "close page"}},
		{"GET", "bytes=100-199", []string{"open page 100+100", "range page 0+512", "close page"}},
		{"GET", "bytes=-3", []string{"open page -3+-1", "range page 0+512", "range page 2012+3", "close page"}},
	} {
		fields := []string{"Range", c.field}
		a := ask(h, c.method, "/page", nil, fields[:2*min(len(c.field), 1)]...)
		if got := a.Header().Get("Content-Type"); got != "text/html; charset=utf-8" || a.aborted != nil {
			t.Errorf("%s %s: %s", c.method, c.field, got)
		}
		equal(t, c.method+" "+c.field, f.asked(), c.asked...)
	}
}

func TestUnchangedTellsWhatTheWholeWouldHave(t *testing.T) {
	kept := gateway.Info{Version: "v1", Certain: true, Modified: past, Fields: http.Header{"Cache-Control": {"private"}}}
	f := holding(remote, nil).with("f.txt", "hello", kept).with("page.html", "hello", kept)
	h := gateway.New(f, gateway.Options{Default: time.Minute, Fresh: []gateway.Rule{{"*.html", time.Hour}}})
	for target, lifetime := range map[string]string{"/f.txt": "private", "/page.html": "max-age=3600"} {
		whole := ask(h, "GET", target, nil)
		whole.is(t, 200, "ETag", `"v1"`, "Cache-Control", lifetime, "Content-Length", "5")
		for _, fields := range [][]string{{"If-None-Match", `"v1"`}, {"If-Modified-Since", date}, {"If-None-Match", `"v0","v1"`}} {
			for _, method := range []string{"GET", "HEAD"} {
				a := ask(h, method, target, nil, fields...)
				a.is(t, 304, "ETag", `"v1"`, "Content-Length", "", "Content-Type", "", "Last-Modified", "")
				// The storage need not tell its own fields along with that nothing changed. A
				// lifetime made up instead would replace what caches have (RFC 9111 §4.3.4).
				if got := a.Header().Get("Cache-Control"); got != lifetime && (got != "" || target != "/f.txt") {
					t.Errorf("%s %s: Cache-Control %q", target, fields, got)
				}
				if a.Body.Len() > 0 {
					t.Errorf("%s %s: 304 with %q", target, fields, a.Body)
				}
			}
		}
	}
	nameless := holding(remote, nil).with("f", "x", gateway.Info{Modified: past})
	ask(gateway.New(nameless, gateway.Options{}), "GET", "/f", nil, "If-Modified-Since", date).
		is(t, 304, "ETag", "", "Last-Modified", date)
}

// What may yet change within one tick has no validator that is strong, and what is known
// to have changed has changed all the same.
func TestUncertainVersions(t *testing.T) {
	for _, version := range []string{"v1", ""} {
		f := holding(local, nil).with("f.txt", "0123456789", gateway.Info{Version: version, Modified: past})
		h := gateway.New(&fakeWriter{fake: f}, gateway.Options{Write: true})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "ETag", "", "Last-Modified", map[string]string{"": date}[version])
		ask(h, "GET", "/f.txt", nil, "If-None-Match", `"v1"`).is(t, 200)
		for _, only := range []string{`"v1"`, `W/"v1"`, date} {
			ask(h, "GET", "/f.txt", nil, "Range", "bytes=1-2", "If-Range", only).is(t, 200, "Content-Range", "")
		}
		ask(h, "GET", "/f.txt", nil, "Range", "bytes=1-2").is(t, 206)
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", dayEarly).is(t, 412)
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", dayLater).is(t, 200)
		ask(h, "GET", "/f.txt", nil, "If-Match", `"v1"`).is(t, 412)
		ask(h, "PUT", "/f.txt", strings.NewReader("x"), "If-Unmodified-Since", dayEarly).is(t, 412)
		ask(h, "PUT", "/f.txt", strings.NewReader("x"), "If-Match", `"v1"`).is(t, 412)
	}
}

func TestDatesBeforeAllDatesAreDates(t *testing.T) {
	h := gateway.New(holding(local, map[string]string{"f.txt": "x"}), gateway.Options{})
	for _, old := range []string{"Mon, 01 Jan 0001 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"} {
		ask(h, "GET", "/f.txt", nil, "If-Unmodified-Since", old).is(t, 412)
		ask(h, "GET", "/f.txt", nil, "If-Modified-Since", old).is(t, 200)
	}
}

// errDown is an error of storage that may work when tried again.
var errDown = fmt.Errorf("%s: %w", secretWord, gateway.ErrUnavailable)

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

func TestErrorsAndWhatClientsSeeOfThem(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("%s: %w", secretWord, err) }
	for _, c := range []struct {
		err    error
		status int
	}{
		{wrap(fs.ErrNotExist), 404},
		{wrap(fs.ErrPermission), 403},
		{wrap(gateway.ErrConflict), 412},
		{wrap(gateway.ErrFull), 507},
		{wrap(gateway.ErrUnavailable), 503},
		{wrap(gateway.ErrChanged), 503},
		{wrap(context.Canceled), 503},
		{wrap(context.DeadlineExceeded), 504},
		{wrap(errors.ErrUnsupported), 501},
		{wrap(fs.ErrClosed), 500},
		{errors.New(secretWord), 500},
	} {
		f := &fakeWriter{fake: holding(local, map[string]string{"f.txt": "x"})}
		f.onOpen = func(context.Context, string) error { return c.err }
		f.onWrite = func(context.Context, string, io.Reader) error { return c.err }
		told := 0
		h := gateway.New(f, gateway.Options{
			Write: true, Default: time.Hour,
			Failed: func(_ *http.Request, err error) {
				if told++; !errors.Is(err, c.err) {
					t.Errorf("told %v, want %v", err, c.err)
				}
			},
		})
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			told = 0
			want := c.status
			if method == "PUT" && want == 404 {
				want = 409 // something is in the way
			}
			lifetime := map[bool]string{true: "no-store"}[want >= 500]
			if want == 404 {
				lifetime = "max-age=5"
			}
			a := ask(h, method, "/f.txt", strings.NewReader("y"))
			a.is(t, want, "Cache-Control", lifetime, "Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff", "ETag", "", "Last-Modified", "")
			if !strings.HasPrefix(a.Body.String(), http.StatusText(want)+": ") {
				t.Errorf("%s: %q", method, a.Body)
			}
			if (told == 1) != (want >= 500) {
				t.Errorf("%s %v: told %d times", method, c.err, told)
			}
		}
	}
}

func TestBodiesOfErrors(t *testing.T) {
	h := gateway.New(&fakeWriter{fake: holding(local, map[string]string{"f.txt": "hello", "dir/x": ""})}, gateway.Options{Write: true})
	for _, c := range []struct {
		method, target string
		fields         []string
		status         int
	}{
		{"GET", "/none", nil, 404},
		{"GET", "/dir/", nil, 404},
		{"GET", "/dir/../f.txt", nil, 400},
		{"POST", "/f.txt", nil, 405},
		{"GET", "/f.txt", []string{"If-Match", `"no"`}, 412},
		{"GET", "/f.txt", []string{"Range", "bytes=5-"}, 416},
		{"PUT", "/f.txt", []string{"If-Match", `"no"`}, 412},
		{"PUT", "/f.txt", []string{"Content-Range", "bytes 0-0/5"}, 400},
		{"PUT", "/f.txt", []string{"Origin", "https://evil.example"}, 403},
		{"DELETE", "/dir/", nil, 409},
	} {
		a := ask(h, c.method, c.target, strings.NewReader("x"), c.fields...)
		a.is(t, c.status, "Content-Type", "text/plain; charset=utf-8", "Cache-Control", "")
		if len(a.Body.String()) < 20 || strings.Contains(a.Body.String(), "hello") {
			t.Errorf("%s %s: %q", c.method, c.target, a.Body)
		}
	}
	ask(h, "GET", "/f.txt", nil, "Range", "bytes=5-").is(t, 416, "Content-Range", "bytes */5", "ETag", "", "Content-Encoding", "")
}

func TestLifetimes(t *testing.T) {
	kept := gateway.Info{Version: "v", Certain: true, Fields: http.Header{"Cache-Control": {"private, max-age=7"}}}
	f := holding(local, map[string]string{"a.css": "", "assets/a.css": "", "assets/b/c.js": "", "x.txt": "", "dir/index.html": "", "Assets/x": "", "robots.txt": "", "d/robots.txt": ""}).
		with("kept.txt", "", kept).with("kept.css", "", kept)
	rules := []gateway.Rule{{"assets/b/**", time.Hour}, {"*.css", time.Minute}, {"/assets/**", 0}, {"/robots.txt", 30 * time.Second}, {"dir/*", 1500 * time.Millisecond}, {"x.txt", -time.Second}, {"x.*", time.Hour}, {"[", time.Hour}}
	for fallback, unruled := range map[time.Duration]string{0: "", -1: "no-cache", time.Second: "max-age=1", 500 * time.Millisecond: "no-cache", 1 << 62: "max-age=4611686018"} {
		h := gateway.New(f, gateway.Options{Fresh: rules, Default: fallback})
		for target, want := range map[string]string{
			"/a.css": "max-age=60", "/assets/a.css": "max-age=60", "/assets/b/c.js": "max-age=3600", "/x.txt": "no-cache",
			"/robots.txt": "max-age=30", "/d/robots.txt": unruled, "/dir/": "max-age=1", "/dir/index.html": "max-age=1", "/Assets/x": unruled,
			"/kept.txt": "private, max-age=7", "/kept.css": "max-age=60",
		} {
			ask(h, "GET", target, nil).is(t, 200, "Cache-Control", want)
			ask(h, "HEAD", target, nil).is(t, 200, "Cache-Control", want)
		}
		ask(h, "GET", "/kept.txt", nil, "Range", "bytes=0-").is(t, 200, "Cache-Control", "private, max-age=7")
		// Absence is told for 5 s at most.
		want := unruled
		if fallback > 5*time.Second {
			want = "max-age=5"
		}
		for _, target := range []string{"/none", "/none/", "/none.css", "/assets/none"} {
			ask(h, "GET", target, nil).is(t, 404, "Cache-Control", want)
		}
		ask(h, "GET", "/dir", nil).is(t, 301, "Cache-Control", unruled)
	}
}

func TestPatterns(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "*.css": true, "/a": true, "a/**": true, "{a,b}": true, "[a-z]": true, "": false, "[": false, "{a": false, "/[": false, `a\`: false,
	} {
		if gateway.ValidPattern(pattern) != want {
			t.Errorf("%q: %t", pattern, !want)
		}
	}
}

func TestFieldsOfTheStorage(t *testing.T) {
	f := holding(local, nil).with("f.html", "hello", gateway.Info{Version: "v", Certain: true, Modified: past, Fields: http.Header{
		"Content-Type": {"text/x-special"}, "Content-Language": {"de"}, "Content-Disposition": {"inline"}, "Content-Encoding": {"gzip"},
		"Set-Cookie": {"a=b"}, "Location": {"/x"}, "X-Amz-Meta-Secret": {secretWord},
	}})
	h := gateway.New(f, gateway.Options{Download: []string{"*.bin"}})
	for _, method := range []string{"GET", "HEAD"} {
		ask(h, method, "/f.html", nil).is(t, 200,
			"Content-Type", "text/x-special", "Content-Language", "de", "Content-Disposition", "inline", "Content-Encoding", "gzip",
			"Set-Cookie", "", "Location", "", "X-Amz-Meta-Secret", "",
			// Without it, an answer that breaks off looks whole to HTTP/1.0.
			"Content-Length", "5",
			"X-Content-Type-Options", "nosniff", "Last-Modified", date, "ETag", `"v"`)
	}
	ask(h, "GET", "/f.html", nil, "Range", "bytes=1-2").is(t, 206, "Content-Encoding", "gzip", "Content-Length", "2")
	ask(h, "GET", "/f.html", nil, "Range", "bytes=9-").is(t, 416, "Content-Encoding", "")
	ask(h, "GET", "/f.html", nil, "If-None-Match", `"w", "v"`).is(t, 304, "Content-Encoding", "", "Content-Length", "")
}

func TestTypes(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n" + strings.Repeat("\x00", 1000)
	f := holding(local, map[string]string{
		"a.html": "<p>", "A.HTML": "<p>", "a.js": "x", "a.wasm": "\x00asm", "a.unknown-end": "text", "png": png, "page": "  <!DOCTYPE HTML>x", "empty": "", "a.tar.gz": "x", "octets": "\x00\x01\x02\x03",
	}).with("coded", png, gateway.Info{Fields: http.Header{"Content-Encoding": {"gzip"}}})
	h := gateway.New(f, gateway.Options{})
	for target, want := range map[string]string{
		"/a.html": "text/html; charset=utf-8", "/A.HTML": "text/html; charset=utf-8", "/a.js": "text/javascript; charset=utf-8", "/a.wasm": "application/wasm",
		"/a.unknown-end": "text/plain; charset=utf-8", "/png": "image/png", "/page": "text/html; charset=utf-8", "/empty": "text/plain; charset=utf-8",
		"/a.tar.gz": "application/gzip", "/octets": "application/octet-stream",
		"/coded": "application/octet-stream", // what is coded does not tell what it is
	} {
		for _, c := range []struct {
			method, field string
		}{{"GET", ""}, {"HEAD", ""}, {"GET", "bytes=0-0"}, {"GET", "bytes=-1"}, {"GET", "bytes=0-"}, {"HEAD", "bytes=0-0"}} {
			var fields []string
			if c.field != "" {
				fields = []string{"Range", c.field}
			}
			a := ask(h, c.method, target, nil, fields...)
			if got := a.Header().Get("Content-Type"); got != want || a.Code >= 300 || a.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s %s: %d %s, want %s", c.method, target, c.field, a.Code, got, want)
			}
			if a.Code == 200 && c.method == "GET" && a.Body.String() != f.objects[target[1:]].text {
				t.Errorf("%s %s: %d octets", target, c.field, a.Body.Len())
			}
		}
	}
}

func TestDownloads(t *testing.T) {
	f := holding(local, map[string]string{"a.bin": "", "d/a.exe": "", "x": "", "d/é \"q\"; x.bin": "", "bad\xff.bin": "", "save/x.html": ""}).
		with("kept.bin", "", gateway.Info{Fields: http.Header{"Content-Disposition": {"inline"}}})
	h := gateway.New(f, gateway.Options{Download: []string{"*.bin", "d/*.exe", "/save/**"}})
	for target, want := range map[string]string{
		"/a.bin": "a.bin", "/d/a.exe": "a.exe", "/d/é \"q\"; x.bin": "é \"q\"; x.bin", "/bad\xff.bin": "bad_.bin", "/save/x.html": "x.html", "/kept.bin": "kept.bin", "/x": "",
	} {
		a := ask(h, "GET", target, nil)
		v := a.Header().Get("Content-Disposition")
		kind, params, err := mime.ParseMediaType(v)
		if want == "" && v == "" {
			continue
		}
		if err != nil || kind != "attachment" || params["filename"] != want || strings.ContainsAny(v, "\r\n") {
			t.Errorf("%s: %q (%v)", target, v, err)
		}
	}
}

func TestPrecompressedCopies(t *testing.T) {
	at := func(version string, days int) gateway.Info {
		return gateway.Info{Version: version, Certain: true, Modified: past.AddDate(0, 0, days)}
	}
	kept := at("plain", 0)
	kept.Fields = http.Header{"Content-Type": {"text/x-kept"}, "Cache-Control": {"max-age=9"}, "Content-Language": {"fr"}}
	f := holding(local, nil).
		with("all.txt", "plain octets", at("same", 0)).with("all.txt.br", "br octets", at("same", 0)).with("all.txt.zst", "zstd octets", at("same", 1)).with("all.txt.gz", "gzip octets", at("same", 0)).
		with("old.txt", "plain octets", at("p", 2)).with("old.txt.gz", "gzip octets", at("g", 1)).
		with("none.txt", "plain octets", at("p", 0)).
		with("gz.txt", "plain octets", at("p", 0)).with("gz.txt.gz", "gzip octets", at("g", 0)).
		with("dir/index.html", "plain octets", at("p", 0)).with("dir/index.html.gz", "gzip octets", at("g", 0)).
		with("kept", "plain octets", kept).with("kept.gz", "gzip octets", at("g", 0)).
		with("sniffed", "plain octets", at("p", 0)).with("sniffed.gz", "gzip octets", at("g", 0)).
		with("folder.txt", "plain octets", at("p", 0)).with("folder.txt.gz/x", "", at("g", 0))
	coded := at("c", 0)
	coded.Fields = http.Header{"Content-Encoding": {"gzip"}}
	f.with("coded.txt", "coded octets", coded).with("coded.txt.br", "br octets", at("b", 0))
	h := gateway.New(f, gateway.Options{Precompressed: gateway.Codings()})
	for _, c := range []struct{ target, accept, coding, vary string }{
		{"/all.txt", "", "", "Accept-Encoding"},
		{"/all.txt", "identity", "", "Accept-Encoding"},
		{"/all.txt", "gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "GZIP ; q=0.3", "gzip", "Accept-Encoding"},
		{"/all.txt", "gzip, deflate, br, zstd", "br", "Accept-Encoding"},
		{"/all.txt", "gzip, zstd", "zstd", "Accept-Encoding"},
		{"/all.txt", "gzip;q=1, br;q=0.9, zstd;q=0.8", "gzip", "Accept-Encoding"},
		{"/all.txt", "*", "br", "Accept-Encoding"},
		{"/all.txt", "*;q=0.1, br;q=0, zstd;q=0.000", "gzip", "Accept-Encoding"},
		{"/all.txt", "br;q=0, *", "zstd", "Accept-Encoding"},
		{"/all.txt", "gzip;q=0", "", "Accept-Encoding"},
		{"/all.txt", "gzip;q=NaN, br;q=2, zstd;q=-1", "", "Accept-Encoding"},
		{"/all.txt", "gzip;q=x", "", "Accept-Encoding"},
		{"/all.txt", "identity, gzip;q=0.5", "", "Accept-Encoding"}, // RFC 9110 §12.5.3
		{"/all.txt", "identity;q=0.5, gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "identity, gzip", "gzip", "Accept-Encoding"},
		{"/all.txt", "gzipx, xgzip", "", "Accept-Encoding"},
		{"/old.txt", "gzip", "", ""},
		{"/none.txt", "gzip", "", ""},
		{"/gz.txt", "br", "", "Accept-Encoding"},
		{"/gz.txt", "br, gzip;q=0.1", "gzip", "Accept-Encoding"},
		{"/dir/", "gzip", "gzip", "Accept-Encoding"},
		{"/kept", "gzip", "gzip", "Accept-Encoding"},
		{"/sniffed", "gzip", "", ""}, // coded octets do not tell a type
		{"/folder.txt", "gzip", "", ""},
		{"/gz.txt.gz", "gzip", "", ""},
	} {
		octets := "plain octets"
		if c.coding != "" || strings.HasSuffix(c.target, ".gz") {
			octets = strings.TrimSpace(c.coding + " octets")
		}
		if c.target == "/gz.txt.gz" {
			octets = "gzip octets"
		}
		for _, method := range []string{"GET", "HEAD"} {
			var fields []string
			if c.accept != "" {
				fields = []string{"Accept-Encoding", c.accept}
			}
			a := ask(h, method, c.target, nil, fields...)
			a.is(t, 200, "Content-Encoding", c.coding, "Vary", c.vary, "Content-Length", fmt.Sprint(len(octets)))
			if method == "GET" && a.Body.String() != octets {
				t.Errorf("%s %s: %q", c.target, c.accept, a.Body)
			}
			// Ranges are of the coded octets, and the tag is that of this coding.
			tag := a.Header().Get("ETag")
			r := ask(h, "GET", c.target, nil, append(fields, "Range", "bytes=1-3", "If-Range", tag)...)
			r.is(t, 206, "Content-Encoding", c.coding, "Vary", c.vary, "Content-Range", fmt.Sprintf("bytes 1-3/%d", len(octets)), "ETag", tag)
			if r.Body.String() != octets[1:4] {
				t.Errorf("%s %s: %q", c.target, c.accept, r.Body)
			}
			ask(h, method, c.target, nil, append(fields, "If-None-Match", tag)...).is(t, 304, "Vary", c.vary, "ETag", tag)
		}
		if t.Failed() {
			t.Fatalf("%+v", c)
		}
	}
	ask(h, "GET", "/coded.txt", nil, "Accept-Encoding", "br").is(t, 200, "Content-Encoding", "gzip")
	// All codings are described alike, and none has the tag of another.
	tags := map[string]bool{}
	for _, accept := range []string{"identity", "gzip", "br", "zstd"} {
		a := ask(h, "GET", "/all.txt", nil, "Accept-Encoding", accept)
		a.is(t, 200, "Content-Type", "text/plain; charset=utf-8")
		tags[a.Header().Get("ETag")] = true
	}
	if len(tags) != 4 {
		t.Errorf("tags %v", tags)
	}
	for _, accept := range []string{"identity", "gzip"} {
		ask(h, "GET", "/kept", nil, "Accept-Encoding", accept).is(t, 200, "Content-Type", "text/x-kept", "Cache-Control", "max-age=9", "Content-Language", "fr")
	}
	// Several lines are one list.
	ask(h, "GET", "/all.txt", nil, "Accept-Encoding", "zstd;q=0.1", "Accept-Encoding", "gzip").is(t, 200, "Content-Encoding", "gzip")
	// Nobody asked for it.
	ask(gateway.New(f, gateway.Options{}), "GET", "/all.txt", nil, "Accept-Encoding", "gzip").is(t, 200, "Content-Encoding", "", "Vary", "")
	// The order is that of the options.
	ask(gateway.New(f, gateway.Options{Precompressed: []string{"gzip", "br"}}), "GET", "/all.txt", nil, "Accept-Encoding", "gzip, br, zstd").is(t, 200, "Content-Encoding", "gzip")
}

func TestListingsForPrograms(t *testing.T) {
	f := holding(local, map[string]string{
		"a.txt": "hello", "dir/x": "", "<b>&\"'": "", "l\xe9gume": "", "sp ace": "", "javascript:alert(1)": "", ".hidden": "", "back\\slash": "", "new\nline": "", "http://x": "", "q?d#e%2f": "",
	}).with("timeless", "x", gateway.Info{Version: "v"})
	h := gateway.New(f, gateway.Options{Listing: true})
	for accept, json := range map[string]bool{
		"": false, "text/html": false, "application/json": true, "*/*": false, "text/html, application/json": false, "application/json, text/html;q=0.9": true,
		"application/json;q=0.1, */*;q=0": true, "application/json;q=0.5, */*": false, "application/json;q=0": false,
		"application/json;q=0.3, text/*;q=0.5": false, "application/*": true, "application/*;q=0.2, text/html;q=0.1": true, "APPLICATION/JSON": true,
	} {
		kind := "text/html; charset=utf-8"
		if json {
			kind = "application/json"
		}
		a := ask(h, "GET", "/", nil, "Accept", accept)
		a.is(t, 200, "Content-Type", kind, "Vary", "Accept", "X-Content-Type-Options", "nosniff")
	}
	a := ask(h, "GET", "/", nil, "Accept", "application/json")
	var all struct {
		Path      string
		Truncated bool
		Entries   []struct {
			Name, Href string
			Folder     bool
			Size       *int64
			Modified   *time.Time
		}
	}
	if err := json.Unmarshal(a.Body.Bytes(), &all); err != nil || all.Truncated || all.Path != "/" {
		t.Fatalf("%v: %s", err, a.Body)
	}
	var names []string
	for _, e := range all.Entries {
		names = append(names, e.Name)
		// Each can be had where it says.
		at, err := httptest.NewRequest("GET", "http://example.com/", nil).URL.Parse(e.Href)
		if err != nil || at.Host != "example.com" || at.Scheme != "http" {
			t.Errorf("%q leads to %v (%v)", e.Href, at, err)
			continue
		}
		if got := run(h, httptest.NewRequest("GET", at.String(), nil)); got.Code != 200 {
			t.Errorf("%q at %s: %d", e.Name, at, got.Code)
		}
		if e.Folder != (e.Size == nil) || e.Modified != nil && !e.Modified.Equal(past.Truncate(time.Second)) {
			t.Errorf("%+v", e)
		}
	}
	want := []string{"dir", "http:", "<b>&\"'", "a.txt", "javascript:alert(1)", "l\uFFFDgume", "q?d#e%2f", "sp ace", "timeless"}
	if !slices.Equal(names, want) {
		t.Errorf("listed are\n%q, want\n%q", names, want)
	}
	page := ask(h, "GET", "/", nil).Body.String()
	for _, bad := range []string{"<b>", `href="javascript`, `href="http`, "\xe9", "back", ".hidden"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q:\n%s", bad, page)
		}
	}
	ask(gateway.New(f, gateway.Options{}), "GET", "/", nil).is(t, 404)
	// The tag is that of the form, and what must hold is judged.
	tag := a.Header().Get("ETag")
	ask(h, "GET", "/", nil, "Accept", "application/json", "If-None-Match", tag).is(t, 304, "Vary", "Accept", "ETag", tag)
	ask(h, "GET", "/", nil, "If-None-Match", tag).is(t, 200)
	ask(h, "GET", "/", nil, "If-Match", tag).is(t, 412)
	ask(h, "GET", "/", nil, "Accept", "application/json", "If-Match", tag).is(t, 200)
	ask(h, "GET", "/", nil, "Range", "bytes=0-3").is(t, 200, "Content-Range", "")
	ask(h, "HEAD", "/", nil).is(t, 200, "Content-Length", fmt.Sprint(len(page)))
}

func TestListingsOfHostileStorage(t *testing.T) {
	f := holding(bucket, nil)
	f.onList = func(context.Context, string) ([]gateway.Info, error) {
		return []gateway.Info{{Name: ""}, {Name: ".", Folder: true}, {Name: "..", Folder: true}, {Name: "a/b"}, {Name: "\x00"}, {Name: "\r\nSet-Cookie: a=b"}, {Name: "<script>alert(1)"}, {Name: "fine", Size: 1 << 40}, {Name: "back\\slash"}}, nil
	}
	h := gateway.New(f, gateway.Options{Listing: true, Dotfiles: true})
	page := ask(h, "GET", "/dir/", nil).Body.String()
	if n := strings.Count(page, "<tr>"); n != 5 { // the heads, the way up, and three entries
		t.Errorf("%d lines:\n%s", n, page)
	}
	for _, bad := range []string{"<script", "Set-Cookie", `href="./../"`, `href="././"`} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q:\n%s", bad, page)
		}
	}
	if !strings.Contains(page, "1.0 TiB") {
		t.Errorf("no size:\n%s", page)
	}
}

// What will soon have a validator is not fresh for an hour without one.
func TestUncertainAnswersAreBrief(t *testing.T) {
	for version, want := range map[string]string{"v1": "max-age=3600", "": "max-age=5"} {
		f := holding(local, nil).with("f.txt", "x", gateway.Info{Version: version, Certain: version != ""})
		h := gateway.New(f, gateway.Options{Fresh: []gateway.Rule{{Pattern: "**", For: time.Hour}}})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "Cache-Control", want)
		h = gateway.New(f, gateway.Options{Default: time.Hour})
		ask(h, "GET", "/f.txt", nil).is(t, 200, "Cache-Control", want)
	}
}

func TestListingsAreBounded(t *testing.T) {
	f := holding(local, nil)
	h := gateway.New(f, gateway.Options{Listing: true})
	for i, end := range []int{10_000, 10_500} { // what is cut says so
		for n := range end {
			f.with(fmt.Sprintf("many/%05d", n), "", gateway.Info{})
		}
		var all struct {
			Truncated bool
			Entries   []any
		}
		if err := json.Unmarshal(ask(h, "GET", "/many/", nil, "Accept", "application/json").Body.Bytes(), &all); err != nil || len(all.Entries) != 10_000 || all.Truncated != (i == 1) {
			t.Errorf("%d entries, truncated %t (%v)", len(all.Entries), all.Truncated, err)
		}
		if page := ask(h, "GET", "/many/", nil).Body.String(); strings.Contains(page, "more than these 10000") != (i == 1) {
			t.Error("the page says otherwise")
		}
	}
	if calls := f.asked(); calls[len(calls)-1] != "list many 10001" {
		t.Errorf("%v", calls)
	}
}

func TestFlatStorage(t *testing.T) {
	f := holding(bucket, map[string]string{
		"a.txt": "a", "dir/index.html": "index", "dir/sub/x.txt": "x", "both": "object", "both/x": "", "a//b": "empty within", "/lead": "lead", "back\\slash": "back", "q?d#e": "odd", "pct%2fx": "pct", "a b+c": "blank",
		".git/config": secretWord, "..": secretWord, "x/../y": secretWord, "index.html": "root",
	})
	h := gateway.New(f, gateway.Options{Listing: true})
	for target, want := range map[string]string{
		"/a.txt": "200 a", "/dir": "301 ./dir/", "/dir/": "200 index", "/dir/sub": "301 ./sub/", "/both": "200 object",
		"/a//b": "200 empty within", "//lead": "200 lead", "/back%5Cslash": "200 back", "/q%3Fd%23e": "200 odd", "/pct%252fx": "200 pct", "/a%20b+c": "200 blank",
		"/q?d#e": "404", "/a%2F%2Fb": "404", "/a%2f/b": "404", "/pct%2fx": "404", "/.git/config": "404", "/.git": "404", "/.git/": "404",
		"/..": "400", "/x/../y": "400", "/x/%2e%2e/y": "400", "/x/./y": "400", "/": "200 root",
		"//": "404", "///": "404", // the root has one path
		"/a": "301 ./a/", "/none": "404", "/none/": "404", "/a.txt/": "404", "/x": "301 ./x/",
	} {
		req := httptest.NewRequest("GET", "http://example.com"+target, nil)
		a := run(h, req)
		got := fmt.Sprint(a.Code)
		switch a.Code {
		case 200:
			got += " " + a.Body.String()
		case 301:
			got += " " + a.Header().Get("Location")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	// Where no folder can be known it is asked for once.
	f.asked()
	ask(h, "GET", "/none", nil).is(t, 404)
	equal(t, "absent", f.asked(), "open none 0+-1", "list none 1")
	ask(h, "GET", "/a.txt", nil).is(t, 200)
	equal(t, "present", f.asked(), "open a.txt 0+-1", "range a.txt 0+1", "close a.txt")
	// Storage that forbids to list has told all that it tells.
	f.onList = func(context.Context, string) ([]gateway.Info, error) { return nil, fs.ErrPermission }
	ask(h, "GET", "/none", nil).is(t, 404)
	// An empty bucket has an empty root.
	empty := gateway.New(holding(bucket, nil), gateway.Options{Listing: true})
	ask(empty, "GET", "/", nil).is(t, 200)
	ask(empty, "GET", "/dir/", nil).is(t, 404)
}

func TestOtherStorageHasNoOddNames(t *testing.T) {
	f := holding(local, map[string]string{"a": "x", "back\\slash": secretWord, "x//y": secretWord})
	h := gateway.New(f, gateway.Options{Dotfiles: true})
	for target, want := range map[string]int{"/back\\slash": 400, "/x//y": 404, "//a": 404, "/..": 400, "/a/..": 400, "/a\x00": 400, "/a\nb": 404, "/a\x7f": 404, "/\x01/b": 404, "": 400, "a": 400, "/" + strings.Repeat("x", 4096): 404} {
		ask(h, "GET", target, nil).is(t, want)
	}
	if calls := f.asked(); len(calls) > 0 {
		t.Errorf("the storage was asked %q", calls)
	}
}

func TestWriting(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old", "dir/x": ""})}
	var wrote []string
	h := gateway.New(f, gateway.Options{Write: true, Wrote: func(c gateway.Change) { wrote = append(wrote, c.Name) }})
	put := func(target string, fields ...string) answer {
		return ask(h, "PUT", target, strings.NewReader("new"), fields...)
	}

	put("/new").is(t, 201, "ETag", `"new"`)
	put("/new").is(t, 204, "ETag", `"new"`)
	equal(t, "plain", f.asked(), "open new 0+0", "put new 3 absent=false version=", "open new 0+0", "close new", "put new 3 absent=false version=")
	put("/f", "If-Match", `"v1"`).is(t, 204)
	equal(t, "If-Match", f.asked(), "open f 0+0", "close f", "put f 3 absent=false version=v1")
	put("/f", "If-Match", `*`).is(t, 204)
	equal(t, "If-Match: *", f.asked(), "open f 0+0", "close f", "put f 3 absent=false version=new")
	put("/deep/er", "If-None-Match", `*`).is(t, 201)
	equal(t, "If-None-Match: *", f.asked(), "open deep/er 0+0", "put deep/er 3 absent=true version=")
	put("/f", "If-Unmodified-Since", date).is(t, 204)
	put("/absent", "If-Unmodified-Since", date).is(t, 201)
	put("/f", "If-None-Match", `"other"`).is(t, 204)
	f.asked()
	if want := []string{"new", "new", "f", "f", "deep/er", "f", "absent", "f"}; !slices.Equal(wrote, want) {
		t.Errorf("told of %q, want %q", wrote, want)
	}

	// What does not hold changes nothing.
	wrote = nil
	for _, fields := range [][]string{
		{"If-Match", `"v0"`},
		{"If-Match", `W/"new"`},
		{"If-Match", ``},
		{"If-Match", `new`},
		{"If-None-Match", `*`},
		{"If-None-Match", `"new"`},
		{"If-None-Match", `W/"new"`},
		{"If-None-Match", `"x"`, "If-None-Match", `"new"`},
		{"If-Unmodified-Since", dayEarly},
		{"If-Match", `"new"`, "If-None-Match", `*`},
	} {
		put("/f", fields...).is(t, 412)
		ask(h, "DELETE", "/f", nil, fields...).is(t, 412)
	}
	put("/none", "If-Match", `*`).is(t, 412)
	put("/none", "If-Match", `"new"`).is(t, 412)
	ask(h, "DELETE", "/none", nil, "If-Match", `"new"`).is(t, 412)
	put("/dir", "If-Match", `*`).is(t, 409)
	put("/dir/").is(t, 409)
	put("/").is(t, 409)
	ask(h, "DELETE", "/dir", nil, "If-Match", `*`).is(t, 409)
	put("/f", "Content-Range", "bytes 0-2/3").is(t, 400)
	put("/a/../f").is(t, 400)
	put("/.hidden").is(t, 404)
	for _, call := range f.asked() {
		if strings.HasPrefix(call, "put") || strings.HasPrefix(call, "delete") {
			t.Error(call)
		}
	}

	ask(h, "DELETE", "/f", nil, "If-Match", `"new"`).is(t, 204)
	equal(t, "DELETE", f.asked(), "open f 0+0", "close f", "delete f absent=false version=new")
	ask(h, "DELETE", "/new", nil).is(t, 204)
	ask(h, "DELETE", "/new", nil).is(t, 404)
	f.asked()
	ask(h, "DELETE", "/new", nil, "If-None-Match", "*").is(t, 404)
	equal(t, "DELETE of nothing", f.asked(), "open new 0+0") // which may have come meanwhile
	if want := []string{"f", "new"}; !slices.Equal(wrote, want) {
		t.Errorf("told of %q, want %q", wrote, want)
	}
}

// A browser may run a page of anybody's, also under the name of this very server, if that
// was made to point here.
func TestBrowsersDoNotWrite(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	h := gateway.New(f, gateway.Options{Write: true})
	for _, field := range []string{"Origin: http://evil.example", "Origin: http://example.com", "Origin: null", "Sec-Fetch-Site: same-origin"} {
		name, value, _ := strings.Cut(field, ": ")
		ask(h, "PUT", "/f", strings.NewReader("x"), name, value).is(t, 403)
		ask(h, "DELETE", "/f", nil, name, value).is(t, 403)
		ask(h, "GET", "/f", nil, name, value).is(t, 200)
	}
	if f.objects["f"].text != "old" {
		t.Error("it was written")
	}
}

func TestWritersThatRefuse(t *testing.T) {
	for err, want := range map[error]int{
		gateway.ErrConflict: 412, gateway.ErrFull: 507, fs.ErrPermission: 403, fs.ErrNotExist: 409, gateway.ErrUnavailable: 503, errors.New("else"): 500,
	} {
		f := &fakeWriter{fake: holding(local, nil)}
		f.onWrite = func(context.Context, string, io.Reader) error { return fmt.Errorf("%s: %w", secretWord, err) }
		told := 0
		h := gateway.New(f, gateway.Options{Write: true, Wrote: func(gateway.Change) { told++ }})
		ask(h, "PUT", "/f", strings.NewReader("x")).is(t, want, "ETag", "")
		if told != 1 { // who knows how far it came
			t.Errorf("PUT, %v: told %d times", err, told)
		}
		told = 0
		if errors.Is(err, fs.ErrNotExist) {
			want, told = 404, 1 // what is not there did not change
		}
		ask(h, "DELETE", "/f", nil).is(t, want)
		if told != 1 {
			t.Errorf("DELETE, %v: told %d times", err, told)
		}
	}
}

// brokenBody is content that breaks off.
type brokenBody struct{ text string }

func (b *brokenBody) Read(p []byte) (int, error) {
	n := copy(p, b.text)
	if b.text = b.text[n:]; n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func TestContentThatBreaksOff(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	h := gateway.New(f, gateway.Options{Write: true})
	for _, target := range []string{"/f", "/new"} {
		ask(h, "PUT", target, &brokenBody{"half"}).is(t, 400)
	}
	if f.objects["f"].text != "old" || len(f.objects) != 1 {
		t.Errorf("%v", f.objects)
	}
	// What was written was written, whatever the content did afterwards, and whoever
	// still reads it.
	reading := make(chan struct{})
	f.onWrite = func(_ context.Context, _ string, body io.Reader) error {
		b := make([]byte, 4)
		if _, err := io.ReadFull(body, b); err != nil {
			t.Error(err)
		}
		go func() {
			defer close(reading)
			_, _ = body.Read(b)
		}()
		return gateway.ErrFull
	}
	r := &slowBody{text: "half", end: make(chan struct{})}
	done := make(chan answer)
	go func() { done <- ask(h, "PUT", "/f", r) }()
	close(r.end)
	a := <-done
	<-reading
	if a.Code != 507 && a.Code != 400 {
		t.Errorf("%d", a.Code)
	}
}

// A slowBody breaks off when it is told to. As the server's own do, it bears several
// readers, once it has given its text.
type slowBody struct {
	text string
	end  chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.text == "" {
		<-b.end
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

func TestWhatIsWrittenCountsWhateverComesAfter(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	h := gateway.New(&tolerant{f}, gateway.Options{Write: true})
	ask(h, "PUT", "/f", &brokenBody{"whole"}).is(t, 201)
}

// A tolerant Writer has all that it needs before its last Read.
type tolerant struct{ *fakeWriter }

func (w *tolerant) Put(_ context.Context, _ string, body io.Reader, _ int64, _ http.Header, _ gateway.If) (gateway.Info, error) {
	_, _ = io.ReadAll(body)
	return gateway.Info{Version: "v", Certain: true}, nil
}

func TestFieldsOfAPut(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	h := gateway.New(f, gateway.Options{Write: true})
	ask(h, "PUT", "/f", strings.NewReader("x"), "Content-Encoding", "gzip").is(t, 415) // it would come back as plain
	if f.fields != nil {
		t.Error("it was written")
	}
	f = &fakeWriter{fake: holding(gateway.Traits{Codings: true}, nil)}
	h = gateway.New(f, gateway.Options{Write: true})
	ask(h, "PUT", "/f", strings.NewReader("x"), "Content-Type", "text/x", "Content-Encoding", "gzip", "Content-Language", "de", "Content-Disposition", "inline", "Cache-Control", "no-store",
		"Authorization", secretWord, "Cookie", secretWord, "Content-Length", "1", "Host", "x").is(t, 201)
	want := []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type"}
	var got []string
	for name := range f.fields {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%v", f.fields)
	}
}

// The one who is told of a change has to know of it before the client does, or the
// client reads what it has replaced.
func TestChangesAreToldBeforeTheAnswer(t *testing.T) {
	f := &fakeWriter{fake: holding(local, nil)}
	rec := httptest.NewRecorder()
	rec.Code = 0
	told := 0
	h := gateway.New(f, gateway.Options{Write: true, Wrote: func(c gateway.Change) {
		told++
		if rec.Code != 0 || c.Name != "f" || c.Under {
			t.Errorf("told of %+v after %d", c, rec.Code)
		}
	}})
	for _, method := range []string{"PUT", "DELETE"} {
		rec.Code = 0
		h.ServeHTTP(rec, httptest.NewRequest(method, "/f", strings.NewReader("x")))
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}

func TestReadOnly(t *testing.T) {
	writer := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	reader := holding(local, map[string]string{"f": "old"})
	if !gateway.CanWrite(writer) || gateway.CanWrite(reader) {
		t.Error("CanWrite")
	}
	for name, c := range map[string]struct {
		h     *gateway.Handler
		allow string
	}{
		"not asked for": {gateway.New(writer, gateway.Options{}), "GET, HEAD, OPTIONS"},
		"not possible":  {gateway.New(reader, gateway.Options{Write: true}), "GET, HEAD, OPTIONS"},
		"possible":      {gateway.New(writer, gateway.Options{Write: true}), "GET, HEAD, PUT, DELETE, OPTIONS"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"POST", "PATCH", "PROPFIND", "put", "CONNECT", "TRACE", ""} {
				ask(c.h, method, "/f", nil).is(t, map[bool]int{true: 200, false: 405}[method == ""])
			}
			ask(c.h, "OPTIONS", "/f", nil).is(t, 204, "Allow", c.allow)
			ask(c.h, "POST", "/f", nil).is(t, 405, "Allow", c.allow)
			if name != "possible" {
				ask(c.h, "PUT", "/f", nil).is(t, 405, "Allow", c.allow)
				ask(c.h, "DELETE", "/f", nil).is(t, 405, "Allow", c.allow)
			}
		})
	}
	if writer.objects["f"].text != "old" {
		t.Error("it was written to")
	}
}

func TestPathsOfChanges(t *testing.T) {
	for name, want := range map[string][]string{
		"":                  {"/"},
		"a.txt":             {"/", "/a.txt", "/a.txt/"},
		"a/b c/d?e":         {"/", "/a", "/a/", "/a/b%20c", "/a/b%20c/", "/a/b%20c/d%3Fe", "/a/b%20c/d%3Fe/"},
		"dir/index.html":    {"/", "/dir", "/dir/", "/dir/index.html", "/dir/index.html/"},
		"dir/index.html.gz": {"/", "/dir", "/dir/", "/dir/index.html", "/dir/index.html.gz", "/dir/index.html.gz/", "/dir/index.html/"},
		"x.zst":             {"/", "/x", "/x.zst", "/x.zst/", "/x/"},
		"a//b":              {"/", "/a", "/a/", "/a//", "/a//b", "/a//b/"},
		"100%":              {"/", "/100%25", "/100%25/"},
	} {
		got := gateway.Change{Name: name}.Paths(false)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// What changed inside shows nowhere else, unless folders are listed or it is their index.
	for name, want := range map[string][]string{
		"a/b.txt":         {"/a/b.txt", "/a/b.txt/"},
		"a/b.txt.gz":      {"/a/b.txt", "/a/b.txt.gz", "/a/b.txt.gz/", "/a/b.txt/"},
		"a/index.html":    {"/a", "/a/", "/a/index.html", "/a/index.html/"},
		"index.html":      {"/", "/index.html", "/index.html/"},
		"index.html.br":   {"/", "/index.html", "/index.html.br", "/index.html.br/", "/index.html/"},
		"a/no-index.html": {"/a/no-index.html", "/a/no-index.html/"},
	} {
		got := gateway.Change{Name: name, Inside: true}.Paths(false)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("inside %q: %q, want %q", name, got, want)
		}
	}
	if got := (gateway.Change{Name: "a/b.txt", Inside: true}).Paths(true); !slices.Contains(got, "/a/") {
		t.Errorf("where folders are listed: %q", got)
	}
}

// The Source is the Handler's from New on.
func TestCloseClosesTheSource(t *testing.T) {
	f := holding(local, nil)
	if err := gateway.New(f, gateway.Options{}).Close(); err != nil {
		t.Error(err)
	}
	equal(t, "Close", f.asked(), "close source")
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

// What is opened is closed, whatever comes of it.
func TestAllIsClosed(t *testing.T) {
	for _, traits := range []gateway.Traits{local, remote, bucket} {
		f := &fakeWriter{fake: holding(traits, map[string]string{"f.txt": "hello", "broken.txt": "hello", "broken": "hello", "dir/x": "", "index/index.html/x": "", "f.txt.br": "br"})}
		f.onRange = func(_ context.Context, name string, _, _ int64) (io.ReadCloser, error) {
			if strings.HasPrefix(name, "broken") {
				return nil, gateway.ErrChanged
			}
			return nil, nil
		}
		for _, codings := range [][]string{nil, gateway.Codings()} {
			h := gateway.New(f, gateway.Options{Write: true, Listing: true, Precompressed: codings})
			for _, target := range []string{"/f.txt", "/broken.txt", "/broken", "/dir", "/dir/", "/index", "/index/", "/none"} {
				for _, fields := range [][]string{nil, {"If-Match", `"x"`}, {"If-None-Match", `"v1"`}, {"Range", "bytes=9-"}, {"Range", "bytes=0-0,2-2"}, {"Accept-Encoding", "br"}} {
					for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
						before := f.objects
						f.objects = maps.Clone(before)
						ask(h, method, target, strings.NewReader("x"), fields...)
						f.objects = before
						if f.open != 0 {
							t.Fatalf("%s %s %v: %d are open", method, target, fields, f.open)
						}
					}
				}
			}
		}
	}
}

// Who asks before it sends content is answered before it has sent any.
func TestRefusedBeforeTheContentComes(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f": "old"})}
	srv := httptest.NewServer(gateway.New(f, gateway.Options{Write: true}))
	defer srv.Close()
	for _, c := range []struct{ field, want string }{
		{"If-None-Match: *", "412"}, {"Origin: http://evil.example", "403"}, {"Content-Range: bytes 0-0/5", "400"},
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(3*time.Second)))
		_, err = fmt.Fprintf(conn, "PUT /f HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n%s\r\n\r\n", c.field)
		check(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: %q, %v", c.field, line, err)
		}
	}
}

// What comes with a request that is refused is no request.
func TestContentOfRefusedRequestsIsNoRequest(t *testing.T) {
	f := &fakeWriter{fake: holding(local, map[string]string{"f.txt": "old"})}
	srv := httptest.NewServer(gateway.New(f, gateway.Options{Write: true}))
	defer srv.Close()
	hidden := "DELETE /f.txt HTTP/1.1\r\nHost: example.com\r\n\r\n"
	for _, first := range []string{"PUT /f.txt HTTP/1.1\r\nIf-None-Match: *", "GET /f.txt HTTP/1.1", "GET /none HTTP/1.1", "POST /f.txt HTTP/1.1", "PUT /dir/ HTTP/1.1", "DELETE /f.txt HTTP/1.1\r\nIf-Match: \"x\"", "OPTIONS /f.txt HTTP/1.1"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = fmt.Fprintf(conn, "%s\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%sGET /f.txt HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", first, len(hidden), hidden)
		check(t, err)
		b, err := io.ReadAll(conn)
		check(t, err)
		if n := strings.Count(string(b), "HTTP/1.1 "); n > 2 || f.objects["f.txt"].text != "old" {
			t.Errorf("%s: %d answers: %s", first, n, b)
		}
	}
	srv.Close()
	for _, call := range f.asked() {
		if strings.HasPrefix(call, "delete") {
			t.Error(call)
		}
	}
}
