package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Source is a storage system. Any number of goroutines may use it.
//
// Names are octets between slashes: no slash first or last, no empty segment, and
// neither "." nor ".."; "" is the root. A Source with Traits.Flat may be asked for
// empty segments inside a name too. A Handler asks for no others; a Source never resolves a name
// to something outside its root, whatever is asked.
// Names with a segment that begins with Draft are the Source's own: to others they do
// not exist.
//
// Each method makes one attempt. Errors wrap, where they can be told:
// fs.ErrNotExist for what is not there, fs.ErrPermission for what may not be had,
// ErrUnavailable for what may work when tried again, errors.ErrUnsupported for what is
// there in a form that the Source cannot read, and the context's error when
// that ended. They do not contain credentials.
type Source interface {
	// Open finds the object or folder called name. Whether there is a folder of
	// that name a Flat source cannot tell; for it there is none.
	//
	// want is what the caller will probably ask for next, so that a Source that
	// pays by the round trip needs only one. A Source may ignore it. The context
	// holds until the Object is closed. The caller closes the Object.
	Open(ctx context.Context, name string, want Want) (Object, error)

	// List tells what is in a folder, in any order, at most limit entries: their
	// names have no slash. A folder that does not exist, and one of a Flat source
	// that has nothing in it and was not made as a folder, is fs.ErrNotExist.
	List(ctx context.Context, folder string, limit int) ([]Info, error)

	// Traits are the same at all times.
	Traits() Traits

	// Close lets go of everything. Nothing is called after it; what is open stays
	// usable or fails.
	Close() error
}

// Traits are what a Handler should know about a kind of storage.
type Traits struct {
	// Flat says that names are keys: folders are no things, only beginnings of
	// names that have a slash after them.
	Flat bool

	// Codings says that Put keeps Content-Encoding. Elsewhere coded content would
	// come back as if it were not.
	Codings bool

	// Remote says that asking takes a round trip: the Handler asks for nothing
	// that was not asked of it, is patient, tries again, and bounds how much it asks for at a time.
	Remote bool
}

// Want is what will probably be read of an object. The zero value is nothing.
type Want struct {
	// Off and N are octets: N of them from Off on, to the end if N is negative,
	// none if it is zero. A negative Off counts from the end, and N is negative
	// then. They may lie outside the object.
	Off, N int64

	// Unless is a version that the client has, "" for none. UnlessSince is a time
	// after which nothing changed for the client, zero for none. Only one is set.
	Unless      string
	UnlessSince time.Time
}

// Met tells whether the client has what i tells of, as far as that is certain. It is for
// storage that cannot be asked with a condition.
func (w *Want) Met(i *Info) bool {
	if i.Folder || !i.Certain {
		return false
	}
	return w.Unless != "" && w.Unless == i.Version || !w.UnlessSince.IsZero() && !i.Modified.After(w.UnlessSince)
}

// An Object is one version of something stored, or a folder. One goroutine at a
// time uses it.
type Object interface {
	// Info does not change.
	Info() Info

	// Range returns the n octets from off on, which lie inside the object; n is more
	// than 0. They are of the version that Info tells of: the reader gives exactly
	// n octets and io.EOF, or fails before it has given all of them, with
	// ErrChanged if the object is another one by now. ctx holds until the reader is
	// closed. At most one reader is open at a time, and the caller closes it.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)

	// Close lets go of the object. Its error is of no consequence, for nothing was written.
	Close() error
}

// Info is what a storage system tells of an object or folder.
type Info struct {
	// Name is the last segment. Only List sets it.
	Name string

	// Folder says that it has no octets but contains others. Nothing but Name
	// is set then.
	Folder bool

	// Unchanged says that the object is as Want had it. Version and Modified
	// are set where the storage told, and nothing else.
	Unchanged bool

	// Size is in octets.
	Size int64

	// Modified is when the octets came to be, zero if unknown.
	Modified time.Time

	// Version stands for the octets, and for the fields where the storage has it
	// so: while it is the same they are, if Certain. Otherwise they might have
	// changed within one tick of the storage's clock. It is the entity tag
	// without its quotes. "": there is none. List need not set it.
	Version string
	Certain bool

	// Sequential says that each range is read from the beginning of the object:
	// several ranges are served as the whole, then.
	Sequential bool

	// Fields are what the storage keeps with the octets, by canonical names:
	// Content-Type, Content-Encoding, Content-Language, Content-Disposition,
	// Cache-Control. Others are ignored. Nil: none.
	Fields http.Header
}

