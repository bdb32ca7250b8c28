//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Kinds of findings that fail the run.
const (
	desync = "desynchronisation"
	hang   = "hang"
	cut    = "cut off" // an answer that was due did not come, and no Connection: close told why
)

// A finding is something that must not be.
type finding struct {
	kind   string
	what   string
	stream *stream // nil: nobody knows whose it is
}

// A mark says that a stream has a finding of a kind.
type mark struct {
	kind   string
	stream *stream
}

// shown is how many streams with findings of a kind are written out.
const shown = 8

// A ledger knows what was sent through one origin, and judges what is seen of it
// elsewhere. Any number of goroutines may use it.
type ledger struct {
	mu       sync.Mutex
	expected map[string]*expectation // by name
	findings []finding
	count    map[string]int            // streams with findings, by kind; one that is nobody's counts too
	marked   map[mark]bool             // what was counted
	reasons  map[string]map[string]int // refusals: by whom, by status
	examples map[string]string         // a request for each reason
	recent   [4096]*stream             // the last ones, to find whose a marker is
	begun    int                       // how many there were

	// mends says that the origin ends a body that broke off as if it had come to
	// its end. What Larder wrote is then judged by the tap alone.
	mends bool

	// slashes says that the origin makes one slash of those that a target begins
	// with, and escapes brackets then. What Larder wrote is judged by the tap.
	slashes bool

	sent, accepted, hits, byLarder, byOrigin, failed, soundRefused atomic.Int64
	wired, understood, early, broken                               atomic.Int64
}

// An expectation is a request that may be seen.
type expectation struct {
	stream  *stream
	message *message
	asked   int    // times that the stream has it
	wired   int    // times that Larder wrote it
	seen    int    // times that an origin saw it
	octets  []byte // as Larder wrote it last
}

func newLedger() *ledger {
	return &ledger{
		expected: map[string]*expectation{}, count: map[string]int{}, marked: map[mark]bool{}, reasons: map[string]map[string]int{}, examples: map[string]string{},
	}
}

// name is what a message is found by: its method, and its target, which holds a
// token, or where the target is * its host, which holds one then.
func name(method, target, host string) string {
	if target == "*" {
		target += canonicalHost(host)
	}
	return method + " " + target
}

// expect takes up a stream before it is sent.
func (l *ledger) expect(s *stream) {
	l.sent.Add(int64(s.sent))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[l.begun%len(l.recent)] = s
	l.begun++
	for i := range s.messages {
		m := &s.messages[i]
		if m.state == unsound {
			continue
		}
		key := name(m.method, m.target, m.host)
		if e := l.expected[key]; e != nil {
			e.asked++
			continue
		}
		e := &expectation{stream: s, message: m, asked: 1}
		l.expected[key], l.expected[name(m.method, l.told(m.target), m.host)] = e, e
	}
}

// brackets are what an address of IPv6 has that a path may not.
var brackets = strings.NewReplacer("[", "%5B", "]", "%5D")

// told is a target as the origin tells it.
func (l *ledger) told(target string) string {
	if l.slashes && strings.HasPrefix(target, "//") {
		return "/" + brackets.Replace(strings.TrimLeft(target, "/"))
	}
	return target
}

// whose is the stream that has a target in its octets, or nil.
func (l *ledger) whose(target string) *stream {
	for _, s := range l.recent {
		if s != nil && len(target) > 8 && bytes.Contains(s.octets, []byte(target)) {
			return s
		}
	}
	return nil
}

// find notes a finding.
func (l *ledger) find(kind string, s *stream, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found(kind, s, format, args...)
}

// found is find for those who hold the lock.
func (l *ledger) found(kind string, s *stream, format string, args ...any) {
	if m := (mark{kind, s}); s == nil || !l.marked[m] {
		l.marked[m] = true
		l.count[kind]++
	}
	if l.count[kind] <= shown {
		l.findings = append(l.findings, finding{kind, fmt.Sprintf(format, args...), s})
	}
}

