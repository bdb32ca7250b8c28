package rules

import (
	"maps"
	"net/url"
	"slices"
)

// A Verdict says whether a response may be kept, and why.
type Verdict struct {
	Store bool
	// Why is a short reason with its section; it is fit for Cache-Status and
	// logs, and never contains what a client or origin sent.
	Why string
}

func keep(why string) Verdict   { return Verdict{true, why} }
func refuse(why string) Verdict { return Verdict{false, why} }

// Storable decides whether res, the final response to req, is kept (RFC 9111
// §3). The tests run from what forbids to what permits; the first that applies
// is the reason.
//
// target is the URI that was asked for; only a POST is compared with it.
func Storable(req *Request, res *Stored, target *url.URL, terms *Terms) Verdict {
	p := &res.Policy
	shared := !terms.Private
	switch {
	case req.Method != "GET" && !answersGET(req, res, target):
		return refuse("method (RFC 9110 9.2.3)")
	case res.Status < 200 || res.Status == 304 || res.Status > 599:
		return refuse("not a final response of its own (RFC 9111 3)")
	case terms.Heeds(RequestNoStore) && req.Directives.NoStore:
		return refuse("request no-store (RFC 9111 5.2.1.5)")
	case p.MustUnderstand && !knownStatus(res.Status):
		return refuse("must-understand, status unknown (RFC 9111 5.2.2.3)")
	case p.NoStore && !p.MustUnderstand:
		return refuse("no-store (RFC 9111 5.2.2.5)")
	case shared && p.Private:
		return refuse("private (RFC 9111 5.2.2.7)")
	case neverStored(res.Status):
		return refuse("status concerns this request alone (RFC 6585, 9110 15.5)")
	case res.VaryAny:
		return refuse("Vary: * (RFC 9111 4.1)")
	case terms.Statuses != nil && !slices.Contains(terms.Statuses, res.Status):
		return refuse("status (statuses)")
	case req.Authorized() && terms.Authorized == AuthorizedNever:
		return refuse("authorized: never")
	case req.Authorized() && shared && terms.Authorized != AuthorizedKey && !p.Public && !p.MustRevalidate && (!p.SMaxAge.Present || terms.IgnoreSMaxAge):
		return refuse("request with Authorization (RFC 9111 3.5)")
	case len(res.Header["Set-Cookie"]) > 0 && refusesCookie(res, terms):
		return refuse("Set-Cookie (set-cookie, RFC 9111 7.3)")
	case !res.purgeable(terms):
		return refuse("more tags than are kept (tag-headers)")
	case res.Status == 206 && terms.Ranges != RangesFull:
		return refuse("parts are not kept (range-mode)")
	case res.Status == 206 && res.Part.IsZero():
		return refuse("no single sound Content-Range (RFC 9111 3.3)")
	case req.Ranged() && res.Status != 200 && res.Status != 206:
		return refuse("answer to a range (RFC 9110 14.2)")
	case !res.Basis.Known() && !p.Public && !(terms.Private && p.Private) && !heuristicStatus(res.Status):
		return refuse("no freshness and no heuristic for this status (RFC 9111 3)")
	case !res.Basis.Known() && !res.Validator():
		return refuse("neither freshness nor validator (RFC 9111 3)")
	case !res.useful(terms):
		return refuse("never fresh and without validator (RFC 9111 3)")
	}
	return keep("storable (RFC 9111 3)")
}

// useful tells whether the response could ever serve again: while fresh, after
// a validation, or stale by a word of the origin.
func (s *Stored) useful(terms *Terms) bool {
	p := &s.Policy
	return s.Validator() ||
		s.Lifetime > 0 && !p.NoCache || // also past it: when the origin fails, or max-stale asks
		!s.forbidsStale(terms) && (p.StaleWhileRevalidate.Value > 0 || p.StaleIfError.Value > 0)
}

// answersGET tells whether a response to POST may answer a later GET (RFC 9110
// §9.3.3): its freshness is explicit and it is about the target itself.
func answersGET(req *Request, res *Stored, target *url.URL) bool {
	lines := res.Header["Content-Location"]
	// RFC 9110 §8.7: the field says so in a 2xx only, and a part is not all.
	about := res.Status >= 200 && res.Status < 300 && res.Status != 206
	if req.Method != "POST" || !about || !res.Basis.Explicit() || len(lines) != 1 || target == nil {
		return false
	}
	location, ok := resolve(target, lines[0])
	return ok && sameResource(location, target)
}

// neverStored are the statuses that say something about one request or one
// client only: RFC 6585 §3 to §6 for 428, 429, 431 and 511; a failed condition,
// range or expectation, an unread body and a missing upgrade of RFC 9110 §15.5
// are of the same kind, and 421 and 425 belong to a connection.
func neverStored(status int) bool {
	switch status {
	case 412, 413, 416, 417, 421, 425, 426, 428, 429, 431, 511:
		return true
	}
	return false
}

// knownStatus are the statuses whose caching rules are implemented: all that
// are registered, but for 226, whose delta encoding is not (RFC 3229).
func knownStatus(status int) bool {
	switch {
	case status >= 200 && status <= 208,
		status >= 300 && status <= 308 && status != 306,
		status >= 400 && status <= 417,
		status >= 421 && status <= 426,
		status >= 500 && status <= 508,
		slices.Contains([]int{428, 429, 431, 451, 511}, status):
		return true
	}
	return false
}

func refusesCookie(res *Stored, terms *Terms) bool {
	switch terms.SetCookie {
	case CookieRefuse:
		return true
	case CookieIfExplicit:
		return !terms.Private && !res.Basis.Explicit() && !slices.Contains(res.Policy.PrivateFields, "Set-Cookie")
	}
	return false
}

// forProxies are the fields that are for the proxies on the way of one message.
var forProxies = []string{"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"}

// Withheld are the fields that are not kept with res: credentials for proxies
// (RFC 9111 §3.1), those a qualified private names (§5.2.2.7), and Set-Cookie
// where the operator strips it.
func Withheld(res *Stored, terms *Terms) []string {
	names := slices.Clone(forProxies)
	if !terms.Private {
		names = append(names, res.Policy.PrivateFields...)
	}
	if terms.SetCookie == CookieStrip {
		names = append(names, "Set-Cookie")
	}
	return names
}

// withholds tells whether res has fields that are withheld.
func withholds(res *Stored, terms *Terms) bool {
	for name := range res.Header {
		if slices.Contains(forProxies, name) || res.Withholds(name, terms) {
			return true
		}
	}
	return false
}

// Withholds tells whether a field of s, which may have been kept by other terms, is not
// given away by these.
func (s *Stored) Withholds(name string, terms *Terms) bool {
	return terms.SetCookie == CookieStrip && name == "Set-Cookie" || !terms.Private && slices.Contains(s.Policy.PrivateFields, name)
}

// Kept is res as it is kept: without the fields that are withheld. It is res itself if
// there are none, and must not be changed.
func Kept(res *Stored, terms *Terms) *Stored {
	if !withholds(res, terms) {
		return res
	}
	kept := *res
	kept.Header = maps.Clone(res.Header)
	for _, name := range Withheld(res, terms) {
		delete(kept.Header, name)
	}
	return &kept
}
