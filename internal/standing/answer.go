// Package standing keeps decisions that hold for a while: to this very request,
// until this instant, and as long as nothing changes under its key, the answer is
// these octets. The engine publishes them when it has served a plain hit; the
// front replays them, and decides nothing.
package standing

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/store"
)

// An Answer is a standing decision. It must not change once it is published. One
// that is not may be filled in again and again.
type Answer struct {
	// Host and Target are those of the request, as they came.
	Host, Target string

	// Secure says that it is for those who ask by https.
	Secure bool

	// Method is GET or HEAD if the answer to the other may be another one; empty:
	// it is the same, but for the body.
	Method string

	// Fields are what else the request must have, or must lack, for the Answer to
	// be the one: every Condition, and all that chooses between the variants that
	// are stored. Names are in canonical form, each once.
	Fields []Want

	// Key, ID and Rev name what is served, and Off and Size which octets of its
	// body follow the head; to HEAD none do.
	Key       store.Key
	ID        store.ID
	Rev       uint32
	Off, Size int64

	Status int
	Why    string // of the decision, for the log

	// Age and TTL are what they were at From; the Answer holds as long as TTL is
	// more than nothing. From is on the steady clock.
	From     time.Time
	Age, TTL time.Duration

	// Head is the status line and the fields, without the empty line at their end.
	// The seconds of Age belong where AgeAt says, and those of ttl in Cache-Status
	// at TTLAt, which comes later.
	Head         []byte
	AgeAt, TTLAt int

	// Ledger knows what was purged since the response was asked for, which was at Stamp;
	// Labels are those of the response. Subject is what the Ledger remembers of it, which is
	// there where they do not say enough. Ledger may be nil.
	Ledger  *purge.Ledger
	Stamp   uint64
	Labels  []uint64
	Subject *purge.Subject

	// Grouped says that it is in groups, which are none of Labels.
	Grouped bool

	// Moment is when the store was looked at: see Table.Moment.
	Moment Moment

	conditions int    // how many of Fields are to be there
	hash       uint64 // of Host and Target
}

// Clone returns an Answer that shares nothing with a but what never changes.
func (a *Answer) Clone() *Answer {
	c := *a
	c.Host, c.Target = strings.Clone(a.Host), strings.Clone(a.Target)
	c.Key, c.Head, c.Fields, c.Labels = slices.Clone(a.Key), slices.Clone(a.Head), slices.Clone(a.Fields), slices.Clone(a.Labels)
	for i := range c.Fields {
		f := &c.Fields[i]
		f.Name, f.Value = strings.Clone(f.Name), strings.Clone(f.Value)
	}
	return &c
}

// A Verdict is what is said of a request for which nothing stands.
type Verdict uint8

const (
	// Elsewhere: whoever wants to know has to have the request served.
	Elsewhere Verdict = iota
	// Unread: it would take reading what is kept under the Key of the Answer, all
	// else of which has no meaning.
	Unread
	// Decided: the Answer holds.
	Decided
)

// A Want is a field that a request must have once with this value, without the
// blanks around it, or must not have.
type Want struct {
	Name, Value string
	Absent      bool
}

// A Moment is what was known of a key at some time: it passes when something
// changes there.
type Moment struct {
	cell *atomic.Uint32
	was  uint32
}

// Pass ends all Moments of the key, this one or not: see Table.Changed.
func (m Moment) Pass() { m.cell.Add(1) }

// Lasts tells whether nothing has changed since.
func (m Moment) Lasts() bool { return m.cell != nil && m.cell.Load() == m.was }

// holds tells whether a still is the answer at now.
func (a *Answer) holds(now time.Time) bool {
	// The Moment last: what is clean because the purge was carried out has changed.
	return now.Sub(a.From) < a.TTL && a.clean() && a.Moment.Lasts()
}

// clean tells whether nobody has purged what is served.
func (a *Answer) clean() bool {
	if a.Subject != nil {
		return a.Subject.Verdict() == purge.Clean
	}
	return a.Ledger == nil || !a.Ledger.Concerns(a.Stamp, nil) || !a.Grouped && a.Ledger.Passes(a.Stamp, slices.Values(a.Labels))
}

// Left is the freshness at now in seconds, as it goes into Cache-Status.
func (a *Answer) Left(now time.Time) int64 { return int64((a.TTL - now.Sub(a.From)) / time.Second) }

// AppendHead writes the head as it is at now, without the empty line at its end.
func (a *Answer) AppendHead(dst []byte, now time.Time) []byte {
	dst = append(dst, a.Head[:a.AgeAt]...)
	dst = strconv.AppendInt(dst, int64((a.Age+now.Sub(a.From))/time.Second), 10)
	dst = append(dst, a.Head[a.AgeAt:a.TTLAt]...)
	dst = strconv.AppendInt(dst, a.Left(now), 10)
	return append(dst, a.Head[a.TTLAt:]...)
}

// weight is about how many octets a takes.
func (a *Answer) weight() int64 {
	n := 370 + 8*len(a.Labels) + len(a.Host) + len(a.Target) + len(a.Key) + len(a.Head)
	if a.Subject != nil {
		n += 200 + len(a.Key)
	}
	for _, f := range a.Fields {
		n += 40 + len(f.Name) + len(f.Value)
	}
	return int64(n)
}

// answers tells whether a is about r, which has that hash.
func (a *Answer) answers(r *Request) bool {
	if a.hash != r.hash || a.conditions != r.conditions || a.Method != "" && (a.Method == "HEAD") != r.Head || a.Secure != r.Secure || a.Target != string(r.Target) || a.Host != string(r.Host) {
		return false
	}
	for i := range a.Fields {
		if !a.Fields[i].met(r.Fields) {
			return false
		}
	}
	return true
}

func (w *Want) met(fields []Field) bool {
	there := false
	for i := range fields {
		if !field.EqualFold(fields[i].Name, w.Name) {
			continue
		}
		if w.Absent || there || string(fields[i].Value) != w.Value {
			return false
		}
		there = true
	}
	return there != w.Absent
}
