package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// pages are n URLs of a host.
func pages(host string, n int) (urls []string) {
	for i := range n {
		urls = append(urls, fmt.Sprintf("http://%s/%d", host, i))
	}
	return urls
}

// A tripper answers in place of a cache.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, cacheStatus, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Cache-Status": {cacheStatus}}, Body: io.NopCloser(strings.NewReader(body))}
}

// As many requests as were asked for are under way, never more, and they begin in
// the order of the list.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most int
		var order []int
		var mu sync.Mutex
		via := tripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			now++
			most = max(most, now)
			n, _ := strconv.Atoi(r.URL.Path[1:])
			order = append(order, n)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return answer(200, "x; hit", "body"), nil
		})
		began := time.Now()
		r, err := run(t.Context(), pages("example.org", 40), &Options{To: parse(t, "http://127.0.0.1"), Concurrency: 4}, via)
		if took := time.Since(began); err != nil || most != 4 || took != 10*time.Second {
			t.Errorf("%d at the same time, %v for 40 URLs, %v", most, took, err)
		}
		if want := (Report{Hits: 40, Octets: 160}); !reflect.DeepEqual(r, want) {
			t.Errorf("%+v, want %+v", r, want)
		}
		for i, n := range order {
			if i/4 != n/4 {
				t.Fatalf("the order is %v", order)
			}
		}
	})
}

// A server never sees more requests at the same time, nor more connections; they
// are used again.
func TestConcurrencyOfConnections(t *testing.T) {
	var now, most, conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		fmt.Fprint(w, "body of ", r.Host)
		now.Add(-1)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // while the server would keep connections
	r, err := Run(t.Context(), pages("example.org", 200), Options{To: parse(t, server.URL), Concurrency: 5, Timeout: time.Minute})
	if err != nil || r.Fetched != 200 || r.Octets != 200*int64(len("body of example.org")) {
		t.Errorf("%+v, %v", r, err)
	}
	if most.Load() > 5 || conns.Load() > 5 {
		t.Errorf("%d requests at the same time, %d connections", most.Load(), conns.Load())
	}
}

// No more requests begin in a second than were asked for.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		starts := make(chan time.Duration, 5)
		via := tripper(func(*http.Request) (*http.Response, error) {
			starts <- time.Since(began)
			return answer(200, "", ""), nil
		})
		if _, err := run(t.Context(), pages("example.org", 5), &Options{To: parse(t, "http://127.0.0.1"), Concurrency: 3, Rate: 2}, via); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if at, want := <-starts, time.Duration(i)*time.Second/2; at != want {
				t.Errorf("request %d begins after %v, want %v", i, at, want)
			}
		}
	})
}

