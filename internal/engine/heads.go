package engine

import (
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

const (
	headSlots = 4096
	// headLimit keeps the slots below 16 MiB or so: larger heads are decoded
	// each time.
	headLimit = 2 << 10
)

// heads remembers decoded heads, so that a hit decodes nothing. It is lossy: a
// slot holds whatever came last. An (ID, Rev) names one head for ever, so what
// is found is never out of date.
type heads struct {
	slots [headSlots]atomic.Pointer[kept]
}

// A kept is a stored entry with its head decoded and its answer prepared. It is
// shared and immutable, but for the memo of its last rendering.
type kept struct {
	*rules.Stored
	entry store.Entry
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

// decode returns entry with its head decoded, or nil if the head is not ours.
func (h *heads) decode(entry *store.Entry, e *Engine) *kept {
	slot := &h.slots[uint64(entry.ID)%headSlots]
	if k := slot.Load(); k != nil && k.entry.ID == entry.ID && k.entry.Rev == entry.Rev {
		return k
	}
	stored, err := message.Decode(entry.Head, &e.Terms)
	if err != nil {
		return nil
	}
	k := e.prepare(*entry, stored)
	if len(entry.Head) <= headLimit {
		slot.Store(k)
	}
	return k
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
