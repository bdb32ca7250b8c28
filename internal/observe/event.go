// Package observe holds the Event: what is known of one request when it is
// over. Cache-Status, the access log and metrics are renderings of it, so they
// cannot disagree.
package observe

import (
	"strconv"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// An Event is one request and what became of it. It belongs to the goroutine
// that serves the request until it is given to the Sink.
type Event struct {
	// Start is when the request was read; Duration ends with its last octet.
	Start    time.Time
	Duration time.Duration

	// Client is the peer's address as host:port.
	Client string
	// Method, Host, Target and Proto are the client's own words. They may hold
	// any octet that a request can.
	Method, Host, Target, Proto string

	// Status is what the client got; 0 if the client got nothing.
	Status int
	// Sent is the number of octets of body that were sent.
	Sent int64

	// Hit says that the store answered.
	Hit bool
	// Forward is the fwd of RFC 9211 §2.2, empty for a hit and for what never
	// reached the cache.
	Forward string
	// ForwardStatus is the origin's status, or 0.
	ForwardStatus int
	// TTL is the freshness left, in whole seconds; negative when stale.
	TTL    int64
	HasTTL bool
	// Stored and Collapsed are those of RFC 9211 §2.5 and §2.6.
	Stored, Collapsed bool
	// Overruled names the response directives that the operator had not count, with
	// blanks between them; empty if there are none.
	Overruled string
	// Why is the reason in words, with its section. It never holds octets of a
	// peer.
	Why string
	// Fault is what went wrong, or nil.
	Fault error
}

// A Sink is told of every request once it is over, by the goroutine that
// served it. It must not keep the Event, and it must not block.
type Sink interface {
	Observe(*Event)
}

// Cached tells whether the cache had a part in the answer, so that it gets a
// Cache-Status (RFC 9211 §2).
func (e *Event) Cached() bool { return e.Hit || e.Forward != "" }

// Detail says what of the Event is fit for the eyes of a client.
type Detail struct {
	// Name identifies us in Cache-Status.
	Name string
	// Key is the cache key in readable form, or empty to leave it out.
	Key string
	// Why adds the reason as detail.
	Why bool
}

// AppendCacheStatus writes the member of Cache-Status (RFC 9211 §2).
func (e *Event) AppendCacheStatus(dst []byte, d Detail) []byte {
	dst = field.AppendSFIdentifier(dst, d.Name)
	if e.Hit {
		dst = append(dst, "; hit"...)
	} else {
		dst = append(append(dst, "; fwd="...), e.Forward...)
		if e.ForwardStatus != 0 && e.ForwardStatus != e.Status {
			dst = strconv.AppendInt(append(dst, "; fwd-status="...), int64(e.ForwardStatus), 10)
		}
	}
	if e.HasTTL {
		dst = strconv.AppendInt(append(dst, "; ttl="...), e.TTL, 10)
	}
	if e.Stored && !e.Hit {
		dst = append(dst, "; stored"...)
	}
	if e.Collapsed && !e.Hit {
		dst = append(dst, "; collapsed"...)
	}
	if d.Key != "" {
		dst = field.AppendSFString(append(dst, "; key="...), d.Key)
	}
	if why := e.why(d.Why); why != "" {
		dst = field.AppendSFString(append(dst, "; detail="...), why)
	}
	return dst
}

// why is the reason, and what was overruled for it, which nobody may hide.
func (e *Event) why(entire bool) string {
	switch {
	case e.Overruled == "" && entire:
		return e.Why
	case e.Overruled == "":
		return ""
	case !entire || e.Why == "":
		return "overruled: " + e.Overruled
	}
	return "overruled: " + e.Overruled + "; " + e.Why
}
