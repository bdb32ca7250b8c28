package standing

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/store"
)

const (
	buckets = 1 << 14
	ways    = 8 // Answers in a bucket

	// budget is what all Answers may take together, in octets, as they weigh.
	budget = 12 << 20

	// cells is how many parts the keys are in: a change in one ends what stands
	// in it.
	cells = 1 << 16
)

// A Kind is what a field of a request means for whoever looks for an Answer.
type Kind uint8

const (
	// Neutral fields decide nothing, unless an Answer names them.
	Neutral Kind = iota
	// Condition fields decide, by their value alone: Range and the like.
	Condition
	// Deciding fields decide by rules that only the engine knows.
	Deciding
)

// A Field is one line of a request's header section: the name as it came, the
// value without the blanks around it.
type Field struct{ Name, Value []byte }

// A Request is what somebody asks for by GET or HEAD, with no content
// and no field that is Deciding. The zero Request is empty.
type Request struct {
	Head         bool   // HEAD
	Secure       bool   // by https
	Host, Target []byte // as they came; Target begins with a slash
	Fields       []Field

	hash       uint64
	conditions int
}

// Reset makes r a request without fields, and keeps the room for them.
func (r *Request) Reset() { *r = Request{Fields: r.Fields[:0]} }

// A Table has the Answers that stand. Any number of goroutines may use it. Make
// one with New.
type Table struct {
	seed  maphash.Seed
	kinds map[string]Kind // by name in lower case
	hints [256]uint32     // by length: first letters of the names in kinds

	buckets []atomic.Pointer[bucket]
	cells   []atomic.Uint32

	mu   sync.Mutex // guards changes of buckets
	held int64      // octets that the Answers weigh
	hand int        // the bucket that was emptied last

	full   atomic.Bool // there was no room for what came last
	offers atomic.Uint32
}

// A bucket does not change: another one takes its place.
type bucket []*Answer

// conditions and deciding are what the rules of HTTP caching look at in a request
// (RFC 9110, RFC 9111), and what frames a message or asks for more than an answer
// (RFC 9112).
var (
	conditions = []string{"if-none-match", "if-modified-since", "range"}
	deciding   = []string{
		"authorization", "cache-control", "cdn-loop", "connection", "content-encoding", "content-length", "content-range",
		"content-type", "early-data", "expect", "http2-settings", "if-match", "if-range", "if-unmodified-since",
		"keep-alive", "max-forwards", "pragma", "proxy-authorization", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade", "via",
	}
)

// New makes a Table that is empty. The fields named are Deciding besides those
// that HTTP itself has.
func New(names []string) *Table {
	t := &Table{
		seed:    maphash.MakeSeed(),
		kinds:   make(map[string]Kind),
		buckets: make([]atomic.Pointer[bucket], buckets),
		cells:   make([]atomic.Uint32, cells),
	}
	for _, name := range names {
		t.learn(strings.ToLower(name), Deciding)
	}
	for _, name := range deciding {
		t.learn(name, Deciding)
	}
	for _, name := range conditions {
		t.learn(name, Condition)
	}
	return t
}

func (t *Table) learn(name string, kind Kind) {
	t.kinds[name] = kind
	t.hints[len(name)] |= 1 << (name[0] & 31)
}

// forwarded is how the names of a family begin, all of which are Deciding.
const forwarded = "x-forwarded"

// Kind tells what a field is. Names in which other servers may see another one,
// for a blank that is no hyphen, are Deciding.
func (t *Table) Kind(name []byte) Kind {
	if len(name) >= len(forwarded) && field.EqualFold(name[:len(forwarded)], forwarded) || bytes.IndexByte(name, '_') >= 0 || bytes.IndexByte(name, '.') >= 0 {
		return Deciding
	}
	if len(name) == 0 || len(name) > 255 || t.hints[len(name)]&(1<<(name[0]&31)) == 0 {
		return Neutral
	}
	var room [64]byte
	lower := append(room[:0], name...)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	return t.kinds[string(lower)]
}

// Add takes a field of r in, and tells its Kind. A Request with a Deciding one is
// not to be asked for.
func (t *Table) Add(r *Request, name, value []byte) Kind {
	kind := t.Kind(name)
	if kind == Condition {
		r.conditions++
	}
	r.Fields = append(r.Fields, Field{name, value})
	return kind
}

