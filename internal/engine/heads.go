package engine

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

const (
	headSlots = 16384
	// headLimit is the longest head that is remembered, in octets encoded:
	// longer ones are decoded each time.
	headLimit = 64 << 10
	// headBudget is what the slots may hold together, as weighed by weigh.
	// Decoded, that takes about twice as much.
	headBudget = 8 << 20
	// lineWeight is what a field line is counted for beside its octets, so
	// that many short ones do not pass for little.
	lineWeight = 64
)

// heads remembers decoded heads, so that a hit decodes nothing. It is lossy: a
// slot holds whatever came last, unless others needed the room. An (ID, Rev)
// names one head for ever, so what is found is never out of date.
type heads struct {
	slots [headSlots]atomic.Pointer[kept]
	// held is the weight of what is in the slots. It is set right after them,
	// so that it is exact whenever nobody is in remember.
	held atomic.Int64
	// hand is the slot that was emptied last to make room.
	hand atomic.Uint64
}

// A kept is a stored entry with its head decoded and its answer prepared. It is
// shared and immutable, but for the memo of its last rendering; or it is one
// exchange's, in a slate.
type kept struct {
	*rules.Stored
	entry  store.Entry
	policy *Policy // which it was read by
	// weight is what the head counts for where it is remembered.
	weight int64
	// reply are the fields of an answer from the store without validation,
	// but for Age and Cache-Status.
	reply []replyField
	// fleeting says that it is for one decision.
	fleeting bool
	// subject is what the Ledger remembers of it; nil: it was never asked.
	subject atomic.Pointer[purge.Subject]
	// rendered is the last Age and Cache-Status that were sent.
	rendered atomic.Pointer[rendered]
}

// A replyField is one field of a prepared answer.
type replyField struct {
	name  string
	lines []string
}

// A rendered is what one second of an entry's life looks like to a client.
type rendered struct {
	age, ttl    int64
	ageLines    []string
	statusLines []string
}

// recall returns entry as p reads it if it is remembered, or nil.
func (h *heads) recall(entry store.Entry, p *Policy) *kept {
	if k := h.slots[uint64(entry.ID)%headSlots].Load(); k != nil && k.entry.ID == entry.ID && k.entry.Rev == entry.Rev && k.policy == p {
		return k
	}
	return nil
}

// decode returns the entry under key with its head decoded, or nil if it has
// gone, or has another head by now, or one that is not ours. An error is the
// store's.
func (h *heads) decode(ctx context.Context, key []byte, entry store.Entry, e *Engine, p *Policy) (*kept, error) {
	if k := h.recall(entry, p); k != nil {
		return k, nil
	}
	head, err := e.headOf(ctx, key, entry)
	if head == nil {
		return nil, err
	}
	stored, err := message.Decode(head, &p.Terms)
	if err != nil {
		return nil, nil
	}
	k := e.prepare(entry, stored, p)
	if len(head) <= headLimit {
		k.weight = weigh(head, stored)
		h.remember(&h.slots[uint64(entry.ID)%headSlots], k)
	}
	return k, nil
}

// headOf returns the head of entry, or nil if it has gone. An error is the
// store's.
func (e *Engine) headOf(ctx context.Context, key []byte, entry store.Entry) ([]byte, error) {
	head, err := e.Store.Head(ctx, key, entry.ID, entry.Rev)
	if errors.Is(err, store.ErrGone) {
		return nil, nil
	}
	return head, err
}

// A slate has entries decoded for one decision, in room that it uses again.
type slate struct {
	lines []*line
	used  int
}

type line struct {
	kept
	decoder message.Decoder
}

// slateLimit is the longest head for which a line is used again, in octets.
const slateLimit = 8 << 10

// slateLines is how many lines are used again.
const slateLines = 8

// wipe ends the use of all that was decoded.
func (s *slate) wipe() {
	if len(s.lines) > slateLines {
		s.lines = append([]*line(nil), s.lines[:slateLines]...)
	}
	s.used = 0
}

// decode is heads.decode for what is not remembered, and will not be. The result
// is good until wipe.
func (s *slate) decode(ctx context.Context, key []byte, entry store.Entry, e *Engine, p *Policy) (*kept, error) {
	head, err := e.headOf(ctx, key, entry)
	if head == nil {
		return nil, err
	}
	if s.used == len(s.lines) {
		s.lines = append(s.lines, new(line))
	}
	l := s.lines[s.used]
	if len(head) > slateLimit {
		l = new(line)
	} else {
		s.used++
	}
	stored, err := l.decoder.Decode(head, &p.Terms)
	if err != nil {
		return nil, nil
	}
	l.Stored, l.entry, l.policy, l.reply = stored, entry, p, l.reply[:0]
	l.rendered.Store(nil)
	l.subject.Store(nil)
	l.fleeting = true
	e.compose(&l.kept)
	return &l.kept, nil
}

