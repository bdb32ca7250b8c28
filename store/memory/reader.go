package memory

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/internal/flow"
)

// copyLimit is how much of a body a reader takes along rather than pin the
// entry, in octets.
const copyLimit = 16 << 10

// Buffers that readers copy to, in two lengths: most bodies are short, and a
// reader may stay for long.
const shortBuffer = 4 << 10

var (
	shortBuffers = sync.Pool{New: func() any { return &buffer{octets: make([]byte, shortBuffer), pool: 0} }}
	longBuffers  = sync.Pool{New: func() any { return &buffer{octets: make([]byte, copyLimit), pool: 1} }}
)

type buffer struct {
	octets []byte
	pool   int
}

func takeBuffer(n int64) *buffer {
	if n <= shortBuffer {
		return shortBuffers.Get().(*buffer)
	}
	return longBuffers.Get().(*buffer)
}

func (b *buffer) give() {
	if poison {
		spoil(b.octets)
	}
	if b.pool == 0 {
		shortBuffers.Put(b)
	} else {
		longBuffers.Put(b)
	}
}

// An opening is a reader on its way to the body.
type opening struct {
	shard *shard
	hash  uint64
	key   []byte
	id    store.ID
	rev   int64 // of the head; negative: any
	off   int64
	want  int64 // octets, or negative: all

	mayPin bool

	// What look found.
	there    bool
	needsPin bool
	pinned   bool
	number   uint32
	entry    *entry  // that is pinned
	head     uint32  // of the record
	length   int64   // octets to read
	region   *region // of the run
	slot     uint32
	run      []byte // octets that are pinned
	copied   int    // octets in buffer
	buffer   *buffer
}

// look finds the entry, and copies or pins what is wanted. It may be undone.
func (o *opening) look() {
	sh := o.shard
	o.there, o.needsPin, o.pinned, o.run, o.copied = false, false, false, nil, 0
	n, found := sh.of(o.hash, o.key, o.id)
	if found == nil || o.rev >= 0 && int64(found.rev) != o.rev {
		return
	}
	e := found.snapshot()
	size := e.size()
	o.number = n
	if o.length = max(size-o.off, 0); o.want >= 0 && o.want < o.length {
		o.length = o.want
	}
	if o.length == 0 {
		o.there = true
		return
	}
	record := sh.record(&e)
	if record == nil {
		return
	}
	o.head = recordHead(record)
	run, rest, ok := sh.octets(&e, record, o.off, o.length)
	switch {
	case !ok:
		return
	case size <= smallBody && o.length <= copyLimit:
		o.take(run)
	case len(run) > 0 && !o.pin(found, &e, run):
		return
	}
	o.take(rest)
	o.there = true
}

// octets finds n octets of the body of e from off, of which there are so many:
// those in its run, and those after them in its record. ok is false if e makes no
// sense.
func (sh *shard) octets(e *entry, record []byte, off, n int64) (run, rest []byte, ok bool) {
	size := e.size()
	before := size - tail(size) // octets in the run
	fromRun := min(max(before-off, 0), n)
	if fromRun > 0 {
		r := sh.store.runs(runPages(size))
		if r == nil {
			return nil, nil, false
		}
		b := r.bytes(e.run, before)
		if b == nil {
			return nil, nil, false
		}
		run = b[off : off+fromRun : off+fromRun]
	}
	if fromRun < n {
		at := 4 + e.key() + int64(e.head) + max(off-before, 0)
		if at+n-fromRun > int64(len(record)) {
			return nil, nil, false
		}
		rest = record[at : at+n-fromRun]
	}
	return run, rest, true
}

// take appends b to the buffer, which is long enough: no more than copyLimit
// is copied, and no tail is longer than a page. What a look that was undone has
// left may be too short for it.
func (o *opening) take(b []byte) {
	if len(b) == 0 {
		return
	}
	want := max(int64(len(b)), min(o.length, copyLimit))
	if o.buffer != nil && int64(len(o.buffer.octets)) < want {
		o.buffer.give()
		o.buffer = nil
	}
	if o.buffer == nil {
		o.buffer = takeBuffer(want)
	}
	o.copied += copy(o.buffer.octets[o.copied:], b)
}

// pin counts the reader in, if it may.
func (o *opening) pin(found, e *entry, run []byte) bool {
	if o.needsPin = !o.mayPin; o.needsPin {
		o.there = true
		return false
	}
	found.pin(1)
	o.pinned, o.entry = true, found
	o.region, o.slot, o.run = o.shard.store.runs(runPages(e.size())), e.run, run
	return true
}

