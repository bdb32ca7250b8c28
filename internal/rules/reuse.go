package rules

import "time"

// An Action is what is done with a request.
type Action uint8

const (
	// Fetch asks the origin for the whole response.
	Fetch Action = iota
	// Serve answers from the store.
	Serve
	// ServeThenValidate answers from the store and validates in the
	// background (RFC 5861 §3).
	ServeThenValidate
	// Validate asks the origin whether the stored response still holds (RFC
	// 9111 §4.3).
	Validate
	// Refuse answers 504 without asking the origin (RFC 9111 §5.2.1.7).
	Refuse
)

// A Reason is why a request went to the origin: the value of fwd in
// Cache-Status (RFC 9211 §2.2). Empty means that it did not.
type Reason string

// The reasons of RFC 9211 §2.2, the most specific that is true.
const (
	Bypass   Reason = "bypass"
	Method   Reason = "method"
	URIMiss  Reason = "uri-miss"
	VaryMiss Reason = "vary-miss"
	ByClient Reason = "request"
	Stale    Reason = "stale"
	Partial  Reason = "partial"
)

// A Decision is what to do and why. Age and Lifetime are zero where there is
// no stored response.
type Decision struct {
	Action  Action
	Forward Reason
	// Why is a reason with its section, never octets of a peer.
	Why           string
	Age, Lifetime time.Duration
}

// TTL is what is left of the freshness, negative once it is over.
func (d *Decision) TTL() time.Duration { return d.Lifetime - d.Age }

// Reuse decides what to do with stored, the response selected for req, at now
// on the steady clock.
//
// purged says that somebody wants it validated although it may be fresh.
//
// The tests run in order of authority: what forbids reuse, then freshness,
// then whoever may permit staleness. The first that applies is the reason.
func Reuse(req *Request, stored *Stored, terms *Terms, now time.Time, purged bool) Decision {
	d := Decision{Age: stored.Age(now), Lifetime: stored.Lifetime}
	d.decide(req, stored, terms, purged)
	if terms.Heeds(RequestOnlyIfCached) && req.Directives.OnlyIfCached {
		switch d.Action {
		case Fetch, Validate:
			d.Action, d.Forward, d.Why = Refuse, "", "only-if-cached (RFC 9111 5.2.1.7)"
		case ServeThenValidate:
			d.Action = Serve // not even in the background
		}
	}
	return d
}

// Absent decides what to do where nothing that is stored will do, for the
// reason miss.
func Absent(req *Request, miss Reason, terms *Terms) Decision {
	if terms.Heeds(RequestOnlyIfCached) && req.Directives.OnlyIfCached {
		return Decision{Action: Refuse, Why: "only-if-cached (RFC 9111 5.2.1.7)"}
	}
	return Decision{Action: Fetch, Forward: miss, Why: "nothing stored that fits (RFC 9111 4)"}
}

func (d *Decision) decide(req *Request, stored *Stored, terms *Terms, purged bool) {
	ask := &req.Directives
	overdue := d.Age - d.Lifetime // how long it has been stale; negative while fresh
	switch {
	case stored.Spent:
		d.forward(stored, Stale, "in doubt since HEAD or a failed unsafe request (RFC 9111 4.3.5, 4.4)")
	case stored.Policy.NoCache:
		d.forward(stored, Stale, "no-cache (RFC 9111 5.2.2.4)")
	case terms.ClientReload && (ask.NoCache || ask.MaxAge.Present && ask.MaxAge.Value == 0):
		d.forward(stored, ByClient, "client reload (client-reload)")
	case terms.Heeds(RequestNoCache) && ask.NoCache:
		d.forward(stored, ByClient, "client no-cache (RFC 9111 5.2.1.4)")
	case terms.Heeds(RequestMaxAge) && ask.MaxAge.Present && d.Age > ask.MaxAge.Value && !stored.ignoresReload(ask.MaxAge.Value, overdue):
		d.forward(stored, ByClient, "client max-age (RFC 9111 5.2.1.1)")
	case terms.Heeds(RequestMinFresh) && ask.MinFresh.Present && -overdue < ask.MinFresh.Value:
		d.forward(stored, ByClient, "client min-fresh (RFC 9111 5.2.1.3)")
	case purged && (stored.forbidsStale(terms) || len(req.Header["Via"]) > 0):
		// A cache that asks would keep it for as long as it seems to be fresh.
		d.forward(stored, Stale, "purged, and stale is forbidden or for another cache (soft purge, RFC 9111 4.2.4)")
	case overdue < 0 && purged:
		d.Lifetime = d.Age - 1 // it is over
		d.serve(ServeThenValidate, "purged, validated meanwhile (soft purge)")
	case overdue < 0 && stored.Outdated(req) && !stored.forbidsStale(terms):
		d.serve(ServeThenValidate, "version changed (version-function)")
	case overdue < 0 && stored.Outdated(req):
		d.forward(stored, Stale, "version changed, stale forbidden (version-function, RFC 9111 4.2.4)")
	case overdue < 0:
		d.serve(Serve, "fresh (RFC 9111 4.2)")
	case stored.forbidsStale(terms):
		d.forward(stored, Stale, "stale, and stale is forbidden (RFC 9111 4.2.4)")
	case stored.Policy.StaleWhileRevalidate.Covers(overdue):
		d.serve(ServeThenValidate, "stale-while-revalidate (RFC 5861 3)")
	case overdue < terms.SoftTTL:
		d.serve(ServeThenValidate, "within soft-ttl (RFC 9111 4.2.4)")
	case terms.Heeds(RequestMaxStale) && ask.MaxStale.Present && overdue <= ask.MaxStale.Value && !purged:
		d.serve(Serve, "client max-stale (RFC 9111 5.2.1.2)")
	default:
		d.forward(stored, Stale, "stale (RFC 9111 4.3)")
	}
}

