package larder

import (
	"net/http"
	"time"
)

// A Policy says how requests and their responses are treated. The zero value follows
// the standards: RFC 9111 for a shared cache, or a private one in Transport. Every
// field is a choice that the standards leave open, or a departure from them that
// whoever runs both origin and cache may make on purpose; docs/policies.md names the
// sentence that each one bends. Field names and header names may be written in any
// case. Functions are called for each request, by many goroutines at once, and must
// be quick; they must not change the request, nor keep it.
//
// A Policy must not change once a handler or a transport was made with it.
type Policy struct {
	// Sharing says whose cache this is; empty: everybody's in a handler, one
	// client's in Transport.
	Sharing Sharing

	// Methods are those that are answered from the cache: GET, or GET and HEAD,
	// which nil means.
	Methods []string

	// VaryHeaders are request fields that choose a response whether it says so by
	// Vary or not. They are added to the Vary of answers. `*` would never match,
	// and is a mistake.
	VaryHeaders []string

	// VaryOn adds what it finds in a request to what chooses a response: the user,
	// the tenant, the scheme, anything. Responses for which it differs are kept
	// apart and forgotten together. It is kept as a keyed hash. Nil or an empty
	// result adds nothing.
	VaryOn func(*http.Request) string

	// VaryCookies are cookies whose values choose a response. All others make no
	// difference. Names keep their case.
	VaryCookies []string

	// VaryIgnore are fields that Vary names in vain.
	VaryIgnore []string

	// LanguageSelect reuses a response whose Content-Language is the client's best
	// choice although Accept-Language differs.
	LanguageSelect bool

	// BypassCookies has requests with any cookie go past the cache.
	BypassCookies bool

	// BypassHTTPS has requests that came by https go past the cache, which was the
	// rule of accelerators before everything was encrypted.
	BypassHTTPS bool

	// Bypass has a request go past the cache if it says why, in a few words for
	// the log.
	Bypass func(*http.Request) string

	// Heed are the directives of Cache-Control in requests that count: no-store,
	// only-if-cached, max-stale, no-cache, max-age, min-fresh, stale-if-error; or
	// "all" or "none" alone. Nil means those that spare the origin work, which are
	// the first three, and all in a private cache.
	Heed []string

	// Reload lets a client's no-cache, max-age=0 or Pragma: no-cache, as a browser's
	// shift-reload sends them, bypass what is fresh and refresh it, whatever Heed
	// says: for developers.
	Reload bool

	// Ranges and Conditionals say what is done with Range and with If-None-Match
	// and If-Modified-Since.
	Ranges       Ranges
	Conditionals Conditionals

	// MaxRanges is how many ranges a request may name before it gets everything.
	// Zero means 16.
	MaxRanges int

	// Authorization says what is kept of answers to requests with credentials.
	// `private` and `no-store` win, whatever it says.
	Authorization Authorization

	// SetCookie says what is kept of responses that set a cookie.
	SetCookie SetCookie

	// Statuses are those that are kept. Nil means all that RFC 9111 allows.
	Statuses []int

	// DefaultTTL is the lifetime of a success for which the origin states none, and
	// NegativeTTL that of 404, 405, 410, 414, 451 and 500 to 504. They go before
	// any guess. Zero means none.
	DefaultTTL, NegativeTTL time.Duration

	// MinTTL and MaxTTL bound the lifetimes that the origin states or that are
	// guessed. Zero means no bound.
	MinTTL, MaxTTL time.Duration

	// NoHeuristics never guesses a lifetime from Last-Modified. A guess is at most
	// HeuristicMax, of which zero means 24 hours.
	NoHeuristics bool
	HeuristicMax time.Duration

	// IgnoreSMaxAge leaves s-maxage to caches further down.
	IgnoreSMaxAge bool

	// TrustDate takes a response as made when it arrived, whatever its Date says.
	TrustDate bool

	// TargetedFields displace Cache-Control, the first that is there (RFC 9213).
	// Nil means CDN-Cache-Control; an empty list means none. StripTargeted are not
	// passed on to clients.
	TargetedFields, StripTargeted []string

	// Surrogate lets Surrogate-Control displace Cache-Control.
	Surrogate bool

	// Overrule are directives of responses that do not count: no-store, private,
	// no-cache. What was overruled is named in every Cache-Status.
	Overrule []string

	// Grace is how long after its lifetime a response is still served at once,
	// while one request refreshes it: the time between soft and hard expiry. After
	// that requests wait for that one. must-revalidate and its kin forbid it.
	Grace time.Duration

	// Version, where set, is the version of what the origin makes for a request
	// now. What was kept under another version is refreshed as if its lifetime was
	// over and it was within its grace: served at once, refreshed by one request.
	Version func(*http.Request) string

	// Group names the group that a response belongs to, for Cache.TouchGroup. Nil
	// or an empty result: none.
	Group func(*http.Request) string

	// NeverStaleOnError answers for a failing origin with an error even if there is
	// something stale. Otherwise that does, for StaleOnErrorMax after its lifetime, of
	// which zero means 24 hours.
	NeverStaleOnError bool
	StaleOnErrorMax   time.Duration

	// RevalidateTimeout is how long a client waits for a validation before it gets
	// something stale; zero means as long as it takes. RevalidateBackoff is how long
	// one in the background that failed is not tried again; zero means 5 s.
	RevalidateTimeout, RevalidateBackoff time.Duration

	// EarlyHints tells a client that waits for something stale to be validated, or
	// fetched anew, what it may load meanwhile (103, RFC 8297): the links to preload,
	// modulepreload and preconnect to of the stale response.
	EarlyHints bool

	// NoCollapse has each miss ask the origin on its own. Otherwise requests wait
	// for another's answer for CollapseTimeout, of which zero means 5 s, and do not
	// for UncacheableMemory after one proved unfit for sharing, of which zero means
	// 60 s.
	NoCollapse                         bool
	CollapseTimeout, UncacheableMemory time.Duration

	// ESI has pages assembled of responses that ask for it by
	// Surrogate-Control: content="ESI/1.0". Nil: such responses are passed on unread.
	// It holds for handlers, not for Transport.
	ESI *ESI

	// HideAge leaves Age out of answers. DateNow, which needs it, sets Date to now
	// and moves Expires along, so that caches further down take them for new.
	HideAge, DateNow bool

	// KeepRelated does not forget what Location and Content-Location name when a
	// POST, PUT or DELETE succeeds.
	KeepRelated bool

	// HeadFreshening says when a 200 to HEAD refreshes a response to GET.
	HeadFreshening HeadFreshening

	// PartTolerance keeps a 206 whose octets contradict its Content-Range.
	PartTolerance bool
}

