package larder_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/blobs"
	"github.com/larderhq/larder/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handler that takes its time is asked once.
func ExampleCache_Handler() {
	var cache larder.Cache
	defer cache.Close()
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.URL.Path)
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "hello")
	})
	handler := cache.Handler(slow)

	for range 2 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://example.org/greeting", nil))
		hit := strings.Contains(w.Header().Get("Cache-Status"), "hit")
		fmt.Println(w.Code, w.Body, "hit:", hit)
	}
	// Output:
	// asked for /greeting
	// 200 hello hit: false
	// 200 hello hit: true
}

// An elsewhere sends requests to one server, whatever host they name.
type elsewhere struct{ host string }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", e.host
	return http.DefaultTransport.RoundTrip(out)
}

// A reverse proxy with a cache takes a RoundTripper that knows the way.
func ExampleCache_Proxy() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s of %s", r.URL.Path, r.Host)
	}))
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	cache := larder.Cache{Memory: 16 << 20}
	defer cache.Close()
	handler := cache.Proxy(elsewhere{server.Listener.Addr().String()})

	for range 2 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://example.org/page", nil))
		fmt.Println(w.Body, w.Header().Get("Age") != "")
	}
	// Output:
	// /page of example.org false
	// /page of example.org true
}

func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// The handlers of one Cache do not see each other's responses.
func TestHandlersAreApart(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	fixed := func(body string) http.Handler {
		return cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			io.WriteString(w, body)
		}))
	}
	a, b := fixed("a"), fixed("b")
	for range 2 {
		if got := get(a, "/").Body.String() + get(b, "/").Body.String(); got != "ab" {
			t.Errorf("got %q, want ab", got)
		}
	}
}

// The path arrives as it was sent, also where it looks like a host.
func TestPathArrives(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	server := httptest.NewServer(echo)
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for name, h := range map[string]http.Handler{
		"handler": cache.Handler(echo),
		"proxy":   cache.Proxy(elsewhere{server.Listener.Addr().String()}),
	} {
		for _, path := range []string{"/", "/a%2Fb?c", "//evil.example/x", "///x?", "/a//b/../c", "/%7e~"} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RequestURI = path
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Body.String(); got != path {
				t.Errorf("%s: %q arrives as %q (%d)", name, path, got, w.Code)
			}
		}
	}
}

// A request for another protocol reaches the handler itself.
func TestUpgradePassesBy(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(*httptest.ResponseRecorder); !ok {
			t.Errorf("the handler got a %T", w)
		}
	}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "WebSocket")
	h.ServeHTTP(httptest.NewRecorder(), r)
}

// A request that merely mentions Upgrade goes by the cache like any other.
func TestUpgradeIsNoWayAround(t *testing.T) {
	for name, ask := range map[string]struct{ method, proto, connection, upgrade string }{
		"h2c":           {"POST", "HTTP/1.1", "Upgrade, HTTP2-Settings", "h2c"},
		"no connection": {"GET", "HTTP/1.1", "", "websocket"},
		"other":         {"GET", "HTTP/1.1", "Upgrade", "x"},
		"list":          {"GET", "HTTP/1.1", "Upgrade", "websocket, h2c"},
		"POST":          {"POST", "HTTP/1.1", "Upgrade", "websocket"},
		"HTTP/1.0":      {"GET", "HTTP/1.0", "Upgrade", "websocket"},
		"HTTP/2":        {"GET", "HTTP/2.0", "Upgrade", "websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			var cache larder.Cache
			defer cache.Close()
			version := 1
			h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header["Upgrade"] != nil {
					t.Errorf("the handler gets Upgrade: %q", r.Header["Upgrade"])
				}
				if r.Method == http.MethodPost {
					version++
				}
				w.Header().Set("Cache-Control", "max-age=60")
				fmt.Fprint(w, version)
			}))
			if got := get(h, "/").Body.String(); got != "1" {
				t.Fatalf("got %q", got)
			}
			r := httptest.NewRequest(ask.method, "/", nil)
			r.Proto = ask.proto
			r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(ask.proto)
			r.Header.Set("Connection", ask.connection)
			r.Header.Set("Upgrade", ask.upgrade)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Header().Get("Cache-Status") == "" {
				t.Error("the cache was passed by")
			}
			// What POST has changed is not served any more.
			if got, want := get(h, "/").Body.String(), fmt.Sprint(version); got != want {
				t.Errorf("then got %q, want %q", got, want)
			}
		})
	}
}

// A mistake in the program is logged, as net/http does.
func TestPanicIsLogged(t *testing.T) {
	var logged strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	defer slog.SetDefault(before)
	for cause, want := range map[any]bool{"a mistake": true, http.ErrAbortHandler: false} {
		var cache larder.Cache
		logged.Reset()
		get(cache.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(cause) })), "/of/mine")
		cache.Close() // waits for what runs
		got := logged.String()
		if (got != "") != want || want && (!strings.Contains(got, "a mistake") || !strings.Contains(got, "/of/mine") || !strings.Contains(got, "larder_test.go")) {
			t.Errorf("panic(%v) logs %q", cause, got)
		}
	}
}

func TestClose(t *testing.T) {
	var unused larder.Cache
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
	var cache larder.Cache
	h := cache.Handler(http.NotFoundHandler())
	get(h, "/")
	for range 2 {
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whoever builds the library and its store in gets no more than it needs.
func TestLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{.Module.Path}}{{end}}", ".", "./store/memory").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, banned := range []string{"/internal/config", "/internal/origin", "/internal/front", "/internal/daemon", "/internal/cli", "/gateway"} {
			if strings.HasPrefix(path, "github.com/larderhq/larder"+banned) {
				t.Errorf("larder imports %s", path)
			}
		}
		modules[module] = true
	}
	if len(modules) > 1+5 {
		t.Errorf("larder adds the modules %v", modules)
	}
	t.Logf("larder and store/memory are %d modules: %v", len(modules), slices.Sorted(maps.Keys(modules)))
}

// A Store of one's own is used, outlives the Cache, and serves the next one.
func TestStore(t *testing.T) {
	for name, kept := range map[string]store.Store{
		"memory": memory.New(memory.Options{Budget: 16 << 20}),
		"blobs":  blobs.New(&values{}, blobs.Options{}),
	} {
		for i := range 2 {
			cache := larder.Cache{Store: kept}
			h := cache.Handler(answer("Cache-Control: max-age=60"))
			a := get(h, "http://h/")
			if hit := strings.Contains(a.Header().Get("Cache-Status"), "; hit"); hit != (i > 0) || a.Body.String() != "page" {
				t.Errorf("%s, %d: hit %t, %q", name, i, hit, a.Body)
			}
			if err := cache.Close(); err != nil {
				t.Error(err)
			}
		}
		kept.Close()
	}
}

// values are a backend as httpcache has them.
type values struct{ sync.Map }

func (v *values) Get(key string) ([]byte, bool) {
	value, ok := v.Load(key)
	octets, _ := value.([]byte)
	return octets, ok
}
func (v *values) Set(key string, value []byte) { v.Store(key, value) }
func (v *values) Delete(key string)            { v.Map.Delete(key) }

// timeZero has http.ServeContent send no Last-Modified.
var timeZero time.Time
