package purge

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Mode is what becomes of a response that is purged.
type Mode uint8

const (
	// Refetch has it never served again, nor validated: it is fetched as if it had
	// never been there (a hard purge).
	Refetch Mode = iota
	// Refresh has it stale at once: one request validates it, and where stale is allowed
	// it is served meanwhile (a soft purge).
	Refresh
)

var modeNames = []string{"refetch", "refresh"}

// String is refetch or refresh.
func (m Mode) String() string { return modeNames[m] }

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, name := range modeNames {
		if string(text) == name {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("mode %q: give refetch (never serve it again) or refresh (validate it)", text)
}

// A State is where a job is.
type State string

// The states. A job is Scheduled, then InForce, then one of the others.
const (
	// Scheduled: it begins at its start.
	Scheduled State = "scheduled"
	// InForce: every lookup obeys it, and what is kept is being gone through.
	InForce State = "in force"
	// Done: all that was kept has been gone through, and nothing is left to do.
	Done State = "done"
	// Cancelled: somebody has ended it. What it had reached stays as it is.
	Cancelled State = "cancelled"
	// Ended: its end came before all was gone through. The rest is as it was.
	Ended State = "ended"
	// Undone: what it made stale is as fresh as it was.
	Undone State = "undone"
)

// An ID names a job of a Ledger as long as its Journal lasts: the number of the run of the
// program, and that of the job in it, as in 3-17. Zero names none.
type ID uint64

// runBits is how many bits of an ID, or of a sequence number, count within a run.
const runBits = 32

// String implements fmt.Stringer.
func (id ID) String() string {
	return strconv.FormatUint(uint64(id)>>runBits, 10) + "-" + strconv.FormatUint(uint64(id)&(1<<runBits-1), 10)
}

// ParseID reads what String wrote.
func ParseID(text string) (ID, error) {
	run, n, ok := strings.Cut(text, "-")
	high, err1 := strconv.ParseUint(run, 10, 64-runBits)
	low, err2 := strconv.ParseUint(n, 10, runBits)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q names no purge: an id looks like 3-17", text)
	}
	return ID(high<<runBits | low), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// MaxSelectors is how many Selectors an Order has at most.
const MaxSelectors = 1000

// An Order is a wish to purge.
type Order struct {
	// Selectors name what is meant: what any of them names.
	Selectors []Selector `json:"selectors"`

	Mode Mode `json:"mode"`

	// Start is when it begins; the zero time is now.
	Start time.Time `json:"start,omitzero"`

	// End is when it ends although it has not reached everything; the zero time is never.
	End time.Time `json:"end,omitzero"`

	// By is who wishes it, for the list.
	By string `json:"by,omitempty"`
}

// Again is o once more, from now on and without an end.
func (o Order) Again() Order {
	o.Start, o.End = time.Time{}, time.Time{}
	return o
}

// A job is an Order that was taken. The Ledger guards it, but for what is atomic.
type job struct {
	id      ID
	order   Order
	parts   []compiled
	created time.Time
	seq     uint64 // of when it came into force; 0: it has not yet
	state   State
	durable bool
	walked  bool // all that was kept was gone through
	covers  bool // others have ended because of it

	objects, bytes atomic.Int64
	changed        chan struct{} // closed when the state changes
}

func (j *job) verdict() Verdict {
	if j.order.Mode == Refresh {
		return Stale
	}
	return Gone
}

// A Receipt is what a job has come to so far.
type Receipt struct {
	ID ID `json:"id"`
	Order
	Created time.Time `json:"created"`
	State   State     `json:"state"`

	// Applied says that no lookup overlooks it any more. What was kept before need not be
	// gone through for that.
	Applied bool `json:"applied"`

	// Durable says that a restart does not forget it.
	Durable bool `json:"durable"`

	// Objects and Bytes are what was found that it is about, so far: each variant is one,
	// and its bytes are those of its body.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`

	// Complete says that there is no more to find.
	Complete bool `json:"complete"`
}

func (j *job) receipt() Receipt {
	return Receipt{
		ID: j.id, Order: j.order, Created: j.created, State: j.state, Durable: j.durable,
		Applied: j.seq != 0 && j.state != Cancelled && j.state != Undone,
		Objects: j.objects.Load(), Bytes: j.bytes.Load(), Complete: j.walked,
	}
}