// wire judges what Larder wrote to an origin.
func (l *ledger) wire(m *message, octets []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.state == unsound || m.state == partial && !m.short:
		l.found(desync, nil, "Larder wrote to the origin what is no request (%s): %.600q", m.why, octets)
		return
	case m.state == partial:
		return // Larder broke it off: who may have caused that is judged where it is seen whole
	}
	l.wired.Add(1)
	e := l.expected[name(m.method, m.target, m.host)]
	if e == nil || e.message.target != m.target {
		l.found(desync, l.whose(m.target), "Larder wrote to the origin what no client asked for: %.600q", octets)
		return
	}
	e.wired++
	e.octets = octets
	if e.message.state != whole {
		l.found(desync, e.stream, "Larder wrote to the origin as whole what is not (%s): %.600q", e.message.why, octets)
		return
	}
	if why := e.differs(m.method, m.host, len(m.body), m.sum); why != "" {
		l.found(desync, e.stream, "Larder wrote to the origin %s: %.600q", why, octets)
	}
	if e.wired > e.asked && !repeatable(m.method) {
		l.found(desync, e.stream, "Larder wrote to the origin more often than the client: %.600q", octets)
	}
}

// saw judges what an origin understood.
func (l *ledger) saw(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.understood.Add(1)
	e := l.expected[name(r.method, r.target, r.host)]
	if e == nil {
		l.found(desync, l.whose(r.target), "the origin saw what no client asked for: %q", r.String())
		return
	}
	e.seen++
	if e.seen > e.asked && !repeatable(r.method) {
		l.found(desync, e.stream, "the origin saw more often than the client sent it: %q", r.String())
	}
	length, hash := r.length, r.sum
	if l.mends && e.wired == 0 && r.state == stateWhole {
		r.state = stateBroken
	}
	switch r.state {
	case stateEarly:
		l.early.Add(1)
		length, hash = len(e.message.body), e.message.sum // nobody looked
	case stateBroken:
		l.broken.Add(1)
		if r.length > len(e.message.body) {
			l.found(desync, e.stream, "the origin saw more of a body than there is: %q", r.String())
		}
		length, hash = len(e.message.body), e.message.sum
	case stateWhole:
		if e.message.state != whole {
			l.found(desync, e.stream, "the origin saw whole what is not (%s): %q", e.message.why, r.String())
			return
		}
	}
	if why := e.differs(r.method, r.host, length, hash); why != "" {
		l.found(desync, e.stream, "the origin saw %s: %q", why, r.String())
	}
}

// differs says in what a sighting is another request than the one expected.
func (e *expectation) differs(method, host string, length int, hash string) string {
	m := e.message
	switch {
	case method != m.method:
		return "another method than " + m.method
	case m.host != "" && canonicalHost(host) != m.host:
		return "another host than " + m.host
	case length != len(m.body) || hash != m.sum:
		return fmt.Sprintf("another body than the %d octets with hash %s", len(m.body), m.sum)
	}
	return ""
}

// repeatable tells whether a proxy may send a request again that got no answer
// (RFC 9110 §9.2.2).
func repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// refused counts an answer that is not the echo's, and keeps an example for each
// reason: what Larder wrote, or what the client did.
func (l *ledger) refused(who, reason string, s *stream, m *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reasons[who] == nil {
		l.reasons[who] = map[string]int{}
	}
	l.reasons[who][reason]++
	example := fmt.Sprintf("%.300q", s.octets[m.start:min(m.end, len(s.octets))])
	if e := l.expected[name(m.method, m.target, m.host)]; e != nil && e.octets != nil {
		example = fmt.Sprintf("forwarded as %.300q", e.octets)
	}
	key := who + " " + reason
	if _, ok := l.examples[key]; !ok {
		l.examples[key] = example
	}
}

// failures is how many findings there are.
func (l *ledger) failures() (n int) {
	for _, k := range l.count {
		n += k
	}
	return n
}

// why lists the reasons for which somebody refused, the most frequent first.
func (l *ledger) why(who string) string {
	all := l.reasons[who]
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b))
	})
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s x%d", k, all[k])
	}
	return strings.Join(keys, ", ")
}
