// Package store is the contract of keeping responses. It knows names, sizes
// and bytes, and nothing of HTTP: a head is opaque here, a key is octets.
//
// Package storetest holds every implementation to this contract.
package store

import (
	"context"
	"errors"
	"io"
)

// MaxVariants is how many entries a store keeps under one key. A commit past
// it lets the least recently used entry of that key go.
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
// store. Zero names nothing.
type ID uint64

// An Entry is one kept response, as it was at one moment. Copies are cheap.
type Entry struct {
	ID ID

	// Rev counts the heads this entry has had: Amend raises it by one.
	// (ID, Rev) therefore names one head for ever.
	Rev uint32

	// Head is what Create or Amend was given. It is shared and must not be
	// changed.
	Head []byte

	// Size is the length of the body in octets.
	Size int64
}

// A Store keeps entries under keys. Any method may be called by any number of
// goroutines at once. A store may forget an entry whenever it likes, but never
// returns octets that were not committed under that key.
type Store interface {
	// Lookup returns the entries under key, the one committed last first and
	// at most MaxVariants, without touching bodies. None is not an error. The
	// slice is shared and must not be changed.
	Lookup(ctx context.Context, key Key) ([]Entry, error)

	// Open reads n octets of the body of id from offset off; n < 0 means to
	// the end. Less is there than asked: the reader ends early, with io.EOF.
	// An Open counts as a use of the entry, also with n = 0. The octets stay
	// readable until Close, whatever happens to the entry. The caller closes.
	// ErrGone: forgotten since Lookup.
	Open(ctx context.Context, id ID, off, n int64) (io.ReadCloser, error)

	// Create begins an entry that Lookup cannot see until Writer.Commit. size
	// is the length of the body if it is known, or negative. The store keeps
	// head as it is given: the caller must not change it afterwards. ErrFull:
	// a body of this size is not kept. The caller ends the Writer with Commit
	// or Abort.
	Create(ctx context.Context, key Key, head []byte, size int64) (Writer, error)

	// Amend replaces the head of id, as after a 304, and leaves its body. A
	// Lookup sees the old head or the new one whole. The caller must not
	// change head afterwards. ErrGone: forgotten since Lookup.
	Amend(ctx context.Context, id ID, head []byte) error

	// Remove forgets id, or nothing if it is already gone.
	Remove(ctx context.Context, id ID) error

	// Close lets go of everything. Calls after it fail with ErrClosed.
	io.Closer
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
	// nothing. A name that is already gone is no error.
	Commit(ctx context.Context, replaces ...ID) (Entry, error)

	// Abort ends the writer without an entry. Readers receive what was written
	// and then cause, or io.EOF if cause is nil. After Commit or another Abort
	// it does nothing.
	Abort(cause error)
}