// ESI says how pages are assembled (ESI 1.0: include with alt and onerror, remove,
// comment, try, choose, vars, and <!--esi -->). What is kept are template and
// fragments, each by its own lifetime. Fragments come through the cache, and in
// parallel; redirects are not followed, and a page that includes itself is refused. They
// get the client's fields, but for what is about ranges, conditions and caching. The
// page has no validators and no lifetime for caches further down. Zero values are
// defaults.
type ESI struct {
	// Hosts are those, as host or host:port, from which fragments may come beside
	// the page's own, asked of the same handler: without the client's Cookie and
	// Authorization.
	Hosts []string

	// Cookies are those whose values pages may show; nil: none.
	Cookies []string

	// DropFailed has an include that fails without a remedy of its own vanish;
	// otherwise it fails the page, with 502 or 504 if nothing of it was sent yet.
	DropFailed bool

	// Strict has malformed markup fail the page; otherwise it is passed on as text.
	Strict bool

	// Depth is how deep fragments may lie in each other, 3 by default. Includes is
	// how many there may be in a page, 256, and Parallel how many are fetched at the
	// same time, 32.
	Depth, Includes, Parallel int

	// PageSize is the longest page in octets, 64 MiB by default, and FragmentSize the
	// longest fragment, 16 MiB.
	PageSize, FragmentSize int64

	// Time is how long fragments may hold up a page in all, 10 s by default.
	Time time.Duration
}

