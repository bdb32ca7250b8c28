package memory

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/internal/flow"
)

// A writer is an entry in the making. Up to smallBody its octets lie in a
// buffer on the Go heap, and are copied to their place by Commit. Longer ones
// are written where they will stay, and move only if a body of unknown length
// outgrows that place, which becomes four times as large each time.
//
// All of it is charged until the writer has ended and the last follower has
// closed.
type writer struct {
	claim
	key      []byte
	head     []byte
	until    int64
	declared int64 // length of the body, or negative

	// Of the one goroutine that writes.
	failed error // why Commit must fail

	mu       sync.Mutex
	size     int64 // octets that followers may see
	progress flow.Progress
	done     bool // its owner knows that it is over

	buffer    []byte // the body, while it has no run
	run       place  // the body otherwise
	outgrown  []place
	followers int
	own       int64    // octets charged beside those of runs
	entry     store.ID // what Commit made of it
	number    uint32   // where that is, if placed
	placed    *entry   // that the run belongs to now, and that followers pin; nil: none yet
}

// A place is a run that is written to.
type place struct {
	region *region // nil: none
	slot   uint32
	have   int64 // pages that are charged
}

var _ store.Writer = (*writer)(nil)

// writerOverhead is about what a writer takes on the Go heap beside its octets.
const writerOverhead = 512

func newWriter(sh *shard, hash uint64, key store.Key, h store.Head, size int64) *writer {
	return &writer{
		claim:    claim{shard: sh, hash: hash, size: max(size, 0)},
		key:      slices.Clone(key),
		head:     slices.Clone(h.Octets),
		until:    h.Until,
		declared: size,
	}
}

// charge takes n octets of the budget for the writer.
func (w *writer) charge(n int64) bool {
	s := w.shard.store
	if n <= 0 {
		return true
	}
	if !s.reserve(&w.claim, n) {
		return false
	}
	w.credit -= n
	s.held.Add(n)
	return true
}

// refund gives n octets back.
func (w *writer) refund(n int64) {
	w.shard.store.held.Add(-n)
	w.shard.store.release(n)
}

// Write implements store.Writer. More octets than were declared are refused
// as well. After a refusal the writer takes no more and cannot be committed.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	over := w.progress.Over()
	w.mu.Unlock()
	switch {
	case over == store.ErrClosed:
		return 0, over
	case over != nil:
		return 0, errEnded
	case w.failed != nil:
		return 0, w.failed
	case len(p) == 0:
		return 0, nil
	}
	size := w.size + int64(len(p))
	if w.declared >= 0 && size > w.declared {
		w.failed = fmt.Errorf("store/memory: the body is longer than the %d octets declared", w.declared)
		return 0, w.failed
	}
	w.claim.size = max(w.claim.size, size)
	if size > w.shard.store.maxObject || !w.put(p, size) {
		w.failed = store.ErrFull
		return 0, w.failed
	}
	w.shard.store.content.Add(int64(len(p)))
	return len(p), nil
}

// put appends p, which makes the body size octets long.
func (w *writer) put(p []byte, size int64) bool {
	if max(size, w.declared) <= smallBody {
		return w.putShort(p, size)
	}
	return w.putLong(p, size)
}

