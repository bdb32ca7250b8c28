package engine

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/flight"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
)

// refresh validates what is being served stale: in the background, once at a
// time, and not again too soon after a failure (RFC 5861 §3).
func (x *exchange) refresh() {
	if x.e.backoff.has(marked(x.key, x.req.Lane), x.steady) {
		return
	}
	if x.policy.Terms.Heeds(rules.RequestNoStore) && x.req.Directives.NoStore {
		return // what came back could not be kept (RFC 9111 §5.2.1.5)
	}
	d := rules.Decision{Action: rules.Fetch, Forward: rules.Stale}
	if x.chosen().Validator() {
		d.Action = rules.Validate
	}
	lane := x.req.Variant(x.chosen().Vary)
	f, leader := x.e.flights.Join(x.key, lane)
	if !leader {
		if since := x.since(); x.tooOld(f, since) { // what it brings is no refresh for this request
			f, leader = x.e.flights.Join(x.key, fmt.Sprintf("anew\x00%d\x00%s", since, lane))
		}
	}
	if !leader {
		return
	}
	if !x.unchanged(x.chosen()) {
		x.callOff(f)
		x.lookup()
		if x.chosen() == nil {
			return
		}
		if a := x.decide().Action; a == rules.ServeThenValidate || a == rules.Validate { // what has come is no fresher
			x.refresh()
		}
		return
	}
	j := x.job(f, &d, true)
	x.e.fly(x.behind(), j)
}

// since is the Stamp that a refresh of what is being served needs.
func (x *exchange) since() uint64 {
	if s := x.chosen().subject.Load(); s != nil {
		return s.Since()
	}
	return 0
}

// tooOld tells whether f was asked before a purge of what is being served, which needs a
// refresh with the Stamp since, or, where it is still bringing a body, before the version
// changed or the resource was touched.
func (x *exchange) tooOld(f *flight.Flight[*landing], since uint64) bool {
	if stamp := f.Since.Load(); stamp != 0 && stamp < since {
		return true
	}
	select {
	case <-f.Landed():
		l := f.Result()
		return l.res != nil && (l.res.Outdated(&x.req) || x.overtook(l))
	default:
		return false
	}
}

// ask goes to the origin, or waits for one who does. It returns false if the
// request has to go round once more.
func (x *exchange) ask(d *rules.Decision) bool {
	ctx := x.r.Context()
	f, leader := x.join(d)
	if leader && f.Shared() && x.overtaken() {
		x.callOff(f)
		return false
	}
	var interim *interims
	var came <-chan struct{}
	if leader {
		j := x.job(f, d, false)
		interim, came = j.interim, j.interim.came
		x.e.fly(x.beyond(), j)
	}
	x.hint(d)
	var timeout <-chan time.Time
	wait, stale := x.patience(leader)
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timeout = t.C
	}
	for {
		select {
		case <-came:
			x.inform(interim.take())
		case <-f.Landed():
			if leader {
				x.inform(interim.take())
				return x.land(f.Result(), d)
			}
			return x.share(f)
		case <-timeout:
			if leader {
				x.abandon(f, true)
			}
			if stale {
				return x.deliverStale("revalidate-timeout (RFC 9111 4.2.4)")
			}
			x.alone = true
			return false
		case <-ctx.Done():
			if leader {
				x.abandon(f, false)
			}
			x.abort(ctx.Err())
		}
	}
}

// overtaken tells whether the flight of another has ended between our lookup and
// our joining, so that the store now has what we would fetch.
func (x *exchange) overtaken() bool {
	if x.unconditional {
		return false
	}
	if k := x.chosen(); k != nil {
		return !x.unchanged(k)
	}
	x.lookup()
	_ = x.decide() // which drops a part that is of no help
	return x.chosen() != nil
}

// unchanged tells whether k is what the store has, as far as the store can tell.
func (x *exchange) unchanged(k *kept) bool {
	var err error
	x.entries, err = x.e.Store.Lookup(x.r.Context(), x.key, x.entries[:0])
	for _, entry := range x.entries {
		if entry.ID == k.entry.ID {
			return entry.Rev == k.entry.Rev
		}
	}
	return err != nil
}

// callOff ends a flight before it began. Who has joined looks up once more.
func (x *exchange) callOff(f *flight.Flight[*landing]) {
	f.End()
	f.Land(&landing{calledOff: true})
}

// join finds the flight to wait for, or begins one.
func (x *exchange) join(d *rules.Decision) (f *flight.Flight[*landing], leader bool) {
	if !x.mayWait(d) {
		return x.e.flights.Alone(x.key), true
	}
	lane := x.lane(d)
	if x.mayLead() {
		return x.e.flights.Join(x.key, lane)
	}
	if f := x.e.flights.Active(x.key, x.req.Variant(x.vary)); f != nil {
		return f, false
	}
	if x.req.Ranged() && !x.req.Conditional() {
		return x.e.flights.Join(x.key, lane)
	}
	return x.e.flights.Alone(x.key), true
}