// Sharing says whose cache it is (RFC 9111 §1).
type Sharing string

// Shared is everybody's cache, Private one client's: it keeps what is private, heeds
// that client's directives, and no directives for shared caches. Where that client
// acts for several users, Private keeps those apart that differ in Authorization;
// if they differ in other ways, use Shared, or VaryOn.
const (
	Shared  Sharing = "shared"
	Private Sharing = "private"
)

// Ranges says what is done with Range.
type Ranges string

// RangesFull serves ranges, keeps parts and joins them. RangesServe cuts ranges out of
// what is whole and keeps no parts. RangesPass leaves them to the origin.
const (
	RangesFull  Ranges = ""
	RangesServe Ranges = "serve-only"
	RangesPass  Ranges = "pass"
)

// Conditionals says what is done with If-None-Match and If-Modified-Since.
type Conditionals string

// ConditionalsEvaluate answers them from the cache, and forwards those that miss as
// they are. ConditionalsFill fetches the whole response for those, and keeps it.
// ConditionalsPass leaves all to the origin, also If-Match and If-Unmodified-Since,
// which no cache may judge.
const (
	ConditionalsEvaluate Conditionals = ""
	ConditionalsFill     Conditionals = "fill"
	ConditionalsPass     Conditionals = "pass"
)

// Authorization says what is kept of answers to requests with credentials.
type Authorization string

// AuthorizationRFC keeps what RFC 9111 §3.5 allows, for everybody. AuthorizationKey
// keeps the rest, too, each for those alone who send the same credentials: they are
// hashed. AuthorizationNever keeps nothing.
const (
	AuthorizationRFC   Authorization = ""
	AuthorizationKey   Authorization = "key"
	AuthorizationNever Authorization = "never"
)

// SetCookie says what is kept of responses that set a cookie.
type SetCookie string

// SetCookieExplicit keeps those whose lifetime the origin states. SetCookieRefuse
// keeps none, SetCookieStrip keeps them without the field, and SetCookiePass like any
// other.
const (
	SetCookieExplicit SetCookie = ""
	SetCookieRefuse   SetCookie = "refuse"
	SetCookieStrip    SetCookie = "strip"
	SetCookiePass     SetCookie = "pass"
)

// HeadFreshening says when a 200 to HEAD refreshes a response to GET (RFC 9111
// §4.3.5).
type HeadFreshening string

// HeadRFC: if all validators and the length agree. HeadValidators: if one validator
// at least is there and agrees. HeadNever: never.
const (
	HeadRFC        HeadFreshening = ""
	HeadValidators HeadFreshening = "validators"
	HeadNever      HeadFreshening = "off"
)

// Simple is the profile of an accelerator that keeps out of what it need not know:
// only GET is answered from the cache, ranges and conditions are the origin's, and
// what clients say about caching does not count.
func Simple() Policy {
	return Policy{Methods: []string{http.MethodGet}, Ranges: RangesPass, Conditionals: ConditionalsPass, Heed: []string{"none"}}
}

// Accelerator is what whoever runs the origin usually wants: clients decide nothing,
// nothing is guessed, cookies are never kept, applications' errors only if they are
// about the resource, returning visitors fill the cache, and for 10 s after its
// lifetime a response is served while one request refreshes it.
func Accelerator() Policy {
	return Policy{
		Heed: []string{"none"}, Authorization: AuthorizationKey, Ranges: RangesServe, Conditionals: ConditionalsFill, SetCookie: SetCookieRefuse,
		Statuses:     []int{200, 201, 202, 203, 204, 205, 207, 208, 226, 301, 308, 404, 410},
		NoHeuristics: true, TrustDate: true, Surrogate: true, HeadFreshening: HeadValidators,
		Grace: 10 * time.Second, RevalidateTimeout: time.Second,
	}
}
