package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/larderhq/larder/internal/message"
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
// shared and immutable, but for the memo of its last rendering.
type kept struct {
	*rules.Stored
	entry store.Entry
	// weight is what the head counts for where it is remembered.
	weight int64
	// reply are the fields of an answer from the store without validation,
	// but for Age and Cache-Status.
	reply []replyField
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

// decode returns the entry under key with its head decoded, or nil if it has
// gone, or has another head by now, or one that is not ours. An error is the
// store's.
func (h *heads) decode(ctx context.Context, key []byte, entry store.Entry, e *Engine) (*kept, error) {
	slot := &h.slots[uint64(entry.ID)%headSlots]
	if k := slot.Load(); k != nil && k.entry.ID == entry.ID && k.entry.Rev == entry.Rev {
		return k, nil
	}
	head, err := e.Store.Head(ctx, key, entry.ID, entry.Rev)
	switch {
	case errors.Is(err, store.ErrGone):
		return nil, nil
	case err != nil:
		return nil, err
	}
	stored, err := message.Decode(head, &e.Terms)
	if err != nil {
		return nil, nil
	}
	k := e.prepare(entry, stored)
	if len(head) <= headLimit {
		k.weight = weigh(head, stored)
		h.remember(slot, k)
	}
	return k, nil
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
func (e *Engine) prepare(entry store.Entry, stored *rules.Stored) *kept {
	k := &kept{Stored: stored, entry: entry}
	k.reply = slices.DeleteFunc(e.validated(k), func(f replyField) bool {
		return slices.Contains(stored.Policy.NoCacheFields, f.name) // RFC 9111 §5.2.2.4
	})
	return k
}

// validated are the fields of an answer that the origin has just confirmed: all
// of them, also those that a qualified no-cache names.
func (e *Engine) validated(k *kept) []replyField {
	h := e.outward(k.Header)
	if !k.Part.IsZero() {
		delete(h, "Content-Range") // written anew for each answer
	}
	if bodyAllowed(k.Status) {
		h["Content-Length"] = []string{strconv.FormatInt(k.entry.Size, 10)}
	}
	reply := make([]replyField, 0, len(h))
	for name, lines := range h {
		reply = append(reply, replyField{name, lines})
	}
	return reply
}

// outward is a copy of the fields of a response with those removed that are not
// for clients, and with us in Via where that is wished for.
func (e *Engine) outward(header rules.Header) rules.Header {
	out := make(rules.Header, len(header)+4)
	for name, lines := range header {
		out[name] = lines
	}
	for _, name := range e.Terms.StripTargeted {
		delete(out, name)
	}
	if e.Terms.Surrogate {
		delete(out, "Surrogate-Control")
	}
	if e.ViaResponse && e.Pseudonym != "" {
		out["Via"] = append(slices.Clip(out["Via"]), e.viaMember(1, 1))
	}
	return out
}

// bodyAllowed tells whether a status has content (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool { return status >= 200 && status != 204 && status != 304 }