// mayWait tells whether the answer to another's request may do for this one.
func (x *exchange) mayWait(d *rules.Decision) bool {
	if x.alone || x.policy.Terms.NoCollapse || x.r.Method != http.MethodGet || x.req.Authorized() ||
		x.req.GuardsState() || d.Forward == rules.ByClient {
		return false
	}
	if x.policy.Terms.Heeds(rules.RequestNoStore) && x.req.Directives.NoStore {
		return false
	}
	if k := x.chosen(); k != nil && (k.Policy.NoCache || k.Lifetime == 0) {
		return false // each use needs a validation of its own
	}
	return !x.e.uncacheable.has(marked(x.key, x.req.Lane), x.steady)
}

// mayLead tells whether the request that goes out is the same for all who may
// wait for it: our own, or one without conditions and ranges.
func (x *exchange) mayLead() bool {
	return x.chosen() != nil || !x.req.Ranged() && (!x.req.Conditional() || x.policy.Terms.FillConditionals)
}

// lane names those requests for the key that may share one answer. What varies
// is learnt from what is stored, or from a response that was not for us.
func (x *exchange) lane(d *rules.Decision) string {
	if len(x.vary) == 0 {
		if k := x.chosen(); k != nil {
			x.vary = k.Vary
		} else if len(x.kept) > 0 {
			x.vary = x.kept[0].Vary
		}
	}
	lane := x.req.Variant(x.vary)
	if x.forwardsRange(d) {
		for _, name := range []string{"Range", "If-Range"} {
			for _, line := range x.req.Header[name] {
				lane += "\x00" + line
			}
		}
	}
	return lane
}

// forwardsRange tells whether the client's Range goes along: only where nothing
// is validated (RFC 9111 §4.3.2).
func (x *exchange) forwardsRange(d *rules.Decision) bool {
	return x.req.Ranged() && d.Action != rules.Validate
}

// patience is how long to wait for a flight, 0 for as long as it takes, and
// whether what is stored will do after that. All the time since the request
// came counts, also that spent with flights that failed.
func (x *exchange) patience(leader bool) (wait time.Duration, stale bool) {
	limit := time.Duration(0)
	if !leader {
		limit = x.policy.Terms.CollapseWait()
	}
	if t := x.policy.Terms.RevalidateTimeout; t > 0 && (leader || t < limit) && x.staleAllowed(rules.Failure{Unreachable: true}).Store {
		limit, stale = t, true
	}
	if limit == 0 {
		return 0, false
	}
	now, _ := x.e.Clock()
	return max(1, limit-now.Sub(x.came)), stale
}

// abandon leaves a flight that we lead: nobody else would end the body that is
// meant for us alone. What comes is wanted if it is to be kept all the same.
func (x *exchange) abandon(f *flight.Flight[*landing], wanted bool) {
	x.e.spawn(func() {
		<-f.Landed()
		l := f.Result()
		if wanted && l.body != nil {
			l.body.carryOn()
		}
		l.discard()
	})
}

// staleAllowed tells whether what is stored may stand in for the origin.
func (x *exchange) staleAllowed(failure rules.Failure) rules.Verdict {
	k := x.chosen()
	if k == nil || x.req.GuardsState() || x.unconditional || x.whole == nil && !x.req.Ranged() || k.verdict(x.key, x.e) == purge.Gone {
		return rules.Verdict{}
	}
	if x.softened && len(x.req.Header["Via"]) > 0 {
		return rules.Verdict{} // a cache would take it for validated; it has what it had
	}
	steady, _ := x.e.Clock()
	return rules.AfterError(&x.req, k.Stored, failure, &x.policy.Terms, steady)
}

// blameStale has the log say what a stale answer hides from the client.
func (x *exchange) blameStale(l *landing) {
	if l.fault != nil {
		x.event.Fault = l.fault.err
	}
}

// tellTruth mends the Event where the response, sent as one that is stored, was
// not after all. It runs when the body is over, also where it broke off.
func (x *exchange) tellTruth(body *spool) {
	if why := body.notKept(); why != "" {
		x.event.Stored, x.event.Why = false, "not kept: "+why
	}
}

// deliverStale answers with what is stored although the origin was asked. It
// returns false if that has gone.
func (x *exchange) deliverStale(why string) bool {
	k := x.chosen()
	steady, _ := x.e.Clock()
	age := k.Age(steady)
	x.event.Why, x.event.HasTTL, x.event.TTL = why, true, seconds(k.Lifetime-age)
	return x.deliverKept(k, k.reply, seconds(age))
}