// Requests go to the cache and name the host of their URL; what is asked for in
// Header is sent, and nothing is asked to be compressed by itself.
func TestRequests(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, strings.Join([]string{r.Method, r.Host, r.RequestURI, r.Header.Get("Accept-Encoding"), r.Header.Get("User-Agent")}, " "))
	}))
	defer server.Close()
	o := Options{To: parse(t, server.URL), Concurrency: 1, Header: http.Header{"User-Agent": {"me"}}}
	for _, coding := range []string{"", "zstd"} {
		if coding != "" {
			o.Header.Set("Accept-Encoding", coding)
		}
		if _, err := Run(t.Context(), []string{"http://example.org/a?b=%20c", "https://example.net:8443/%2F"}, o); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"GET example.org /a?b=%20c  me", "GET example.net:8443 /%2F  me",
		"GET example.org /a?b=%20c zstd me", "GET example.net:8443 /%2F zstd me",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The last cache in Cache-Status is the one that was asked (RFC 9211 §2).
func TestCacheStatus(t *testing.T) {
	for text, want := range map[string][2]bool{
		"":                        {false, false},
		"larder; hit":             {true, true},
		"cdn; hit, larder; hit":   {true, true},
		"larder; hit; ttl=-5":     {true, true},
		"cdn; hit, larder":        {false, false},
		"larder; hit=?0":          {false, false},
		"larder; fwd=uri-miss":    {false, false},
		"larder; fwd=miss;stored": {false, true},
		"larder; fwd=stale; fwd-status=304; ttl=60": {false, true},
		"larder; fwd=miss; collapsed":               {false, true},
		"cdn; stored, larder; fwd=miss":             {false, false},
		"(larder); hit":                             {false, false},
		"larder; hit, ;":                            {false, false},
	} {
		hit, kept := cached(http.Header{"Cache-Status": {text}})
		if got := [2]bool{hit, kept}; got != want {
			t.Errorf("%q: hit, kept are %v, want %v", text, got, want)
		}
	}
}

// What fails is counted, and the first of it named with the reason; redirects are
// answers as others.
func TestFailures(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.Error(w, "gone", http.StatusGone)
		case "/moved":
			http.Redirect(w, r, "/gone", http.StatusFound)
		case "/short":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "short")
		case "/kept":
			w.Header().Set("Cache-Status", "larder; fwd=uri-miss; stored")
		}
	}))
	defer server.Close()
	urls := []string{"http://h/gone", "http://h/moved", "http://h/short", "http://h/kept", "http://h/gone?2", "http://h/gone?3", "http://h/gone?4", "http://h/gone?5"}
	calls := 0
	r, err := Run(t.Context(), urls, Options{To: parse(t, server.URL), Concurrency: 1, Progress: func(r Report) {
		if calls++; r.Left != len(urls)-calls {
			t.Errorf("after %d URLs %d are left", calls, r.Left)
		}
	}})
	if err != nil || r.Fetched != 2 || r.Unkept != 1 || r.Hits != 0 || r.Failed != 6 || r.Left != 0 || calls != len(urls) {
		t.Errorf("%+v, %v, %d calls", r, err, calls)
	}
	var got []string
	for _, f := range r.Failures {
		got = append(got, f.URL+": "+f.Err.Error())
	}
	want := []string{
		"http://h/gone: answered 410 Gone",
		"http://h/short: the answer broke off: unexpected EOF",
		"http://h/gone?2: answered 410 Gone",
		"http://h/gone?3: answered 410 Gone",
		"http://h/gone?4: answered 410 Gone",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("failures:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What takes too long, as a whole, is given up; what comes after it is not.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		via := tripper(func(r *http.Request) (*http.Response, error) {
			resp := answer(200, "", "")
			switch r.URL.Path {
			case "/0":
				<-r.Context().Done()
				return nil, r.Context().Err()
			case "/1":
				time.Sleep(9 * time.Second)
				body, w := io.Pipe()
				context.AfterFunc(r.Context(), func() { w.CloseWithError(r.Context().Err()) })
				resp.Body = body
			}
			return resp, nil
		})
		began := time.Now()
		r, err := run(t.Context(), pages("h", 3), &Options{To: parse(t, "http://127.0.0.1"), Concurrency: 1, Timeout: 10 * time.Second}, via)
		if took := time.Since(began); err != nil || r.Fetched != 1 || r.Failed != 2 || took != 20*time.Second {
			t.Errorf("%+v, %v after %v", r, err, took)
		}
		for _, f := range r.Failures {
			if f.Err.Error() != "no whole answer within 10s" {
				t.Errorf("%s: %v", f.URL, f.Err)
			}
		}
	})
}

// Where nobody listens nothing is tried again and again.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r, err := Run(t.Context(), pages("h", 1000), Options{To: parse(t, "http://"+l.Addr().String()), Concurrency: 3, Timeout: time.Minute})
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) || r.Left != 1000 || r.Failed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A server that goes away in the middle is told for each URL, not by giving up.
func TestGoesAway(t *testing.T) {
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		server.Listener.Close()
		w.Header().Set("Connection", "close")
	}))
	defer server.Close()
	r, err := Run(t.Context(), pages("h", 3), Options{To: parse(t, server.URL), Concurrency: 1, Timeout: time.Minute})
	if err != nil || r.Fetched != 1 || r.Failed != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Told to stop it stops at once, in the middle of answers, and leaves nothing
// behind (TestMain).
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); n > 10 {
			fmt.Fprint(w, "it begins")
			_ = http.NewResponseController(w).Flush()
			if n == 14 {
				cancel(errors.New("enough"))
			}
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	r, err := Run(ctx, pages("h", 1000), Options{To: parse(t, server.URL), Concurrency: 4})
	if err == nil || err.Error() != "enough" || r.Fetched != 10 || r.Failed != 0 || r.Left != 990 {
		t.Errorf("%+v, %v", r, err)
	}
}
