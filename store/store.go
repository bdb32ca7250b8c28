// Package store is the contract of keeping responses. It knows names, sizes
// and bytes, and nothing of HTTP: a head is opaque here, a key is octets.
//
// Package storetest holds every implementation to this contract.
package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
)

// MaxVariants is how many entries a store keeps under one key. A commit past
// it lets another entry of that key go.
const MaxVariants = 64

var (
	// ErrGone says that an entry was forgotten since it was looked up. The
	// caller fetches anew.
	ErrGone = errors.New("store: entry is gone")

	// ErrFull says that a body is larger than this store keeps, or that there
	// is no room. The caller serves the response without keeping it.
	ErrFull = errors.New("store: no room for this body")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// A Key names the entries of one resource. Keys are compared in full: an equal
// hash is not an equal key. A store copies what it keeps, so the caller may
// reuse the octets when the call returns.
type Key []byte

// An ID names one entry of one store. It is never given twice in the life of a
// store, restarts included, and rises: of two entries, the one committed later
// has the greater ID. Zero names nothing.
type ID uint64

// A Head is what is kept with a body.
type Head struct {
	// Octets are opaque to the store. It copies them.
	Octets []byte

	// Until is when the entry becomes worth less than any other: the Unix time
	// in seconds from which it cannot be used without asking its origin. When
	// room is short, such entries leave first; until then they stay. Zero:
	// never.
	Until int64
}

// An Entry is one kept response, as it was at one moment.
type Entry struct {
	ID ID

	// Rev counts the heads this entry has had: Amend raises it by one.
	// (ID, Rev) therefore names one head for ever.
	Rev uint32

	// Size is the length of the body in octets.
	Size int64
}

// A Store keeps entries under keys. Any method may be called by any number of
// goroutines at once. A store may forget an entry whenever it likes, but never
// returns octets that were not committed under that key.
//
// An entry is always asked for by key and ID together: a key that the ID was
// not given for is answered as if the entry were gone.
//
// Under a context that has ended, such as AtOnce, a method may fail with its error.
// Lookup and Head give what can be had without waiting for a disk or another
// process, all of it or that error, and never wait.
type Store interface {
	// Lookup appends the entries under key to into, the one committed last
	// first and at most MaxVariants, without touching heads and bodies. None
	// is not an error. The result belongs to the caller.
	Lookup(ctx context.Context, key Key, into []Entry) ([]Entry, error)

	// Head returns the octets of the head that (id, rev) names. The result is
	// the caller's own copy. ErrGone: the entry was forgotten since Lookup, or
	// has another head.
	Head(ctx context.Context, key Key, id ID, rev uint32) ([]byte, error)

	// Open reads n octets of the body of id from offset off; n < 0 means to
	// the end. Less is there than asked: the reader ends early, with io.EOF.
	// An Open counts as a use of the entry, also with n = 0. The octets stay
	// readable until Close, whatever happens to the entry. The caller closes.
	// ErrGone: forgotten since Lookup.
	Open(ctx context.Context, key Key, id ID, off, n int64) (io.ReadCloser, error)

	// Create begins an entry that Lookup cannot see until Writer.Commit. size
	// is the length of the body if it is known, or negative. ErrFull: a body
	// of this size is not kept. The caller ends the Writer with Commit or
	// Abort.
	Create(ctx context.Context, key Key, head Head, size int64) (Writer, error)

	// Amend replaces the head of id, as after a 304, and leaves its body: from
	// then on there is the new head alone. ErrGone: forgotten since Lookup.
	Amend(ctx context.Context, key Key, id ID, head Head) error

	// Remove forgets id, or nothing if it is already gone. It does not come
	// back, restarts included.
	Remove(ctx context.Context, key Key, id ID) error

	// Forget removes all that was committed under key before the call, also
	// what Lookup does not show yet because the store has not read it since a
	// restart.
	Forget(ctx context.Context, key Key) error

	// Close lets go of everything that does not outlast the process. Calls
	// after it fail with ErrClosed.
	io.Closer
}

// A Walker is a Store that can show what it keeps.
type Walker interface {
	// Walk shows every entry that is kept during the whole call at least once,
	// wherever it moves meanwhile: between tiers, on disk, within memory. One that
	// comes, goes or is replaced meanwhile may be shown or not; one that is amended
	// meanwhile is shown with at least one of its heads. The order means nothing.
	//
	// key and head are valid until visit returns, and not to be changed. visit may
	// call any method of the Store, may take its time, and ends the walk by
	// returning false. To be shown is no use of an entry.
	//
	// Walk waits until the Store has read what it had before a restart. It fails
	// with the error of ctx, with ErrClosed, or with that of what could not be
	// read: then not all was shown.
	Walk(ctx context.Context, visit func(key Key, e Entry, head []byte) bool) error
}

// AtOnce is the context of those who cannot wait: it has ended.
var AtOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// PromptLen is the longest body that Prompt.Prepare brings, in octets.
const PromptLen = 64 << 10

// A Prompt store has octets that it can give without waiting for anything. Its
// methods never wait for a disk or another process, and may be called by any
// number of goroutines at once.
type Prompt interface {
	// AppendNow appends n octets from off of the body that (id, rev) names to
	// dst, as Open does and with the same use of the entry: none with n = 0. It
	// reports false, and returns dst as it was, if the entry is gone, has another
	// head, is not at hand, or has not so many octets.
	AppendNow(dst []byte, key Key, id ID, rev uint32, off, n int64) ([]byte, bool)

	// OpenNow is Open for what AppendNow could append.
	OpenNow(key Key, id ID, rev uint32, off, n int64) (Pinned, bool)

	// Prepare has it read in the background what is kept under key, but for bodies
	// longer than PromptLen or of one of many entries, and then calls done: it may be
	// at hand now, for a moment. It reports false, and calls nobody, if there is
	// nothing to be read.
	Prepare(key Key, done func()) bool
}

// Unprepared is a Prompt that has nothing at hand.
type Unprepared struct{}

// AppendNow implements Prompt.
func (Unprepared) AppendNow(dst []byte, _ Key, _ ID, _ uint32, _, _ int64) ([]byte, bool) {
	return dst, false
}

// OpenNow implements Prompt.
func (Unprepared) OpenNow(Key, ID, uint32, int64, int64) (Pinned, bool) { return nil, false }

// Prepare implements Prompt.
func (Unprepared) Prepare(Key, func()) bool { return false }

// Pinned are octets that stay as they are until Close. They are one goroutine's.
type Pinned interface {
	// Next returns octets that follow, at least one, without moving on. They are
	// not to be changed, nor kept after Close. io.EOF: there are none.
	Next() ([]byte, error)

	// Advance moves on by n octets, which Next or File has told of.
	Advance(n int)

	// File says where the octets that Next would return are in a file: n octets
	// from off, until Close. f is nil if they are in none. Its position is
	// nobody's: use calls that are given an offset. What a socket was told to
	// send of f before Close is sent as it was then.
	File() (f *os.File, off, n int64)

	// Close may be called more than once.
	Close() error
}

// A Writer is an entry in the making. One goroutine writes and ends it; any
// number may read it meanwhile.
type Writer interface {
	// Write appends to the body and keeps a copy of p. ErrFull: the body has
	// grown past what the store keeps. What was written before stays readable,
	// nothing of p was taken, and all that is left to do is Abort.
	Write(p []byte) (int, error)

	// Open reads the body from offset off while it is written: at the end of
	// what is there, a Read waits for more. It ends with io.EOF once the entry
	// is committed, with the cause once it is aborted, and with the context's
	// error when ctx ends. The octets stay readable until Close, also after
	// the entry is committed, replaced or removed. The caller closes.
	Open(ctx context.Context, off int64) (io.ReadCloser, error)

	// Commit makes the entry visible to Lookup and forgets the entries of the
	// same key named by replaces, in one step: a Lookup sees all of it or
	// nothing. A name that is already gone is no error. Where it fails, the
	// readers have not noticed, and all that is left to do is Abort. ErrFull:
	// there is no room after all.
	Commit(ctx context.Context, replaces ...ID) (Entry, error)

	// Abort ends the writer without an entry. Readers receive what was written
	// and then cause, or io.EOF if cause is nil. After Commit or another Abort
	// it does nothing.
	Abort(cause error)
}

// Octets are a body in memory.
type Octets []byte

// ReadAt implements io.ReaderAt.
func (o Octets) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(o).ReadAt(p, off) }

// An Object is a whole entry on its way from one tier to another, name and
// all. It is valid during the call it is given to and no longer.
type Object struct {
	Key  Key
	ID   ID
	Rev  uint32
	Head Head

	// Size is the length of Body in octets. A Body that is Octets is read where it
	// lies.
	Size int64
	Body io.ReaderAt

	// Mark is opaque to the store that keeps the Object, and given back with
	// it. Zero marks nothing.
	Mark uint64
}