// deliverCommon answers with what another's fetch has confirmed. It returns
// false if that has gone.
func (x *exchange) deliverCommon(l *landing) bool {
	k := l.common
	steady, _ := x.e.Clock()
	age := k.Age(steady)
	x.event.ForwardStatus, x.event.Collapsed, x.event.Why = l.status, true, l.why
	x.event.HasTTL, x.event.TTL = true, seconds(k.Lifetime-age)
	if x.deliverKept(k, k.reply, seconds(age)) {
		return true
	}
	x.event.Collapsed = false
	return false
}

// land makes an answer of what our own fetch came to.
func (x *exchange) land(l *landing, d *rules.Decision) bool {
	x.event.ForwardStatus = l.status
	if l.failure() {
		if v := x.staleAllowed(l.asFailure()); v.Store {
			l.discard()
			x.blameStale(l)
			return x.deliverStale(v.Why)
		}
	}
	switch {
	case l.fault != nil:
		x.fault(l.fault)
	case l.refreshed != nil:
		steady, _ := x.e.Clock()
		k := l.refreshed
		x.event.Why, x.event.HasTTL, x.event.TTL = l.why, true, seconds(k.Lifetime-k.Age(steady))
		defer l.discard()
		if !x.deliverKept(l.refreshed, x.e.validated(l.refreshed), -1) {
			x.unconditional = true
			return false
		}
	case l.body != nil:
		x.event.Stored = true
		defer x.tellTruth(l.body)
		return x.deliverSpool(l, d)
	default:
		x.event.Why = l.why
		x.deliverOrigin(l)
	}
	return true
}

// share makes an answer of what another's fetch came to, if it may.
func (x *exchange) share(f *flight.Flight[*landing]) bool {
	l := f.Result()
	if l.failure() {
		if v := x.staleAllowed(l.asFailure()); v.Store {
			x.event.ForwardStatus = l.status
			x.blameStale(l)
			return x.deliverStale(v.Why)
		}
	}
	switch {
	case l.calledOff:
		return false
	case l.fault != nil:
		if x.failures++; x.failures < 2 {
			return false // one of us takes over
		}
		x.event.Collapsed = true
		x.fault(l.fault)
		return true
	case l.res != nil && l.res.Outdated(&x.req):
		// It was asked for before the version changed, which is no answer for
		// those who came after that: one of us asks anew.
		x.outdated++
		x.alone = x.outdated > 2
		return false
	case l.res != nil && x.overtook(l):
		// The same, for a purge; and nobody else is to join it.
		f.Disown()
		x.outdated++
		x.alone = x.outdated > 2
		return false
	case l.common != nil && !rules.Holds(&x.req, l.common.Stored):
		return false // a part that was validated for another range
	case l.common != nil && rules.Shareable(&x.req, l.res, &x.policy.Terms):
		return x.deliverCommon(l)
	case l.body == nil:
		x.alone = true
		return false
	case !l.res.Matches(&x.req, &x.policy.Terms):
		x.alone = slices.Equal(x.vary, l.res.Vary)
		x.vary = l.res.Vary
		return false
	case !rules.Shareable(&x.req, l.res, &x.policy.Terms):
		x.alone = true
		return false
	}
	x.event.ForwardStatus, x.event.Collapsed = l.status, true
	if x.deliverSpool(l, nil) {
		return true
	}
	x.event.Collapsed = false
	x.alone = true
	return false
}

// hint sends the client, once, what it may fetch while it waits, as far as what is stored
// tells that.
func (x *exchange) hint(d *rules.Decision) {
	if x.hinted || x.whole == nil || !rules.EarlyHints(&x.req, x.whole.Stored, d, &x.policy.Terms) {
		return
	}
	x.hinted = true
	for _, f := range x.whole.reply {
		if f.name == "Link" {
			if links := field.EarlyLinks(f.lines); links != nil {
				x.inform([]interimResponse{{http.StatusEarlyHints, http.Header{"Link": links}}})
			}
		}
	}
}

// inform passes interim responses on (RFC 9110 §15.2), but never to HTTP/1.0.
// Fields that are there already are for the final response, and wait for it:
// those of the door, or of the program that the engine is built into.
func (x *exchange) inform(some []interimResponse) {
	if len(some) == 0 || !x.r.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	waiting := maps.Clone(h)
	for _, m := range some {
		clear(h)
		maps.Copy(h, m.header)
		maps.DeleteFunc(h, func(name string, _ []string) bool { return x.policy.Terms.HidesTags(name) })
		x.w.WriteHeader(m.status)
	}
	clear(h)
	maps.Copy(h, waiting)
}
