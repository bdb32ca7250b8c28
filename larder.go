// Package larder is an HTTP cache to build into a program: a shared cache by
// RFC 9111 in front of the program's own handler, or of any origin.
//
//	var cache larder.Cache
//	http.ListenAndServe(":8080", cache.Handler(mux))
//
// Responses say by Cache-Control, ETag and their kin how long they may be
// used, as they would to any cache; Cache-Status in each answer tells what was
// made of it. Command larder is the same cache as a program of its own.
package larder

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/store/memory"
)

// A Cache keeps responses in memory. The zero value is ready for use and must
// not be copied after that. Any number of goroutines may use it.
type Cache struct {
	// Memory is the most that is kept, in octets, bookkeeping included. It lies
	// outside the Go heap where the system allows that, so the collector does
	// not see it. When it is full, what has expired leaves first, and then what
	// is worth least for its size. Responses larger than a quarter of it are
	// passed on and not kept. Zero or less means 64 MiB. It is read when the
	// first handler is made.
	Memory int64

	mu      sync.Mutex
	store   *memory.Store
	engines []*engine.Engine
	closed  bool
}

// Handler returns a handler that answers from the cache where it may, and asks
// next where it must. Each handler has its part of the cache to itself, but
// all share Memory.
//
// What next answers is kept only if it says that it may be: by Cache-Control
// or Expires, or by Last-Modified alone, of which a lifetime is guessed.
// Requests for the same thing wait for one call of next. A call may outlive
// the client that caused it. An answer that next does not finish, by a panic
// or by too few octets, is not kept, and its client sees a broken transfer.
//
// A panic of next is logged by slog.Default with its stack, unless it is
// http.ErrAbortHandler.
//
// A request that asks for WebSocket goes to next directly, so that it can
// hijack the connection; next gets to see no other Upgrade. A nil next panics
// at once.
func (c *Cache) Handler(next http.Handler) http.Handler {
	cached := c.add(engine.Config{Forward: local.RoundTripper(next)})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if webSocket(r) {
			next.ServeHTTP(w, r)
			return
		}
		cached.ServeHTTP(w, r)
	})
}

// webSocket tells a request that begins a WebSocket connection from one that
// only mentions Upgrade, as h2c clients do with any method: that is one like any
// other (RFC 9110 §7.8, RFC 6455 §4.1).
func webSocket(r *http.Request) bool {
	lines := r.Header["Upgrade"]
	return len(lines) == 1 && strings.EqualFold(lines[0], "websocket") && field.HasToken(r.Header["Connection"], "upgrade") &&
		r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1
}

// Proxy returns a handler that answers from the cache where it may, and asks
// origin where it must: a reverse proxy. The requests that origin gets have
// the scheme and host that the client asked for in their URL; to send them
// elsewhere is its part, as in the example. WebSocket connections are passed
// through if origin answers them as http.Transport does. A nil origin panics
// at once.
func (c *Cache) Proxy(origin http.RoundTripper) http.Handler {
	if origin == nil {
		panic("larder: nil origin")
	}
	return c.add(engine.Config{Forward: plain{origin}, Upgrades: []string{"websocket"}})
}

// add makes an engine of its own for a handler.
func (c *Cache) add(o engine.Config) *engine.Engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		c.store = memory.New(memory.Options{Budget: c.Memory, Now: func() int64 { return time.Now().Unix() }})
	}
	o.Store, o.Site = c.store, strconv.Itoa(len(c.engines))
	e := engine.New(o)
	c.engines = append(c.engines, e)
	return e
}

// Close ends what goes on in the background, and forgets everything. The
// handlers must not be in use any more. It always returns nil, and may be
// called again.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.engines {
		e.Close()
	}
	c.engines = nil
	if c.store == nil || c.closed {
		return nil
	}
	c.closed = true
	return c.store.Close()
}

// plain gives requests a URL such as clients of net/http make. The engine's
// own has the path in Opaque, too, where an http.Transport takes one that
// begins with two slashes for a host.
type plain struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Opaque, "//") {
		return p.RoundTripper.RoundTrip(r)
	}
	u := *r.URL
	u.Opaque = ""
	out := new(http.Request)
	*out = *r
	out.URL = &u
	return p.RoundTripper.RoundTrip(out)
}
