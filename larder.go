package larder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/encode"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/local"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/page"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

// A Cache keeps responses in memory. The zero value is ready for use and must
// not be copied after that. Any number of goroutines may use it. Its fields must not
// change once the first handler or transport was made.
type Cache struct {
	// Memory is the most that is kept, in octets, bookkeeping included. It lies
	// outside the Go heap where the system allows that, so the collector does
	// not see it. When it is full, what has expired leaves first, and then what
	// is worth least for its size. Responses larger than a quarter of it are
	// passed on and not kept. Zero or less means 64 MiB.
	Memory int64

	// Store keeps the responses in place of memory; nil: memory does. The Cache does not
	// close it. Where it outlives the process, or is shared with another, the handlers
	// and transports of both have the same responses, the first that is made those of
	// the first, and so on: they must be for the same thing. What was made for
	// credentials, or by VaryOn and VaryCookies, is not found by another process.
	Store store.Store

	// Policy holds for requests for which PolicyFor names no other.
	Policy Policy

	// Policies are others, by name.
	Policies map[string]Policy

	// PolicyFor picks the policy of a request by its name; empty means Policy, and
	// so does, with a complaint in the log, a name that is not in Policies. It is
	// called like the functions of a Policy. Nil: Policy holds for all.
	PolicyFor func(*http.Request) string

	// Compress has text and the like compressed, once for each coding, before it is
	// kept: br, zstd or gzip, as clients accept it. What is encoded already, is short
	// or says no-transform stays as it is. Entity tags become weak, W/"x-br" for "x":
	// the same octets are promised to nobody. It holds for handlers, not for Transport.
	Compress bool

	// Explain adds the key and the reason to Cache-Status in answers. They tell who
	// asks how the program is built.
	Explain bool

	// Log gets a line for each request that has been answered, at level Info. Nil: none
	// is written.
	Log *slog.Logger

	mu     sync.Mutex
	ledger *purge.Ledger // nil before the first face
	closed bool
	memory *memory.Store // unless there is a Store
	secret []byte        // nil before the first face
	faces  []*face
	groups groups
	clock  engine.Clock

	tending     sync.Once // from the first purge on
	stopTending context.CancelFunc
	background  sync.WaitGroup
}

// manyFaces is how many handlers and transports are more than a program has.
const manyFaces = 100

// A face is one handler or transport, with a part of the cache to itself.
type face struct {
	*engine.Engine
	cached http.RoundTripper // asks the Engine
}

// Check tells what is wrong with the policies, so that it can be fixed: nil if
// nothing is. Handler, Proxy and Transport panic with the same error.
func (c *Cache) Check() error {
	_, err := c.compile(Shared)
	return err
}

// compile compiles all policies, the one without a name among them.
func (c *Cache) compile(sharing Sharing) (map[string]*engine.Policy, error) {
	all := make(map[string]*engine.Policy, len(c.Policies)+1)
	var errs []error
	add := func(name string, p Policy) {
		compiled, err := p.compile(name, sharing)
		compiled.Version = p.Version
		if p.Group != nil {
			compiled.Touched = c.groups.touched(p.Group)
		}
		all[name], errs = compiled, append(errs, err)
	}
	add("", c.Policy)
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		if name == "" {
			errs = append(errs, errors.New(`larder: Policies[""]: the policy without a name is Policy`))
			continue
		}
		add(name, c.Policies[name])
	}
	if len(c.Policies) > 0 && c.PolicyFor == nil {
		errs = append(errs, errors.New("larder: there are Policies, but no PolicyFor that would pick them"))
	}
	return all, errors.Join(errs...)
}

// Handler returns a handler that answers from the cache where it may, and asks
// next where it must. Each handler has its part of the cache to itself, but
// all share Memory: call Handler once, not for each request.
//
// Put it around a whole router, not into one nor around a single route: next gets the
// URL that the client asked for, also where a prefix was stripped from it, and no path
// values. Requests of next may outlive the client, and refreshes have none: their
// contexts have the client's values only as long as its request is being served, unless
// VaryOn or VaryCookies found something in it. What chooses a response by a value of
// the context, such as a user, has to be in VaryOn.
//
// What next answers is kept only if it says that it may be: by Cache-Control
// or Expires, or by Last-Modified alone, of which a lifetime is guessed; or if the
// Policy says so. Requests for the same thing wait for one call of next. A call may
// outlive the client that caused it. An answer that next does not finish, by a panic
// or by too few octets, is not kept, and its client sees a broken transfer.
//
// Trailers of next are passed on with answers that are not kept, and dropped with those
// that are. A panic of next is logged by slog.Default with its stack, unless it is
// http.ErrAbortHandler. So is, once, each policy that overrules an origin.
//
// A request that asks for WebSocket goes to next directly, so that it can
// hijack the connection; next gets to see no other Upgrade. A nil next panics
// at once, and so does a mistake in a policy: see Check.
func (c *Cache) Handler(next http.Handler) http.Handler {
	page := &framed{RoundTripper: local.RoundTripper(next), cache: c}
	cached := c.add(engine.Config{Forward: page, Trailers: true, Lease: true}, Shared, nil)
	page.face = cached
	answer := c.assembled(cached)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if webSocket(r) {
			next.ServeHTTP(w, r)
			return
		}
		answer.ServeHTTP(w, r)
	})
}