// join makes one hash of a scheme, that of a host and that of a target.
func join(secure bool, host, target uint64) uint64 {
	if secure {
		host = ^host
	}
	return bits.RotateLeft64(host, 1) ^ target
}

// Find returns what stands for r at now, on the steady clock, or nil. The octets
// it names may be gone: whoever replays it asks the store for them.
func (t *Table) Find(r *Request, now time.Time) *Answer {
	r.hash = join(r.Secure, maphash.Bytes(t.seed, r.Host), maphash.Bytes(t.seed, r.Target))
	b := t.buckets[r.hash%buckets].Load()
	if b == nil {
		return nil
	}
	for _, a := range *b {
		if a.answers(r) && a.holds(now) {
			return a
		}
	}
	return nil
}

// Stands tells whether an Answer to the same requests as a, which is not published
// yet, stands at now.
func (t *Table) Stands(a *Answer, now time.Time) bool {
	t.complete(a)
	if b := t.buckets[a.hash%buckets].Load(); b != nil {
		for _, other := range *b {
			if other.same(a) && other.ID == a.ID && other.Rev == a.Rev && other.holds(now) {
				return true
			}
		}
	}
	return false
}

// complete fills in what Find compares first.
func (t *Table) complete(a *Answer) {
	a.hash, a.conditions = join(a.Secure, maphash.String(t.seed, a.Host), maphash.String(t.seed, a.Target)), 0
	for i := range a.Fields {
		if f := &a.Fields[i]; !f.Absent && t.Kind([]byte(f.Name)) == Condition {
			a.conditions++
		}
	}
}

// Moment returns what Answer.Moment has to be if the store is looked at from now
// on.
func (t *Table) Moment(key store.Key) Moment {
	cell := &t.cells[maphash.Bytes(t.seed, key)%cells]
	return Moment{cell, cell.Load()}
}

// Changed ends what stands for key. It is called when the store shows a change,
// and before anybody is told that it is done.
func (t *Table) Changed(key store.Key) { t.Moment(key).Pass() }

// Publish makes a stand, in place of what stood for the same request. It may take
// the place of others.
func (t *Table) Publish(a *Answer) {
	t.complete(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	i := int(a.hash % buckets)
	next := bucket{a}
	if old := t.buckets[i].Load(); old != nil {
		for _, other := range *old {
			// Those with conditions are many, and each is one client's.
			if len(next) < ways && other.Moment.Lasts() && !other.same(a) && (a.conditions == 0 || other.conditions == 0 || len(next) < ways/2) {
				next = append(next, other)
			}
		}
	}
	t.set(i, next)
	for n := 0; n < buckets && t.held > budget; n++ {
		if t.hand = (t.hand + 1) % buckets; t.hand != i {
			t.set(t.hand, nil)
		}
	}
	t.full.Store(t.held > budget-budget/16)
}

// rare is how many Offers there are for one that is taken in, once the Table is
// full: what is asked for often gets in all the same, and the others cost little.
const rare = 16

// Offer is Publish for a copy of a if there is room, and now and then if there is
// none. ready is called before, with a, if there is.
func (t *Table) Offer(a *Answer, ready func(*Answer)) {
	if t.full.Load() && !t.had(a) && t.offers.Add(1)%rare != 0 {
		return
	}
	ready(a)
	t.Publish(a.Clone())
}

// had tells whether something stood for the same requests as a, which is not published
// yet: it takes the place of that, and no room of others.
func (t *Table) had(a *Answer) bool {
	t.complete(a)
	b := t.buckets[a.hash%buckets].Load()
	return b != nil && slices.ContainsFunc(*b, a.same)
}

// same tells whether a and b are about the same requests.
func (a *Answer) same(b *Answer) bool {
	if a.hash != b.hash || a.Target != b.Target || a.Host != b.Host || a.Secure != b.Secure || a.Method != b.Method || a.conditions != b.conditions || len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Fields {
		if a.Fields[i] != b.Fields[i] {
			return false
		}
	}
	return true
}

// set puts next into bucket i. The caller holds mu.
func (t *Table) set(i int, next bucket) {
	if old := t.buckets[i].Load(); old != nil {
		for _, a := range *old {
			t.held -= a.weight()
		}
	}
	for _, a := range next {
		t.held += a.weight()
	}
	if next == nil {
		t.buckets[i].Store(nil)
	} else {
		t.buckets[i].Store(&next)
	}
}
