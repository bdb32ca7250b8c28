// Package engine moves one request along the way: look up, select, decide,
// serve, validate, fetch. What to do is decided in package rules; here it is
// done.
package engine

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
)

// Config is what an Engine is made of. It must not change afterwards.
type Config struct {
	// Store keeps the responses. The Engine does not close it.
	Store store.Store

	// Forward asks the origin.
	Forward http.RoundTripper

	// Policy is what holds for requests for which PolicyFor, where set, does not
	// name another. It is called once for each request, by many goroutines, and must
	// be quick; what it returns must not change. All have the same Terms.Secret.
	Policy
	PolicyFor func(*http.Request) *Policy

	// Site keeps the keys of one site apart from those of another in the same
	// store.
	Site string

	// Ledger knows what was purged. Nil: one of the Engine's own, which ends with it. It may
	// be that of several Engines.
	Ledger *purge.Ledger

	// Purged, where set, is called when an answer of the origin has purged groups.
	Purged func()

	// Paths says that the origin knows resources by their paths alone, as storage
	// does: hosts, schemes and queries are no part of a key.
	Paths bool

	// Name identifies us in Cache-Status and Proxy-Status. Empty means
	// "larder".
	Name string

	// Pseudonym is who we are in Via. A request that has it already went round
	// in a circle, so it must differ from that of every other cache on the
	// way. Empty: no Via is added, and no loop is seen by it.
	Pseudonym string

	// LoopID is our name in CDN-Loop (RFC 8586). Empty: none is added.
	LoopID string

	// LoopLimit is how often a request may have passed here before.
	LoopLimit int

	// ViaResponse adds Via to responses as well.
	ViaResponse bool

	// Forwarded says how the origin is told of the client.
	Forwarded ForwardedMode

	// Trusts tells whether the fields by which a peer speaks for others
	// (Forwarded, X-Forwarded-*) are believed, given its address as host:port.
	// Nil trusts nobody.
	Trusts func(peer string) bool

	// SpokenFor are fields beside the well-known ones (X-Forwarded-Host,
	// X-Original-URL, X-HTTP-Method-Override and their like) by which a peer
	// could name another host, scheme, path, method or identity than its own.
	// They are kept from the origin unless the peer is trusted. Names are in
	// canonical form.
	SpokenFor []string

	// Negotiate, where set, says what the fields of a GET or HEAD are taken for, in
	// place of those that the client sent and by them alone. It is called by many
	// goroutines and must not change its argument.
	Negotiate func(http.Header) http.Header

	// Lease says that the values of a request's context are not to be read once
	// ServeHTTP has returned, as a server's and a router's are not: fetches that go on
	// behind it have none, unless KeyPart found something in the request. Otherwise
	// they keep them.
	Lease bool

	// Trailers passes trailer fields on with responses that are not kept, whether the
	// client asks for them or not, as net/http's server does with those of a handler.
	// Otherwise they are dropped (RFC 9110 §6.5.1).
	Trailers bool

	// Upgrades are the protocols of Upgrade that are tunnelled, in lower case.
	Upgrades []string

	// Explain adds the key and the reason to Cache-Status. They tell a client
	// how the site is built.
	Explain bool

	// Sink is told of every request; nil tells nobody.
	Sink observe.Sink

	// Recent, where set, gets to see the requests, for previews of purges.
	Recent *observe.Recent

	// Secure are the fields that whoever has the Engine serve a request by https sets before,
	// such as Strict-Transport-Security: Decide has them, too. The origin's own take their
	// place.
	Secure http.Header

	// Clock is the time; nil is the machine's.
	Clock Clock

	// Standing, where set, is told of the decisions that hold for a while. It
	// must come from Standing.
	Standing *standing.Table
}

// A Policy is what the operator chose for some requests. It must not change once in
// use.
type Policy struct {
	// Label tells the policy apart from others in the log; empty: there is one.
	Label string

	// Terms are the rules that are bent; the zero value follows the standards.
	Terms rules.Terms

	// KeyPart adds to the key what it finds in a request, such as a cookie:
	// responses to requests for which it differs are kept apart, up to
	// store.MaxVariants of them for one resource, and are forgotten together.
	// It sees the request as the client sent it, is called for each request,
	// by many goroutines, and must be quick. The result is kept as a hash
	// (Terms.Secret). Nil or an empty result adds nothing.
	KeyPart func(*http.Request) string

	// Version, where set, is the version of what the origin makes now. An entry
	// stored under another version is refreshed as if its soft expiry had passed
	// (version-function). It is called for each request as the client sent it, by
	// many goroutines, and must be quick.
	Version func(*http.Request) string

	// AlsoVary are fields that KeyPart looks at. They are added to the Vary of answers.
	AlsoVary []string

	// Assembles says that somebody between the Engine and its clients assembles pages
	// of responses that ask for it by Surrogate-Control (ESI 1.0). They get to see that
	// field, origins are told, and no standing answer is for such a response.
	Assembles bool

	// Touched, where set, is when what a request asks for was touched last, on the
	// Engine's steady clock: what was asked for before that is as of another version.
	// It is called like Version.
	Touched func(*http.Request) time.Time

	// Bypass, where set, is why a request goes past the cache; empty: it does not.
	// It is called like Version.
	Bypass func(*http.Request) string
}

