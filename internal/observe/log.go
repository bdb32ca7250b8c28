package observe

import (
	"context"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Format is how a Log writes an Event.
type Format uint8

const (
	// Text is for people: columns, the words of this house.
	Text Format = iota
	// JSON is for programs: an object a line.
	JSON
)

const (
	// maxPending is how many octets of lines may wait to be written. A line
	// for which there is no room is dropped and counted.
	maxPending = 4 << 20
	// maxField is the most octets that one field becomes in a line.
	maxField = 2 << 10
	// maxLine is more than a line can have: eight fields with texts, and what
	// is ours.
	maxLine = 9 * maxField
)

// A Log is a Sink that writes each Event as one line, whatever octets are in
// it. Observe never waits for the writer: lines go to a buffer of 4 MiB, and a
// goroutine writes it. Lines for which there is no room are dropped; a line
// that says how many comes in their place. Make one with NewLog.
type Log struct {
	w      io.Writer
	format Format

	mu      sync.Mutex
	pending []byte // guarded by mu
	lost    uint64 // lines dropped since that was last said; guarded by mu
	closed  bool   // guarded by mu

	wake    chan struct{} // one token: there may be something to write
	idle    chan struct{} // closed when the goroutine has ended
	dropped atomic.Uint64
}

// NewLog returns a Log that writes to w, from one goroutine, whole lines at a
// time. The caller closes the Log, then w.
func NewLog(w io.Writer, f Format) *Log {
	l := &Log{w: w, format: f, wake: make(chan struct{}, 1), idle: make(chan struct{})}
	go l.write()
	return l
}

// Dropped is how many lines were not written, for want of room or because the
// writer failed.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Observe takes the Event down as a line. After Close it does nothing.
func (l *Log) Observe(e *Event) {
	l.mu.Lock()
	switch {
	case l.closed:
	case len(l.pending) > maxPending-maxLine:
		l.lost++
		l.dropped.Add(1)
	default:
		l.report(e.Start)
		l.pending = l.append(l.pending, e)
	}
	l.mu.Unlock()
	l.awake()
}

// Batch returns a Sink for one goroutine, whose lines come to the Log together with
// Flush: so goroutines that have many do not meet at each.
func (l *Log) Batch() *Batch { return &Batch{log: l} }

// A Batch has lines for a Log. Make one with Log.Batch.
type Batch struct {
	log   *Log
	lines []byte
	count uint64
	last  time.Time // when the last line's Event began
}

// maxBatch is how many octets a Batch has before it is flushed by itself.
const maxBatch = 64 << 10

// Observe takes the Event down as a line.
func (b *Batch) Observe(e *Event) {
	b.lines = b.log.append(b.lines, e)
	b.count++
	if b.last = e.Start; len(b.lines) > maxBatch-maxLine {
		b.Flush()
	}
}

// Flush gives the lines to the Log, all or, if there is no room, none of them. It
// waits for nobody.
func (b *Batch) Flush() {
	if b.count == 0 {
		return
	}
	l := b.log
	l.mu.Lock()
	switch {
	case l.closed:
	case len(l.pending)+len(b.lines) > maxPending-maxLine:
		l.lost += b.count
		l.dropped.Add(b.count)
	default:
		l.report(b.last)
		l.pending = append(l.pending, b.lines...)
	}
	l.mu.Unlock()
	b.lines, b.count = b.lines[:0], 0
	l.awake()
}

// awake tells the goroutine that there may be something to write.
func (l *Log) awake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Log) append(dst []byte, e *Event) []byte {
	if l.format == JSON {
		return e.AppendJSON(dst)
	}
	return e.AppendText(dst)
}

// report says how many lines are missing. The caller holds mu.
func (l *Log) report(now time.Time) {
	if l.lost == 0 {
		return
	}
	b := l.pending
	if l.format == JSON {
		b = appendTime(append(b, `{"time":"`...), now)
		b = strconv.AppendUint(append(b, `","dropped":`...), l.lost, 10)
		b = append(b, "}\n"...)
	} else {
		b = now.AppendFormat(b, clock)
		b = strconv.AppendUint(append(b, "  "...), l.lost, 10)
		b = append(b, " lines are missing here: they came faster than they could be written\n"...)
	}
	l.pending, l.lost = b, 0
}

// write is the goroutine.
func (l *Log) write() {
	defer close(l.idle)
	var taken []byte
	torn := false // the last line written has no end
	for {
		l.mu.Lock()
		closed := l.closed
		taken, l.pending = l.pending, taken[:0]
		l.mu.Unlock()
		if len(taken) == 0 {
			if closed {
				return
			}
			<-l.wake
			continue
		}
		if torn {
			if _, err := l.w.Write([]byte{'\n'}); err == nil {
				torn = false
			}
		}
		if n, err := l.w.Write(taken); err != nil {
			lines := uint64(countLines(taken[min(n, len(taken)):]))
			torn = torn || n > 0 && taken[n-1] != '\n'
			l.dropped.Add(lines)
			l.mu.Lock()
			l.lost += lines
			l.mu.Unlock()
		}
	}
}

func countLines(b []byte) (n int) {
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

// Close writes what is left and ends the Log, unless ctx ends first: what the
// writer does not take is lost then, and the error is that of ctx.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.report(time.Now())
	}
	l.closed = true
	l.mu.Unlock()
	l.awake()
	select {
	case <-l.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
