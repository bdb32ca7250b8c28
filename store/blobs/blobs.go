// Package blobs keeps responses in whatever gets, sets and deletes values by
// name: in what programs that come from github.com/gregjones/httpcache have as
// their Cache, be it on a disk, in a database or in another process.
//
// Of each key there is one value with the heads of all its entries, the index,
// and one value for each body. A body is there before an index names it. Both
// say in full whom they belong to, and carry a checksum: what is damaged, of
// another key, of another prefix or of another program is as good as not there.
//
// Nothing is kept in this process, so that several may share a backend. A
// Lookup, and a Head, cost one Get; an Open costs two, of the index and of the
// whole body, also for n = 0.
//
// # What the backend answers for
//
// It may lose any value at any time without a word: that is an entry forgotten.
// It has to let go of values itself when room is short. Where an index is lost,
// or a crash comes before it is written, bodies stay that nobody names.
//
// It cannot say that it was out of reach. What is removed meanwhile is there
// again when it comes back, as nothing was there to be removed. Where that must
// not happen, this is the wrong store.
//
// It has no transactions. Where two processes change one key at once, the index
// written last stands: an entry of the other may be lost, one that it removed
// may be seen by Lookup and Head again, and what both amended may have been seen
// with two heads under one revision. The body of what was removed is gone all
// the same: Open fails with store.ErrGone, and drops the rest.
package blobs

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/store"
)

const (
	// defaultMaxValue is Options.MaxValue of a zero Options, in octets.
	defaultMaxValue = 16 << 20
	mostMaxValue    = 256 << 20

	defaultPrefix = "larder-"

	// stripes is how many keys can be changed at once: more than a backend does
	// at once.
	stripes = 256
)

var (
	errOffset = errors.New("store/blobs: negative offset")
	errEnded  = errors.New("store/blobs: the writer was already committed or aborted")
	errClosed = errors.New("store/blobs: read after Close of the reader")
	errStuck  = errors.New("store/blobs: the backend still has what it was told to replace and to delete; restart it empty, or change Options.Prefix")
)

// A Cache keeps values by name. It is the interface of that name in
// github.com/gregjones/httpcache.
//
// Any number of goroutines call it at once. They wait for as long as it takes;
// a panic of its own is passed on. Names are Options.Prefix and at most 97 octets
// more: digits, letters from a to f, and a dot. No value is empty.
type Cache interface {
	// Get returns the value that was set under key. Neither side may change it
	// from then on. ok is false if there is none, or it cannot be had.
	Get(key string) (value []byte, ok bool)

	// Set replaces the value under key. It may keep value as it is, which
	// nobody changes any more, or fail without a word. A backend that shows a
	// value some time after Set returned keeps less than it could: what then
	// seems to be there still is deleted.
	Set(key string, value []byte)

	// Delete removes the value under key, if there is one, or fails without a
	// word.
	Delete(key string)
}

// Options are the limits of a Store, and its name. The zero value will do.
type Options struct {
	// MaxValue is the longest value that the backend is given, in octets: a
	// body, its key and some 50 octets more, or what is kept of the heads under
	// a key. A longer body is refused with store.ErrFull; of heads that are too
	// long together, those of the oldest entries go. Every body being written or
	// read is in memory as a whole. Zero or less means 16 MiB, the most is 256 MiB.
	//
	// Where the backend has a limit of its own, say a little less than that here:
	// memcached has 1 MiB, name included. What it drops without a word is fetched,
	// and given to it, each time.
	MaxValue int64

	// Prefix begins the name of each value. Stores of one backend that differ
	// in it do not see each other. Empty means "larder-".
	Prefix string
}

// A Store keeps responses in a Cache. It is safe for use by any number of
// goroutines, and by several processes as far as the package says. Make one with
// New.
//
// IDs rise with time: under one key always, as long as its index is there, and
// otherwise within a process, and between those whose clocks agree to the
// millisecond. Two processes that commit within the same millisecond give the
// same ID at odds of 1 in 2 million; even then no body is taken for another.
//
// Contexts are heeded before the backend is called, and not during that: it has
// none. All methods fail with the error of a context that has ended, so under
// store.AtOnce nothing is to be had.
type Store struct {
	cache    Cache
	prefix   string
	maxValue int64
	now      func() time.Time

	named atomic.Uint64 // the highest ID given here
	locks [stripes]sync.Mutex

	calls  sync.RWMutex // held for reading by whoever may call the backend
	closed atomic.Bool

	mu      sync.Mutex
	writers map[*writer]struct{} // that have not ended
}