// Outdated tells whether s is of another version than the origin makes for req now, or
// was asked for before what req is about was touched.
func (s *Stored) Outdated(req *Request) bool {
	return s.Version != req.Version || s.Received.Add(-s.Delay).Before(req.Touched)
}

func (d *Decision) serve(a Action, why string) { d.Action, d.Why = a, why }

func (d *Decision) forward(stored *Stored, reason Reason, why string) {
	d.Action, d.Forward, d.Why = Fetch, reason, why
	if stored.Validator() {
		d.Action = Validate
	}
}

// ignoresReload is RFC 8246 §2.1: what is immutable and fresh need not be
// validated because of a plain reload, unless it may have been cut short (§3).
func (s *Stored) ignoresReload(maxAge, overdue time.Duration) bool {
	return s.Policy.Immutable && !s.ToClose && maxAge == 0 && overdue < 0
}

// forbidsStale tells whether a directive forbids use without validation once
// freshness is over (RFC 9111 §4.2.4, §5.2.2).
func (s *Stored) forbidsStale(terms *Terms) bool {
	p := &s.Policy
	return p.MustRevalidate || p.NoCache || s.Spent ||
		!terms.Private && (p.ProxyRevalidate || p.SMaxAge.Present && !terms.IgnoreSMaxAge)
}

// A Failure is what came of asking the origin, where it was no answer to use:
// a status, or none if the origin could not be reached.
type Failure struct {
	// Status is the origin's, or 0.
	Status int
	// Unreachable says that there was no answer at all.
	Unreachable bool
}

// AfterError decides whether stored stands in for an origin that failed, and
// why or why not (RFC 9111 §4.2.4, §4.3.3; RFC 5861 §4).
func AfterError(req *Request, stored *Stored, failure Failure, terms *Terms, now time.Time) Verdict {
	overdue := max(0, stored.Age(now)-stored.Lifetime)
	p := &stored.Policy
	switch {
	case !failure.Unreachable && !errorStatus(failure.Status):
		return refuse("the origin answered (RFC 9111 4.3.3)")
	case stored.forbidsStale(terms):
		return refuse("stale is forbidden (RFC 9111 4.2.4)")
	case terms.Heeds(RequestStaleIfError) && req.Directives.StaleIfError.Covers(overdue):
		return keep("client stale-if-error (RFC 5861 4)")
	case p.StaleIfError.Present && p.StaleIfError.Covers(overdue):
		return keep("stale-if-error (RFC 5861 4)")
	case p.StaleIfError.Present:
		return refuse("stale-if-error is over (RFC 5861 4)")
	case terms.NeverStaleOnError:
		return refuse("stale-on-error is off")
	case overdue < orDefault(terms.StaleOnErrorMax, 24*time.Hour):
		return keep("origin failed (RFC 9111 4.2.4)")
	}
	return refuse("stale-on-error-max is over")
}

// errorStatus are the statuses that RFC 5861 §4 counts as errors.
func errorStatus(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504
}

// EndsEntry tells whether status, in reply to a validation, ends the entry it
// was about, though no response takes its place. Server errors leave it for a
// better moment (RFC 9111 §4.3.3), and so does what speaks of one request and
// not of the resource: a client's fields go along with a validation, and must
// not be able to end what others use.
func EndsEntry(status int) bool {
	switch status {
	case 400, 406, 408, 414:
		return false
	}
	return status < 500 && !neverStored(status)
}

// Shareable tells whether res, which one request caused, may answer another
// that waited for it (RFC 9111 §4).
func Shareable(req *Request, res *Stored, terms *Terms) bool {
	return !req.Authorized() && res.Lasts() && res.Matches(req, terms)
}

// Lasts tells whether s may answer more than the one request that caused it: it
// must have been fresh when the origin sent it. The time spent waiting for it
// does not count.
func (s *Stored) Lasts() bool {
	return !s.Policy.NoCache && !s.Spent && s.Lifetime > s.InitialAge-s.Delay
}

// Until tells from when on s cannot be used without asking its origin, on the
// steady clock: a store does well to let such responses go first. ends is false
// if that is so from the beginning, and s is kept for the sake of its validator.
func (s *Stored) Until(terms *Terms) (until time.Time, ends bool) {
	if !s.Lasts() {
		return time.Time{}, false
	}
	stale := time.Duration(0)
	if !s.forbidsStale(terms) {
		stale = terms.SoftTTL
		if w := s.Policy.StaleWhileRevalidate; w.Present {
			stale = max(stale, w.Value)
		}
	}
	return s.Received.Add(sum(s.Lifetime, stale) - s.InitialAge), true
}