// try looks until it has seen one moment.
func (o *opening) try() {
	sh := o.shard
	if !sh.store.heap {
		for range attempts {
			if !sh.attempt(o.hash, o.look) {
				continue
			}
			if !o.needsPin || o.enter() {
				return
			}
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.mayPin = true
	o.look()
}

// enter looks again and pins, inside a door.
func (o *opening) enter() bool {
	sh := o.shard
	door := &sh.doors[rand.Uint32()%doorCount].inside
	door.Add(1)
	o.mayPin = true
	ok := sh.attempt(o.hash, o.look)
	last := !ok && o.pinned && o.entry.unpin()
	o.mayPin = false
	door.Add(-1)
	if last {
		sh.exhume(o.number)
	}
	return ok
}

// Open implements store.Store. The reader is an io.WriterTo that hands out
// octets that are used again after Close, or stored: whoever receives them
// must neither change nor keep them. It is a store.Pinned, if it has any octets.
//
// The reader is for one goroutine at a time; its Close may be called more than
// once.
func (s *Store) Open(_ context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	r, err := s.open(opening{key: key, id: id, rev: -1, off: off, want: n})
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nothing{}, nil
	}
	return r, nil
}

// open returns the reader that o asks for; nil: there is nothing to read.
func (s *Store) open(o opening) (*reader, error) {
	switch {
	case o.off < 0:
		return nil, errOffset
	case s.closed.Load():
		return nil, store.ErrClosed
	}
	sh, hash := s.locate(o.key)
	o.shard, o.hash = sh, hash
	o.try()
	if !o.there {
		if o.buffer != nil {
			o.buffer.give()
		}
		return nil, store.ErrGone
	}
	sh.policy.Hit(o.number)
	if o.length > 0 {
		inspect(o.head, o.number)
	} else {
		if o.buffer != nil {
			o.buffer.give()
		}
		return nil, nil
	}
	r := &reader{shard: sh, number: o.number, run: o.run, buffer: o.buffer}
	if o.pinned {
		r.entry = o.entry
	}
	if o.buffer != nil {
		r.rest = o.buffer.octets[:o.copied]
	}
	if o.pinned && o.region.file != nil {
		r.file, r.at = o.region.file, o.region.base+int64(o.slot)*o.region.slot+o.off
	}
	return r, nil
}

// AppendNow implements store.Prompt.
func (s *Store) AppendNow(dst []byte, key store.Key, id store.ID, rev uint32, off, n int64) ([]byte, bool) {
	if s.closed.Load() {
		return dst, false
	}
	sh, hash := s.locate(key)
	before, there := len(dst), false
	var number, head uint32
	sh.view(hash, func() {
		dst, there = dst[:before], false
		m, found := sh.of(hash, key, id)
		if found == nil || found.rev != rev {
			return
		}
		e := found.snapshot()
		if off < 0 || n < 0 || off > e.size() || n > e.size()-off {
			return
		}
		record := sh.record(&e)
		if record == nil {
			return
		}
		number, head = m, recordHead(record)
		var run, rest []byte
		run, rest, there = sh.octets(&e, record, off, n)
		dst = append(append(dst, run...), rest...)
	})
	if !there {
		return dst[:before], false
	}
	sh.policy.Hit(number)
	inspect(head, number)
	return dst, true
}

// Prepare implements store.Prompt: all there is is at hand.
func (s *Store) Prepare(store.Key, func()) bool { return false }

// OpenNow implements store.Prompt.
func (s *Store) OpenNow(key store.Key, id store.ID, rev uint32, off, n int64) (store.Pinned, bool) {
	r, err := s.open(opening{key: key, id: id, rev: int64(rev), off: off, want: n})
	if err != nil || r == nil {
		return nil, false
	}
	if int64(len(r.run)+len(r.rest)) != n { // there is less
		r.Close()
		return nil, false
	}
	return r, true
}

// inspect holds what entry n led to, at one moment, to the head of a record of
// its own, in a build that overwrites what is freed.
func inspect(head, n uint32) {
	if poison && head != n {
		panic(fmt.Sprintf("store/memory: entry %d leads to a record of %#x", n, head))
	}
}

// nothing reads a body of no octets.
type nothing struct{}

func (nothing) Read([]byte) (int, error)         { return 0, io.EOF }
func (nothing) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (nothing) Close() error                     { return nil }

// A reader reads a part of a committed body: first what it pinned, then what
// it took along.
type reader struct {
	shard  *shard
	number uint32
	entry  *entry // that it has pinned, of that number; nil: none
	run    []byte
	rest   []byte
	buffer *buffer
	file   *os.File // what run is in, if it is in a file
	at     int64    // where run begins there
	closed atomic.Bool
}

// Next implements store.Pinned.
func (r *reader) Next() ([]byte, error) {
	switch {
	case r.closed.Load():
		return nil, errClosed
	case len(r.run) > 0:
		return r.run, nil
	case len(r.rest) > 0:
		return r.rest[:len(r.rest):len(r.rest)], nil
	}
	return nil, io.EOF
}

// Advance implements store.Pinned.
func (r *reader) Advance(n int) {
	if len(r.run) > 0 {
		r.run = r.run[n:]
		r.at += int64(n)
	} else {
		r.rest = r.rest[n:]
	}
}

func (r *reader) Read(p []byte) (int, error) { return flow.Read(r, p) }

func (r *reader) WriteTo(to io.Writer) (int64, error) { return flow.WriteTo(r, to) }

// File implements store.Pinned.
func (r *reader) File() (f *os.File, off, n int64) {
	if r.file == nil || r.closed.Load() {
		return nil, 0, 0
	}
	r.entry.show()
	return r.file, r.at, int64(len(r.run))
}

func (r *reader) Close() error {
	if !r.closed.CompareAndSwap(false, true) {
		return nil
	}
	r.run, r.rest = nil, nil
	if r.buffer != nil {
		r.buffer.give()
		r.buffer = nil
	}
	if r.entry != nil {
		r.shard.unpin(r.number, r.entry)
	}
	return nil
}