// Standing makes a Table for a Config with the same SpokenFor.
func Standing(spokenForToo []string) *standing.Table {
	return standing.New(slices.Concat(spokenFor, spokenForToo))
}

// ForwardedMode says how the origin is told of the client.
type ForwardedMode uint8

const (
	// ForwardNothing tells the origin nothing.
	ForwardNothing ForwardedMode = iota
	// ForwardStandard writes Forwarded (RFC 7239).
	ForwardStandard
	// ForwardX writes X-Forwarded-For, -Host and -Proto.
	ForwardX
)

// A Clock tells the time twice: on a clock that runs evenly and is never set,
// and on the wall, to compare with the origin's.
type Clock func() (steady, wall time.Time)

// SystemClock is the machine's clock. Its steady time began as the wall's and
// goes on by the monotonic clock, so that setting the wall clock neither ages
// nor revives anything (RFC 9111 §4.2.3).
func SystemClock() Clock {
	start := time.Now()
	origin := start.Round(0) // without the monotonic reading, so that Add leaves none
	return func() (steady, wall time.Time) {
		now := time.Now()
		return origin.Add(now.Sub(start)), now
	}
}

// An Engine serves requests from a store and an origin. It is an http.Handler
// for any number of goroutines.
type Engine struct {
	Config
	heads       heads
	flights     flight.Group[*landing]
	uncacheable marks
	backoff     marks
	exchanges   sync.Pool
	hit         string // how our member of Cache-Status begins on a hit
	spoken      spoken
	keeper      store.Store // Store, itself
	labelling   rules.Terms // by which all that is kept is labelled, whatever its policy
	previewing  sync.Mutex
	changes     changes
	walker      store.Walker // nil: the store cannot show what it keeps

	// background holds the fetches, which outlive the clients that caused them.
	background     sync.WaitGroup
	mu             sync.Mutex // guards closed, and background until it is set
	closed         bool
	ctx            context.Context
	stopBackground context.CancelFunc
}

// New makes an Engine. Close ends what it began.
func New(c Config) *Engine {
	if c.Name == "" {
		c.Name = "larder"
	}
	if c.Clock == nil {
		c.Clock = SystemClock()
	}
	if len(c.Terms.Secret) == 0 {
		c.Terms.Secret = NewSecret()
	}
	e := &Engine{Config: c, hit: string(field.AppendSFIdentifier(nil, c.Name)) + "; hit; ttl="}
	e.labelling = rules.Terms{TagFields: c.Terms.TagFields, NoGroups: c.Terms.NoGroups}
	e.keeper = c.Store
	e.walker, _ = c.Store.(store.Walker)
	if e.Standing != nil {
		e.Store = changing{e.Store, e.Standing}
	}
	if e.Ledger == nil {
		e.Ledger = purge.New(purge.Options{Paths: c.Paths})
	}
	e.changes.init()
	e.uncacheable.seed()
	e.backoff.seed()
	e.spoken.learn(spokenFor)
	e.spoken.learn(c.SpokenFor)
	e.exchanges.New = func() any { return &exchange{room: &room{fields: make(fields)}} }
	e.ctx, e.stopBackground = context.WithCancel(context.Background())
	return e
}

// NewSecret draws a rules.Terms.Secret.
func NewSecret() []byte { return []byte(rand.Text() + rand.Text()) }

// key is what t is stored under.
func (e *Engine) key(t *canon.Target) []byte { return e.appendKey(nil, t) }

func (e *Engine) appendKey(dst []byte, t *canon.Target) []byte {
	if e.Paths {
		return t.AppendPathKey(dst, e.Site)
	}
	return t.AppendKey(dst, e.Site)
}

// policy is what holds for r.
func (e *Engine) policy(r *http.Request) *Policy {
	if e.PolicyFor != nil {
		if p := e.PolicyFor(r); p != nil {
			return p
		}
	}
	return &e.Config.Policy
}

// Close ends the fetches that are under way, and waits for them. The caller has
// stopped sending requests; those that are left fail.
func (e *Engine) Close() {
	e.stopBackground()
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.background.Wait()
}

// spawn runs f beside the requests. Close waits for it, unless it came later:
// then the contexts of fetches have ended already.
func (e *Engine) spawn(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		go f()
		return
	}
	e.background.Go(f)
}

// ServeHTTP answers one request. It panics with http.ErrAbortHandler when an
// answer that was begun cannot be finished, so that the client sees a broken
// transfer and not a short one.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := e.exchanges.Get().(*exchange)
	x.begin(e, w, r)
	defer x.end()
	x.serve()
}