// A Writer is a Source that can be written to.
type Writer interface {
	Source

	// Put makes an object of exactly size octets of body, or of all that come if
	// size is negative, and the folders it needs. It is there whole or not at
	// all: if body fails, what was there before stays. body is not read any more
	// once Put has returned, unless ctx ended. fields are those that
	// Info.Fields may have; what the storage cannot keep is dropped. The Info
	// has at least Version, where the storage can tell.
	Put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only If) (Info, error)

	// Delete removes an object; fs.ErrNotExist if there is none. Folders stay:
	// they are fs.ErrPermission.
	Delete(ctx context.Context, name string, only If) error
}

// If is what must hold for a change to be made; otherwise it is ErrConflict. The
// zero value is nothing. A Source looks as close to the change as its storage
// allows; where it cannot exclude that another writer comes between, it says so.
type If struct {
	Absent  bool   // there is no such object
	Version string // there is one, of this version; "" for any or none
}

// A Watcher is a Source that tells of changes that others make.
type Watcher interface {
	Source

	// Watch calls changed for each object or folder that changed, appeared or went,
	// in one goroutine, until ctx ends, and returns nil then. ready is called
	// once no change from then on can be missed. An error says that changes may
	// have been missed; nothing is told any more.
	Watch(ctx context.Context, ready func(), changed func(Change)) error
}

// A Notified is a Source whose storage can be set up to post notifications of changes
// somewhere.
type Notified interface {
	Source

	// Changes reads a notification. What it says of other storage is left out. An
	// error says that it is none.
	Changes(notification []byte) ([]Change, error)
}

// A Change is what a Watcher or a notification tells of.
type Change struct {
	// Name is what changed.
	Name string
	// Under says that all that is below Name may have changed too.
	Under bool
	// Inside says that Name was there before and is there still: what shows
	// that it exists has not changed.
	Inside bool
}

// What goes wrong with storage. Errors wrap these.
var (
	// ErrChanged: the object is not any more the version that was opened.
	ErrChanged = errors.New("the object changed while it was read")
	// ErrConflict: what If says does not hold.
	ErrConflict = errors.New("the object is not as the condition says")
	// ErrUnavailable: the storage does not answer, or asks for patience.
	ErrUnavailable = errors.New("the storage is not available")
	// ErrFull: the storage has no room.
	ErrFull = errors.New("the storage is full")
)

// ByTime makes a version of the size and the time of modification, for storage that
// has nothing better. It is certain once grain passed since then: within one tick of
// the clock that tells modified, and whatever it may lag behind now, an object can
// change and keep both. An unknown time is never certain.
func ByTime(size int64, modified, now time.Time, grain time.Duration) (version string, certain bool) {
	if modified.IsZero() {
		return "", false
	}
	return fmt.Sprintf("%x-%x", size, modified.UnixNano()), now.Sub(modified) >= grain
}

// Draft is what the names of objects begin with that are being written.
const Draft = ".larder-"

// NewDraft returns a name that nothing has, beside name.
func NewDraft(name string) string {
	return name[:strings.LastIndexByte(name, '/')+1] + Draft + rand.Text()
}

// Grain is for ByTime where the clock is that of another machine, and tells seconds.
const Grain = time.Minute

// Reader returns a reader of exactly n octets of r, which fails with ErrChanged if
// the last of them came after the object had changed: the last octets, 4 KiB at
// most, are held back until still returned nil. It closes r. What is missing is
// io.ErrUnexpectedEOF. It is for storage that cannot be asked for a version.
func Reader(r io.ReadCloser, n int64, still func() error) io.ReadCloser {
	return &held{r: r, left: n, still: still}
}

// heldBack is how many octets at most wait for the last look.
const heldBack = 4 << 10

// A held reader gives all but the end; the end after a look at the object.
type held struct {
	r     io.ReadCloser
	left  int64 // octets of r not read yet
	still func() error
	tail  []byte // the end, verified
	err   error
}

func (h *held) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	if len(h.tail) > 0 {
		n := copy(p, h.tail)
		h.tail = h.tail[n:]
		return n, nil
	}
	if h.left > heldBack {
		p = p[:min(int64(len(p)), h.left-heldBack)]
		n, err := h.r.Read(p)
		h.left -= int64(n)
		return n, h.failed(err)
	}
	if h.left == 0 {
		return 0, io.EOF
	}
	tail := make([]byte, h.left)
	n, err := io.ReadFull(h.r, tail)
	h.left -= int64(n)
	if err == nil {
		err = h.still()
	}
	if err != nil {
		return 0, h.failed(err)
	}
	h.tail = tail
	return h.Read(p)
}

// failed remembers an error; an early end is one.
func (h *held) failed(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	h.err = err
	return err
}

func (h *held) Close() error { return h.r.Close() }

// ValidName tells whether a Source may be asked for name: see Source. Control octets
// are in no name, since few protocols can carry them.
func ValidName(name string, flat bool) bool {
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	if name == "" {
		return true
	}
	for s := range strings.SplitSeq(name, "/") {
		if s == "." || s == ".." || s == "" && !flat {
			return false
		}
	}
	return true
}