// assembled has f answer, and assembles pages if any policy says so.
func (c *Cache) assembled(f *face) http.Handler {
	settings := map[string]*page.Settings{"": c.Policy.settings()}
	any := settings[""] != nil
	for name, p := range c.Policies {
		settings[name] = p.settings()
		any = any || settings[name] != nil
	}
	if !any {
		return f
	}
	return &page.Handler{
		Cache: f, Name: "larder",
		Fetch: func(r *http.Request) (*http.Response, error) { return f.fetch(r.Context(), r, r.URL) },
		Settings: func(r *http.Request) *page.Settings {
			if c.PolicyFor == nil {
				return settings[""]
			}
			name := c.PolicyFor(r)
			if _, ok := settings[name]; !ok { // see pick
				name = ""
			}
			return settings[name]
		},
		Failed: func(r *http.Request, err error) {
			slog.Error("larder: a page cannot be assembled", "host", r.Host, "target", r.RequestURI, "error", err)
		},
	}
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
// through if origin answers them as http.Transport does. Interim responses (1xx) are
// passed on if origin reports them to net/http/httptrace, as http.Transport does. A nil
// origin panics at once, and so does a mistake in a policy: see Check.
func (c *Cache) Proxy(origin http.RoundTripper) http.Handler {
	if origin == nil {
		panic("larder: nil origin")
	}
	return c.assembled(c.add(engine.Config{Forward: traced{plain{origin}}, Upgrades: []string{"websocket"}, Lease: true}, Shared, nil))
}

// add makes an engine of its own for a face. seen, where set, is the request that the
// functions of policies get to see for one that the engine has.
func (c *Cache) add(o engine.Config, sharing Sharing, seen func(*http.Request) *http.Request) *face {
	now, _ := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	policies, err := c.compile(sharing)
	if err != nil {
		panic(err)
	}
	if c.secret == nil {
		c.secret = engine.NewSecret()
		if c.Store != nil {
			c.groups.since = now
		} else {
			c.memory = memory.New(memory.Options{Budget: c.Memory, Now: func() int64 { return time.Now().Unix() }})
		}
		for name, p := range policies {
			if p.Terms.Overrule != 0 {
				slog.Warn("larder overrules what the origin says", "policy", name, "directives", p.Terms.Overrule.String())
			}
		}
	}
	for _, p := range policies {
		p.Terms.Secret = c.secret
		if seen != nil {
			lookThrough(p, seen)
		}
	}
	if c.Log != nil {
		o.Sink = logger{c.Log}
	}
	o.Explain, o.Clock, o.Ledger = c.Explain, c.clock, c.records()
	o.Purged = func() { c.tending.Do(c.tend) }
	if c.Compress && sharing == Shared {
		o.Forward, o.Negotiate = encode.RoundTripper(o.Forward, encode.Options{}), encode.Negotiate(nil)
	}
	if o.Store = c.Store; o.Store == nil {
		o.Store = c.memory
	}
	o.Site, o.Policy = strconv.Itoa(len(c.faces)), *policies[""]
	if c.PolicyFor != nil {
		o.PolicyFor = pick(c.PolicyFor, policies, seen)
	}
	f := &face{Engine: engine.New(o)}
	f.cached = local.RoundTripper(f.Engine)
	if c.faces = append(c.faces, f); len(c.faces) == manyFaces {
		slog.Warn("larder: so many handlers were made of one Cache that it may be done for each request; make one, around the whole router", "handlers", manyFaces)
	}
	return f
}

// pick finds the policy of a request.
func pick(name func(*http.Request) string, policies map[string]*engine.Policy, seen func(*http.Request) *http.Request) func(*http.Request) *engine.Policy {
	return func(r *http.Request) *engine.Policy {
		if seen != nil {
			r = seen(r)
		}
		n := name(r)
		if n == "" {
			return nil
		}
		p := policies[n]
		if p == nil {
			slog.Error("larder: PolicyFor names a policy that is not there", "policy", n)
		}
		return p
	}
}

// lookThrough has the functions of p see another request.
func lookThrough(p *engine.Policy, seen func(*http.Request) *http.Request) {
	p.KeyPart = both(via, p.KeyPart)
	for _, f := range []*func(*http.Request) string{&p.KeyPart, &p.Version, &p.Bypass} {
		if inner := *f; inner != nil {
			*f = func(r *http.Request) string { return inner(seen(r)) }
		}
	}
	if touched := p.Touched; touched != nil {
		p.Touched = func(r *http.Request) time.Time { return touched(seen(r)) }
	}
}

// A logger writes what became of requests.
type logger struct{ to *slog.Logger }

// Observe implements observe.Sink.
func (l logger) Observe(e *observe.Event) {
	status := ""
	if e.Cached() {
		status = string(e.AppendCacheStatus(nil, observe.Detail{Name: "larder", Why: true}))
	}
	attrs := []slog.Attr{
		slog.String("method", e.Method), slog.String("host", e.Host), slog.String("target", e.Target),
		slog.Int("status", e.Status), slog.Int64("octets", e.Sent), slog.Duration("took", e.Duration), slog.String("cache", status),
	}
	if e.Fault != nil {
		attrs = append(attrs, slog.Any("fault", e.Fault))
	}
	l.to.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

// groups know when each group was touched last.
type groups struct {
	since time.Time // touched is everything in a group that is older
	at    sync.Map  // of time.Time
}

// touched is when what group says a request is of was touched.
func (g *groups) touched(group func(*http.Request) string) func(*http.Request) time.Time {
	return func(r *http.Request) time.Time {
		name := group(r)
		if name == "" {
			return time.Time{}
		}
		if at, ok := g.at.Load(name); ok {
			return at.(time.Time)
		}
		return g.since
	}
}

// Purge forgets what is kept for an absolute URI, such as https://example.org/a?b,
// in all handlers and transports: all variants, at once, and so that fetches under way
// do not bring it back. The URI is that which clients ask for. The error says that
// it is none.
func (c *Cache) Purge(ctx context.Context, uri string) error {
	return c.each(uri, func(f *face, u *url.URL) bool { return f.ForgetURL(ctx, u) })
}

// Touch has what is kept for an absolute URI refreshed gracefully: the next request
// gets it as it is, where stale is allowed, and causes one refresh; nobody waits. The
// error says that it is no such URI.
func (c *Cache) Touch(ctx context.Context, uri string) error {
	return c.each(uri, func(f *face, u *url.URL) bool { return f.Touch(ctx, u) })
}

// TouchGroup does the same for all that Policy.Group says is of a group. It takes no
// longer for many. Where there is a Store, what was in a group before the first handler
// was made counts as touched: nobody knows what happened before.
func (c *Cache) TouchGroup(group string) {
	now, _ := c.now()
	c.groups.at.Store(group, now)
}

// now is the time by which all of the Cache go.
func (c *Cache) now() (steady, wall time.Time) {
	c.mu.Lock()
	if c.clock == nil {
		c.clock = engine.SystemClock()
	}
	clock := c.clock
	c.mu.Unlock()
	return clock()
}

// sides are the faces there are.
func (c *Cache) sides() []*face {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faces)
}

func (c *Cache) each(uri string, do func(f *face, u *url.URL) bool) error {
	u, err := url.Parse(uri)
	if err != nil {
		return fmt.Errorf("larder: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("larder: %q is no absolute URI of http or https", uri)
	}
	for _, f := range c.sides() {
		if !do(f, u) {
			return fmt.Errorf("larder: %q has no host that could be asked", uri)
		}
	}
	return nil
}

// Close ends what goes on in the background, and forgets everything but what is in a
// Store. The handlers and transports must not be in use any more. It always returns nil, and
// may be called again.
func (c *Cache) Close() error {
	c.mu.Lock()
	faces, kept, stop := c.faces, c.memory, c.stopTending
	c.faces, c.closed = nil, true
	c.mu.Unlock()
	if stop != nil {
		stop()
		c.background.Wait()
	}
	for _, f := range faces { // which waits for fetches, that may call us
		f.Close()
	}
	if kept == nil {
		return nil
	}
	if err := kept.Close(); !errors.Is(err, store.ErrClosed) {
		return err
	}
	return nil
}
