package larder_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder"
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
	r.Header.Set("Upgrade", "websocket")
	h.ServeHTTP(httptest.NewRecorder(), r)
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

// Whoever builds the library in gets no more than it needs.
func TestLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		for _, banned := range []string{"/internal/config", "/internal/origin", "/internal/front", "/internal/daemon", "/internal/cli", "/gateway"} {
			if strings.HasPrefix(path, "github.com/larderhq/larder"+banned) {
				t.Errorf("larder imports %s", path)
			}
		}
		if !strings.HasPrefix(path, "github.com/larderhq/larder") && !strings.HasPrefix(path, "github.com/dunglas/httpsfv") {
			t.Errorf("larder imports the module of %s", path)
		}
	}
}
