package front

import (
	"time"

	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/standing"
)

// A teller tells of what is answered without the Handler. It is one goroutine's.
type teller struct {
	sink   observe.Sink    // nil: nobody is told
	recent *observe.Recent // as in Options
	proto  string
	seen   uint32 // answers so far
	event  observe.Event

	now, wall time.Time // which whoever has it keeps up to date: steady, and wall
}

// observe tells of an answer to a client at addr that was begun then, and is over now.
func (t *teller) observe(a *standing.Answer, addr string, head bool, sent int64, begun time.Time, fault error) {
	if t.recent != nil {
		t.recent.Stir()
		if t.seen++; t.seen%observe.SampleEvery == 0 {
			t.recent.Note(a.Host, a.Target, t.wall)
		}
	}
	if t.sink == nil {
		return
	}
	method := "GET"
	if head {
		method = "HEAD"
	}
	took := t.now.Sub(begun)
	t.event = observe.Event{
		Start: t.wall.Add(-took), Duration: took, Client: addr, Method: method, Host: a.Host, Target: a.Target, Proto: t.proto,
		Status: a.Status, Sent: sent, Hit: true, TTL: a.Left(t.now), HasTTL: true, Why: a.Why, Fault: fault,
	}
	t.sink.Observe(&t.event)
}