var _ store.Store = (*Store)(nil)

// New returns a Store of what c has under opts.Prefix already, and will have.
// It does not call c, which must not be nil and stays the caller's to close,
// after the Store. More than one Store of a backend and prefix are as good as
// so many processes: one is better.
func New(c Cache, opts Options) *Store {
	s := &Store{
		cache:    c,
		prefix:   opts.Prefix,
		maxValue: min(opts.MaxValue, mostMaxValue),
		now:      time.Now,
		writers:  make(map[*writer]struct{}),
	}
	if s.maxValue <= 0 {
		s.maxValue = defaultMaxValue
	}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	return s
}

// enter begins a call that may use the backend, and that ends with leave unless
// there is an error.
func (s *Store) enter(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.calls.RLock()
	if s.closed.Load() {
		s.calls.RUnlock()
		return store.ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.calls.RUnlock() }

// Lookup implements store.Store.
func (s *Store) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if err := s.enter(ctx); err != nil {
		return into, err
	}
	defer s.leave()
	list, _ := s.read(s.place(key))
	for i := range list {
		into = append(into, list[i].entry())
	}
	return into, nil
}

// Head implements store.Store.
func (s *Store) Head(ctx context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	list, _ := s.read(s.place(key))
	i := find(list, id)
	if i < 0 || list[i].rev != rev {
		return nil, store.ErrGone
	}
	return slices.Clone(list[i].head), nil
}

// Open implements store.Store. It reads the body as a whole and checks it, also
// where less is asked for. A body that is lost or damaged takes its entry along.
//
// The reader is an io.WriterTo that hands out the octets of the backend: whoever
// receives them must not change them. It is for one goroutine at a time; its
// Close may be called more than once.
func (s *Store) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, errOffset
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	p := s.place(key)
	list, _ := s.read(p)
	i := find(list, id)
	if i < 0 {
		return nil, store.ErrGone
	}
	value, _ := s.cache.Get(p.body(&list[i]))
	body, ok := unsealBody(value, p.label, &list[i])
	if !ok {
		s.lose(p, &list[i])
		return nil, store.ErrGone
	}
	body = body[min(off, int64(len(body))):]
	if n >= 0 {
		body = body[:min(n, int64(len(body)))]
	}
	return &reader{rest: body}, nil
}

// Create implements store.Store. The Writer holds the body in memory until it is
// let go of, in room for about twice what was written at the most. ErrFull: the body, or the key
// and the head, are longer than Options.MaxValue allows.
func (s *Store) Create(ctx context.Context, key store.Key, h store.Head, size int64) (store.Writer, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	p := s.place(key)
	if bodyAt(p.label) > s.maxValue-max(size, 0) || !s.holds(p, h) {
		return nil, store.ErrFull
	}
	w := newWriter(s, p, h, size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writers[w] = struct{}{}
	return w, nil
}

// holds tells whether an index can have the head h.
func (s *Store) holds(p *place, h store.Head) bool {
	r := record{head: h.Octets}
	return indexLen(p.label)+r.length() <= s.maxValue
}

// Amend implements store.Store. ErrFull: the new head is longer than
// Options.MaxValue allows; the old one stands.
func (s *Store) Amend(ctx context.Context, key store.Key, id store.ID, h store.Head) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	p := s.place(key)
	if !s.holds(p, h) {
		return store.ErrFull
	}
	return s.amend(p, id, h)
}

// Remove implements store.Store. It fails if the backend goes on showing the
// entry.
func (s *Store) Remove(ctx context.Context, key store.Key, id store.ID) error {
	return s.remove(ctx, key, func(r *record) bool { return r.id == id })
}

// Forget implements store.Store. It fails if the backend goes on showing what
// was there.
func (s *Store) Forget(ctx context.Context, key store.Key) error {
	return s.remove(ctx, key, func(*record) bool { return true })
}

// Close implements store.Store. It waits for calls of the backend that are under
// way, and does not close that. Open readers of committed entries finish
// undisturbed; those of writers that did not end receive what was written and
// then ErrClosed. The writers still have to be ended by their owners.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return store.ErrClosed
	}
	s.calls.Lock()
	defer s.calls.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.writers {
		w.end(store.ErrClosed)
	}
	clear(s.writers)
	return nil
}