// weigh is the room that a decoded head takes, in octets and roughly half.
func weigh(head []byte, stored *rules.Stored) int64 {
	lines := 0
	for _, values := range stored.Header {
		lines += len(values)
	}
	return int64(len(head) + lineWeight*lines)
}

// remember puts k, which is in no slot yet, into slot and empties others, one
// after the other, until all is within the budget. So no head stays for ever,
// and none pushes out more than it needs. Goroutines that do this at the same
// time may exceed the budget for a moment, each by one head.
func (h *heads) remember(slot *atomic.Pointer[kept], k *kept) {
	added := k.weight
	if old := slot.Swap(k); old != nil {
		added -= old.weight
	}
	h.held.Add(added)
	for n := 0; n < headSlots && h.held.Load() > headBudget; n++ {
		other := &h.slots[h.hand.Add(1)%headSlots]
		if old := other.Load(); old != nil && other != slot && other.CompareAndSwap(old, nil) {
			h.held.Add(-old.weight)
		}
	}
}

// prepare makes the answer that entry gives while it is used as it is.
func (e *Engine) prepare(entry store.Entry, stored *rules.Stored, p *Policy) *kept {
	k := &kept{Stored: stored, entry: entry, policy: p}
	k.reply = make([]replyField, 0, len(stored.Header)+1)
	e.compose(k)
	return k
}

// compose appends to the reply of k what it consists of.
func (e *Engine) compose(k *kept) {
	k.reply = e.appendReply(k.reply, k)
	if k.holdsBack() {
		terms := &k.policy.Terms
		k.reply = slices.DeleteFunc(k.reply, func(f replyField) bool {
			return slices.Contains(k.Policy.NoCacheFields, f.name) || k.Withholds(f.name, terms)
		})
	}
}

// holdsBack tells whether some fields may not be used without validation (RFC 9111
// §5.2.2.4, §5.2.2.7).
func (k *kept) holdsBack() bool {
	return len(k.Policy.NoCacheFields)+len(k.Policy.PrivateFields) > 0 || k.policy.Terms.SetCookie == rules.CookieStrip
}

// validated are the fields of an answer that the origin has just confirmed: all
// of them, also those that a qualified no-cache names.
func (e *Engine) validated(k *kept) []replyField {
	if k.holdsBack() {
		return e.appendReply(nil, k)
	}
	return k.reply
}

// appendReply appends the fields of k that are for clients.
func (e *Engine) appendReply(reply []replyField, k *kept) []replyField {
	for name, lines := range e.outward(k.policy, k.Header) {
		if name != "Content-Range" || k.Part.IsZero() { // or it is written anew for each answer
			reply = append(reply, replyField{name, lines})
		}
	}
	if bodyAllowed(k.Status) {
		reply = append(reply, replyField{"Content-Length", []string{strconv.FormatInt(k.entry.Size, 10)}})
	}
	return reply
}

// outward yields the fields of a response that are for clients, with us in Via
// where that is wished for.
func (e *Engine) outward(p *Policy, header rules.Header) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		via := e.ViaResponse && e.Pseudonym != ""
		for name, lines := range header {
			switch {
			case via && name == "Via", p.varies() && name == "Vary":
			case p.Terms.Surrogate && !p.Assembles && name == "Surrogate-Control":
			case slices.Contains(p.Terms.StripTargeted, name), p.Terms.HidesTags(name):
			default:
				if !yield(name, lines) {
					return
				}
			}
		}
		if p.varies() && !yield("Vary", alsoVaries(header["Vary"], p.Terms.VaryHeaders, p.AlsoVary)) {
			return
		}
		if via {
			yield("Via", append(slices.Clip(header["Via"]), e.viaMember(1, 1)))
		}
	}
}

// alsoVaries are the lines of Vary, with those of names that they lack.
func alsoVaries(lines []string, lists ...[]string) []string {
	listed, anything := field.ParseVary(lines)
	lines = slices.Clip(lines)
	for _, names := range lists {
		for _, name := range names {
			if !anything && !slices.Contains(listed, name) {
				lines, listed = append(lines, name), append(listed, name)
			}
		}
	}
	return lines
}

// varies tells whether answers vary on more than the origin says.
func (p *Policy) varies() bool { return len(p.Terms.VaryHeaders)+len(p.AlsoVary) > 0 }

// bodyAllowed tells whether a status has content (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool { return status >= 200 && status != 204 && status != 304 }
