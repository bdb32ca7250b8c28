package rules

import (
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// Terms are the operator's choices: the out-of-band contract that RFC 9111
// §4.2.4 lets the two ends of an origin make. Every rule that may be bent is
// bent here, by name, and nowhere else.
//
// The zero value is a shared cache that follows the standards. Terms are read
// by many goroutines and must not change once in use.
type Terms struct {
	// Private makes this one client's cache (RFC 9111 §3 and §5.2.2 tell the
	// two apart): it stores private responses, ignores s-maxage,
	// proxy-revalidate and targeted fields, and honors request directives.
	Private bool

	// Requests are the directives in a client's Cache-Control that are heeded
	// (request-directives). Zero means LoadSafe, or all of them if Private.
	Requests RequestSet

	// ClientReload lets a client's no-cache, max-age=0 or Pragma: no-cache
	// bypass a fresh entry and refresh it, at any level of Requests
	// (client-reload). It is a way to load the origin: off by default.
	ClientReload bool

	// HideAge leaves the Age field out of answers from the store (emit-age
	// off). Caches downstream then keep responses for too long.
	HideAge bool

	// DateNow sets Date to now in answers from the store, and moves Expires along
	// (date-mode: now), so that their lifetime begins anew downstream. It needs
	// HideAge.
	DateNow bool

	// Authorized says what is stored that was asked for with Authorization
	// (authorized).
	Authorized AuthorizedMode

	// VaryHeaders are request fields that choose a response whether it says so by
	// Vary or not (vary-headers). They are added to the Vary of answers. Names are
	// in canonical form.
	VaryHeaders []string

	// Statuses are those that are stored (statuses). Nil means all that RFC 9111
	// allows.
	Statuses []int

	// Ranges says what is done with Range (range-mode).
	Ranges RangeMode

	// PassConditionals forwards every conditional request unchanged instead of
	// answering it from the store (conditional-mode: pass).
	PassConditionals bool

	// FillConditionals fetches the whole response when a conditional request
	// misses, stores it, and judges the condition then (conditional-miss:
	// fill).
	FillConditionals bool

	// SetCookie says whether a response that sets a cookie is stored
	// (set-cookie).
	SetCookie SetCookieMode

	// NoHeuristics stores only what has explicit freshness or a validator, and
	// never makes a lifetime up (heuristics: off).
	NoHeuristics bool

	// HeuristicMax bounds a lifetime that was made up (heuristic-max). Zero
	// means 24 hours.
	HeuristicMax time.Duration

	// DefaultTTL is the lifetime of a response of a status that may be kept without
	// being told to (RFC 9110 §15.1), below 400, for which the origin states none
	// (default-ttl). It goes before any guess. Zero means none.
	DefaultTTL time.Duration

	// NegativeTTL is the same for 404, 405, 410, 414, 451, 500 to 504
	// (negative-ttl).
	NegativeTTL time.Duration

	// MinTTL and MaxTTL bound the lifetimes that others state or that are guessed
	// (min-ttl, max-ttl). Zero means no bound. A minimum departs from RFC 9111
	// §4.2.1.
	MinTTL, MaxTTL time.Duration

	// Overrule are the directives of responses that do not count (overrule). It
	// departs from RFC 9111 §5.2.2, and shows in every answer's Cache-Status.
	Overrule OverruleSet

	// IgnoreSMaxAge leaves s-maxage to caches further down (use-s-maxage off).
	IgnoreSMaxAge bool

	// TargetedFields are the fields that displace Cache-Control, in order (RFC
	// 9213 §2.2; targeted-fields). Nil means CDN-Cache-Control; an empty slice
	// means none. Names are in canonical form.
	TargetedFields []string

	// StripTargeted are the targeted fields that are not passed downstream
	// (strip-targeted). Names are in canonical form.
	StripTargeted []string

	// NeverStaleOnError answers a dead or failing origin with an error even
	// when a stale entry is there (stale-on-error: off).
	NeverStaleOnError bool

	// StaleOnErrorMax is how long after its freshness an entry still stands in
	// for a failing origin (stale-on-error-max). Zero means 24 hours.
	StaleOnErrorMax time.Duration

	// SoftTTL is how long after its freshness an entry is still served at once
	// while one request refreshes it (soft-ttl). Zero means not at all.
	SoftTTL time.Duration

	// NoCollapse sends every miss to the origin on its own (collapse: off).
	NoCollapse bool

	// CollapseTimeout is how long a request waits for another's fetch before
	// it goes to the origin itself (collapse-timeout). Zero means 5 s.
	CollapseTimeout time.Duration

	// UncacheableMemory is how long requests do not wait for each other after
	// a response proved unfit for sharing (uncacheable-memory). Zero means
	// 60 s.
	UncacheableMemory time.Duration

	// Surrogate lets Surrogate-Control take the place of Cache-Control and
	// announces us to the origin by Surrogate-Capability (surrogate-control).
	Surrogate bool

	// Device is the token by which Surrogate-Control addresses us. Empty means
	// "larder".
	Device string

	// KeepRelated leaves the entries of Location and Content-Location alone
	// when an unsafe request succeeds (invalidate-related: off).
	KeepRelated bool

	// TagFields are those by which the origin labels responses, so that they can be purged
	// together (tag-headers). Nil means Surrogate-Key, Cache-Tag and xkey; an empty slice
	// means none. Names are in canonical form.
	TagFields []string

	// ExposeTags passes those fields on to clients (expose-tags), as a tier behind this one needs.
	ExposeTags bool

	// NoGroups ignores Cache-Groups and Cache-Group-Invalidation (cache-groups: off), where
	// parties that do not trust each other share a host (RFC 9875 §5).
	NoGroups bool

	// KeepGroups leaves the others of its groups alone when something is invalidated
	// (group-invalidation: off; RFC 9875 §2.2.1).
	KeepGroups bool

	// TrustDate takes a response as made when it arrived, whatever its Date
	// says (apparent-age: off), for origins whose clock is ours.
	TrustDate bool

	// LanguageSelect reuses an entry whose Content-Language is the client's
	// single best choice although Accept-Language differs (language-select).
	// RFC 9111 §4.1 forbids it.
	LanguageSelect bool

	// VaryIgnore are fields that Vary may name without effect (vary-ignore).
	// Names are in canonical form.
	VaryIgnore []string

	// Secret keys the hashes that stand for the values of Cookie and
	// Authorization where a response varies on them, so that no store ever
	// holds those. A response kept under another Secret is not found by them.
	// It is to be random, of 32 octets; the Engine draws one for its own life
	// if there is none.
	Secret []byte

	// PartTolerance stores a 206 whose octets contradict its Content-Range, by
	// its start and the octets received (partial-length-tolerance).
	PartTolerance bool

	// HeadFreshening says when a 200 to HEAD updates a stored GET
	// (head-freshening).
	HeadFreshening HeadMode

	// RevalidateTimeout is how long a validation may keep a client waiting
	// before a stale entry is served instead (revalidate-timeout). Zero means
	// as long as it takes.
	RevalidateTimeout time.Duration

	// RevalidateBackoff is how long a failed background validation is not
	// repeated (revalidate-backoff). Zero means 5 s.
	RevalidateBackoff time.Duration

	// EarlyHints has links of a stale response sent as 103 while the origin is asked
	// (early-hints; RFC 8297).
	EarlyHints bool

	// MaxRanges is how many ranges one request may name (max-ranges); more
	// get the whole response. Zero means 16.
	MaxRanges int
}

// A RequestSet is request directives that are heeded. RFC 9111 §5.2.1 calls all
// of them advisory.
type RequestSet uint16

// The directives, one by one. no-transform is always heeded.
const (
	RequestNoStore RequestSet = 1 << iota
	RequestOnlyIfCached
	RequestMaxStale
	RequestNoCache
	RequestMaxAge
	RequestMinFresh
	RequestStaleIfError
	// IgnoreRequests heeds none.
	IgnoreRequests
)

// RequestNames are the names of the directives, in the order of their bits.
var RequestNames = []string{"no-store", "only-if-cached", "max-stale", "no-cache", "max-age", "min-fresh", "stale-if-error"}

const (
	// LoadSafe heeds those that cannot cause traffic to the origin.
	LoadSafe = RequestNoStore | RequestOnlyIfCached | RequestMaxStale
	// HonorRequests heeds all.
	HonorRequests = IgnoreRequests - 1
)

// AuthorizedMode says what is stored that was asked for with Authorization. In a
// private cache only what is public serves under other credentials, whatever the
// mode.
type AuthorizedMode uint8

const (
	// AuthorizedRFC stores what RFC 9111 §3.5 allows, for everybody.
	AuthorizedRFC AuthorizedMode = iota
	// AuthorizedKey stores also what §3.5 forbids, but for those alone who send the
	// same credentials; they are kept as a hash.
	AuthorizedKey
	// AuthorizedNever stores nothing.
	AuthorizedNever
)

// An OverruleSet is response directives that do not count.
type OverruleSet uint8

// The directives, one by one. Those that name fields count.
const (
	OverruleNoStore OverruleSet = 1 << iota
	OverrulePrivate
	OverruleNoCache
)

// OverruleNames are the names of the directives, in the order of their bits.
var OverruleNames = []string{"no-store", "private", "no-cache"}

// String names the directives, with blanks between them.
func (o OverruleSet) String() string {
	var names []string
	for i, name := range OverruleNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// RangeMode says what is done with the Range field.
type RangeMode uint8

const (
	// RangesFull serves ranges, stores parts and joins them.
	RangesFull RangeMode = iota
	// RangesServe cuts ranges from complete entries and stores no parts.
	RangesServe
	// RangesPass forwards every request with Range and stores nothing of it.
	RangesPass
)

// SetCookieMode says whether a response with Set-Cookie is stored.
type SetCookieMode uint8

const (
	// CookieIfExplicit stores it with explicit freshness only: a heuristic
	// that keeps a session cookie is the classic leak.
	CookieIfExplicit SetCookieMode = iota
	// CookieRefuse never stores it.
	CookieRefuse
	// CookieStrip stores it without the field.
	CookieStrip
	// CookieStore stores it like any other.
	CookieStore
)

// HeadMode says when a 200 to HEAD updates a stored GET (RFC 9111 §4.3.5).
type HeadMode uint8

const (
	// HeadRFC updates when all validators and the length agree.
	HeadRFC HeadMode = iota
	// HeadValidators demands at least one validator that agrees.
	HeadValidators
	// HeadNever updates nothing.
	HeadNever
)

func orDefault[T ~int | ~int64](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// Heeds tells whether a request directive counts.
func (t *Terms) Heeds(directive RequestSet) bool {
	switch {
	case t.Requests != 0:
		return t.Requests&directive != 0
	case t.Private:
		return true
	}
	return LoadSafe&directive != 0
}

// varying adds to names, which are sorted, the fields that choose a response by
// these terms alone.
func (t *Terms) varying(names []string, p *field.Directives) []string {
	const credentials = "Authorization"
	for _, name := range t.VaryHeaders {
		names = insert(names, name)
	}
	shared := p.Public || !t.Private && (p.SMaxAge.Present && !t.IgnoreSMaxAge || p.MustRevalidate) // RFC 9111 §3.5
	if (t.Private || t.Authorized == AuthorizedKey) && !shared {
		names = insert(names, credentials)
	}
	return names
}

// insert adds name to sorted names.
func insert(names []string, name string) []string {
	i, found := slices.BinarySearch(names, name)
	if found {
		return names
	}
	return slices.Insert(names, i, name)
}

// CollapseWait is CollapseTimeout with its default applied.
func (t *Terms) CollapseWait() time.Duration { return orDefault(t.CollapseTimeout, 5*time.Second) }

// RememberUncacheable is UncacheableMemory with its default applied.
func (t *Terms) RememberUncacheable() time.Duration {
	return orDefault(t.UncacheableMemory, 60*time.Second)
}

// Backoff is RevalidateBackoff with its default applied.
func (t *Terms) Backoff() time.Duration { return orDefault(t.RevalidateBackoff, 5*time.Second) }

// RangeLimit is MaxRanges with its default applied.
func (t *Terms) RangeLimit() int { return orDefault(t.MaxRanges, 16) }

// DeviceToken is Device with its default applied.
func (t *Terms) DeviceToken() string {
	if t.Device == "" {
		return "larder"
	}
	return t.Device
}

var standardTargets = []string{"Cdn-Cache-Control"}

func (t *Terms) targets() []string {
	switch {
	case t.Private:
		return nil
	case t.TargetedFields == nil:
		return standardTargets
	}
	return t.TargetedFields
}