// putShort appends to the buffer. Followers keep what they saw of the one
// before.
func (w *writer) putShort(p []byte, size int64) bool {
	b := w.buffer
	if int64(cap(b)) < size {
		room := w.declared
		if room < 0 {
			room = min(max(2*int64(cap(b)), size, 1<<10), smallBody)
		}
		if !w.charge(room - int64(cap(b))) {
			return false
		}
		w.own += room - int64(cap(b))
		b = append(make([]byte, 0, room), b...)
	}
	b = append(b, p...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffer, w.size = b, size
	w.progress.Move()
	return true
}

// putLong appends to the run.
func (w *writer) putLong(p []byte, size int64) bool {
	to := w.run
	if to.region == nil || size > to.region.slot {
		var ok bool
		if to, ok = w.newRun(size); !ok {
			return false
		}
	}
	if !w.extend(&to, pagesOf(size)) || to.region.write(to.slot, w.size, p) != nil {
		if to.slot != w.run.slot || to.region != w.run.region {
			w.giveRun(to)
		} else {
			w.mu.Lock()
			w.run = to
			w.mu.Unlock()
		}
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run.region != nil && (to.region != w.run.region || to.slot != w.run.slot) {
		w.outgrown = append(w.outgrown, w.run)
	}
	if w.buffer != nil {
		w.refund(int64(cap(w.buffer)))
		w.own -= int64(cap(w.buffer))
		w.buffer = nil
	}
	w.run, w.size = to, size
	w.giveOutgrown()
	w.progress.Move()
	return true
}

// newRun returns a run for size octets with what the body has so far.
func (w *writer) newRun(size int64) (to place, ok bool) {
	s := w.shard.store
	to.region = s.runs(pagesOf(max(size, w.declared)))
	if to.region == nil {
		return to, false
	}
	if to.slot, to.have, ok = s.wakeRun(to.region); ok {
		s.held.Add(s.cost(to.have))
	} else {
		if s.heap { // which gives it all at once
			to.have = to.region.slot / pageSize
			if w.declared >= 0 {
				to.have = pagesOf(w.declared)
			}
		}
		if !w.charge(s.cost(to.have)) {
			return to, false
		}
		if to.slot, ok = to.region.take(to.have * pageSize); !ok {
			w.refund(s.cost(to.have))
			return to, false
		}
	}
	if !w.extend(&to, pagesOf(w.size)) || to.region.write(to.slot, 0, w.body()) != nil {
		w.giveRun(to)
		return to, false
	}
	return to, true
}

// extend makes sure that the first pages of a place are paid for.
func (w *writer) extend(p *place, pages int64) bool {
	s := w.shard.store
	if pages > p.have {
		if !w.charge(s.cost(pages) - s.cost(p.have)) {
			return false
		}
		p.have = pages
	}
	return true
}

// body returns what was written so far. The caller writes, or holds w.mu.
func (w *writer) body() []byte {
	if w.run.region != nil {
		return w.run.region.bytes(w.run.slot, w.run.have*pageSize)[:w.size]
	}
	return w.buffer
}

// giveRun gives a run back that no follower reads.
func (w *writer) giveRun(p place) {
	s := w.shard.store
	s.held.Add(-s.cost(p.have))
	s.giveRun(p.region, p.slot, p.have)
}

// giveOutgrown gives the runs back that the body outgrew, if there is nobody
// who may still read there. The caller holds w.mu.
func (w *writer) giveOutgrown() {
	if w.followers > 0 {
		return
	}
	for _, p := range w.outgrown {
		w.giveRun(p)
	}
	w.outgrown = nil
}

// giveAll gives everything back once the writer is done and nobody follows.
// The caller holds w.mu.
func (w *writer) giveAll() {
	if !w.done || w.followers > 0 {
		return
	}
	w.giveOutgrown()
	if w.placed == nil {
		if w.run.region != nil {
			w.giveRun(w.run)
		}
		w.shard.store.content.Add(-w.size)
	}
	w.refund(w.own)
	w.run, w.own = place{}, 0
	if w.entry != 0 { // what was aborted and is short may be asked for yet
		w.buffer, w.size = nil, 0
	}
}

// end lets followers finish: with io.EOF if cause is nil.
func (w *writer) end(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.End(cause)
}

// Commit implements store.Writer. It fails if a Write failed or if the body is
// not as long as Create was told. ErrFull: there is no room for it after all.
func (w *writer) Commit(_ context.Context, replaces ...store.ID) (store.Entry, error) {
	sh := w.shard
	a := arrival{claim: w.claim, key: w.key, head: w.head, until: w.until, replaces: replaces}
	a.body, a.run, a.size = w.final()
	var refused error
	err := sh.store.keep(&a.claim, func() bool {
		if refused = w.ready(); refused != nil {
			return true
		}
		if !sh.add(&a) {
			return false
		}
		delete(sh.writers, w)
		w.hand(&a)
		return true
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		if w.failed == nil {
			w.failed = err
		}
		return store.Entry{}, err
	}
	w.end(nil)
	return store.Entry{ID: a.id, Size: a.size}, nil
}

// final returns the body, or the run that it is in, in no more pages than it
// needs; and its length.
func (w *writer) final() (body []byte, run uint32, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run.region == nil {
		return w.buffer, 0, w.size
	}
	if pages := pagesOf(w.size); pages < w.run.have {
		s := w.shard.store
		w.run.region.trim(w.run.slot, pages*pageSize, w.run.have*pageSize)
		w.refund(s.cost(w.run.have) - s.cost(pages))
		w.run.have = pages
	}
	return nil, w.run.slot, w.size
}

// ready says why the writer cannot be committed. The shard is locked.
func (w *writer) ready() error {
	_, live := w.shard.writers[w]
	switch {
	case w.shard.closed:
		return store.ErrClosed
	case !live:
		return errEnded
	case w.failed != nil:
		return fmt.Errorf("store/memory: commit of an incomplete body: %w", w.failed)
	case w.declared >= 0 && w.size != w.declared:
		return fmt.Errorf("store/memory: commit of %d octets where %d were declared: %w", w.size, w.declared, io.ErrUnexpectedEOF)
	}
	return nil
}

// hand gives the run to the entry that was made of the writer, whose followers
// read it there from now on. The shard is locked.
func (w *writer) hand(a *arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.shard.store
	w.entry = a.id
	if w.run.region != nil {
		w.placed, w.number = w.shard.book.at(a.n), a.n
		w.placed.pin(uint32(w.followers))
		s.held.Add(-s.cost(w.run.have))
		s.content.Add(-w.size) // add has counted it
	}
	w.done = true
	w.giveAll()
}

// Abort implements store.Writer.
func (w *writer) Abort(cause error) {
	sh := w.shard
	sh.mu.Lock()
	_, live := sh.writers[w]
	delete(sh.writers, w)
	sh.mu.Unlock()
	if !live {
		return
	}
	w.end(cause)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.giveAll()
}

// Open implements store.Writer. After Commit it reads the entry, and fails with
// ErrGone once that was forgotten. After Abort it fails so where the body is
// longer than 64 KiB and nobody follows it any more, and with ErrFull if there
// is no room for what was given back meanwhile. The reader is like that of
// Store.Open, but for File.
func (w *writer) Open(ctx context.Context, off int64) (io.ReadCloser, error) {
	s := w.shard.store
	switch {
	case off < 0:
		return nil, errOffset
	case s.closed.Load():
		return nil, store.ErrClosed
	}
	w.mu.Lock()
	switch {
	case !w.done || w.followers > 0:
		w.followers++
		if w.placed != nil {
			w.placed.pin(1) // as other followers do: it is there
		}
		w.mu.Unlock()
		return &follower{ctx: ctx, writer: w, off: off}, nil
	case w.entry == 0:
		defer w.mu.Unlock()
		return w.reopen(ctx, off)
	}
	w.mu.Unlock()
	return s.Open(ctx, w.key, w.entry, off, -1)
}

// reopen reads a body that was aborted and given back, if its octets are there
// yet: as long as somebody knows the writer they are. The caller holds w.mu.
func (w *writer) reopen(ctx context.Context, off int64) (io.ReadCloser, error) {
	if w.buffer == nil && w.size > 0 {
		return nil, store.ErrGone
	}
	s, n := w.shard.store, int64(cap(w.buffer))
	if !s.charge(n) { // nobody has to leave for it
		return nil, store.ErrFull
	}
	s.held.Add(n)
	s.content.Add(w.size)
	w.own = n
	w.followers++
	return &follower{ctx: ctx, writer: w, off: off}, nil
}

// A follower reads a body from its writer, and waits at the end for more.
type follower struct {
	ctx    context.Context
	writer *writer
	off    int64 // of the next octet
	closed atomic.Bool
}

// Next implements flow.Source: it waits until there is something.
func (f *follower) Next() ([]byte, error) { return flow.Follow(f.ctx, f.from) }

// from returns what follows, or why nothing will, or a channel: see flow.Follow.
func (f *follower) from() (piece []byte, moved <-chan struct{}, err error) {
	w := f.writer
	if f.closed.Load() {
		return nil, nil, errClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.off < w.size {
		return w.body()[f.off:w.size:w.size], nil, nil
	}
	if over := w.progress.Over(); over != nil {
		return nil, nil, over
	}
	return nil, w.progress.Moved(), nil
}

// Advance implements flow.Source.
func (f *follower) Advance(n int) { f.off += int64(n) }

func (f *follower) Read(p []byte) (int, error) { return flow.Read(f, p) }

func (f *follower) WriteTo(to io.Writer) (int64, error) { return flow.WriteTo(f, to) }

func (f *follower) Close() error {
	if !f.closed.CompareAndSwap(false, true) {
		return nil
	}
	w := f.writer
	w.mu.Lock()
	w.followers--
	placed := w.placed
	w.giveOutgrown()
	w.giveAll()
	w.mu.Unlock()
	if placed != nil {
		w.shard.unpin(w.number, placed)
	}
	return nil
}
