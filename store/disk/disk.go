// Package disk keeps responses on one or several disks, and still has them after
// a restart, however the last run ended.
//
// A disk is a folder with one large file, cut in segments. Everything is appended
// to the current segment: entries, pieces of large bodies, and tombstones of what
// was removed. When no segment is free the oldest is reused; what was used since
// it was written is written again first. Nothing is changed in place, so what a
// crash may damage is what was being written, and that is found out by its sums:
// no octet of a body leaves before its block was verified, and a record counts
// only at its place, in the life of the segment it was written in.
//
// Where the records of a key lie is known to an index in memory, of at most 24
// octets an entry; to learn that there are none takes no lock and no disk. The
// index is saved now and then. A restart reads it, and the segments written
// since, while the store is already in use.
//
// Whoever commits does not wait for the disk: what is appended is readable at
// once and written behind. If too much waits to be written, ErrFull says so. Only
// Remove waits, until the tombstone is durable, and a Commit that replaces
// something, until the operating system has the new record.
//
// A disk that fails, or that keeps somebody waiting for longer than the patience
// with it, is taken out: then the entries on it are not there, and their keys go
// to the other disks. It is tried again now and then, and begins empty.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// Defaults of Options.
const (
	defaultSegment    = 64 << 20
	defaultMaxObject  = 100 << 30
	defaultBuffer     = 8 << 20
	defaultPatience   = 2 * time.Second
	defaultCheckpoint = time.Minute
)

// A Disk is a folder of the store's own.
type Disk struct {
	FS vfs.FS

	// Size is the room that the store takes there, in octets: at least four
	// segments. All of it is allocated when the disk is first used.
	Size int64

	// Name is what notes call the disk. Empty: its number, from 0.
	Name string
}

// Options say what a Store is made of. Only Disks has no default.
type Options struct {
	Disks []Disk

	// Segment is the length of a segment in octets, on disks that are used for
	// the first time: a multiple of 64 KiB, at most 1 GiB. Zero: 64 MiB.
	Segment int64

	// MaxObject is the longest body that is kept, in octets. Zero: 100 GiB. It
	// is never more than half of the smallest disk.
	MaxObject int64

	// WriteBudget is how many octets a second Put may write on average to a
	// disk that is full, counted over an hour, before it refuses keys that it
	// has not seen before. Zero: no limit.
	WriteBudget int64

	// Buffer is the most that may wait to be written to one disk, in octets.
	// Zero: 8 MiB.
	Buffer int64

	// LazyRemoves has Remove return when the operating system knows what was
	// removed, without waiting until the disk knows: then it may come back
	// after a power failure, within about a second.
	LazyRemoves bool

	// Patience is how long one operation of a disk may take before the disk is
	// taken out. Zero: 2 s.
	Patience time.Duration

	// CheckpointEvery is how often the index is saved if it has changed. Zero:
	// 1 min.
	CheckpointEvery time.Duration

	// Now is the Unix time in seconds. It refills WriteBudget and nothing else.
	// Nil: the clock of the machine.
	Now func() int64

	// Seed makes identities and keyed hashes predictable, for tests. Zero: they
	// come from the operating system.
	Seed uint64

	// Notes is told in one line each what an operator must know: a disk was
	// taken out, or something on it is damaged. It may be called by any
	// goroutine and must not call the Store. Nil: nobody is told.
	Notes func(line string)
}

func (o *Options) fill() {
	if o.Segment == 0 {
		o.Segment = defaultSegment
	}
	if o.MaxObject <= 0 {
		o.MaxObject = defaultMaxObject
	}
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = defaultCheckpoint
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().Unix() }
	}
}

// check says what is wrong with o, and what to do.
func (o *Options) check() error {
	if len(o.Disks) == 0 {
		return errors.New("store/disk: no disks: give at least one")
	}
	if o.Segment < minSegment || o.Segment > maxSegment || o.Segment%blockLen != 0 {
		return fmt.Errorf("store/disk: a segment of %d octets: give a multiple of 64 KiB, up to 1 GiB", o.Segment)
	}
	for i, d := range o.Disks {
		if d.Size < minSegments*o.Segment || d.Size > maxSize {
			return fmt.Errorf("store/disk: disk %s has %d octets: give it at least %d segments of %d octets, and at most 512 TiB",
				d.name(i), d.Size, minSegments, o.Segment)
		}
	}
	return nil
}

func (d *Disk) name(i int) string {
	if d.Name != "" {
		return d.Name
	}
	return fmt.Sprint(i)
}

// A Store keeps responses on disks. It is safe for use by any number of
// goroutines. Make one with Open.
type Store struct {
	opts      Options
	disks     []*slot
	maxObject int64
	ids       atomic.Uint64
	closed    atomic.Bool
	ready     chan struct{}
	life      context.Context // ends with Close
	die       context.CancelFunc
	tending   sync.WaitGroup

	sets     atomic.Pointer[sets]
	grouping sync.Mutex // held while sets change

	mu      sync.Mutex
	writers map[*writer]struct{}
}

// A slot is where a disk is, or was.
type slot struct {
	Disk
	lock   io.Closer // nil: not locked yet
	volume atomic.Pointer[volume]

	// While it is being opened: what it says of itself, whether it was in use
	// before, and why the store goes on without it, or nil.
	super  *superblock
	used   bool
	broken error
}

var _ store.Store = (*Store)(nil)

// Open returns the store on these disks as the last run left it, or an empty one.
// It reads little: entries of earlier runs become visible while the store is
// already in use, see Ready. The caller closes.
//
// A disk that is used for the first time has to work. One that was in use before
// and fails twice in a row while it is opened is noted and goes out, as if it had
// failed later: the Store works without it, also if there is no other. An error in
// any case is a disk that somebody else uses, that may not be written, that was
// written by another version, or that cannot have the size given. One whose
// description of itself was destroyed is begun anew, and noted.
func Open(opts Options) (*Store, error) {
	opts.fill()
	if err := opts.check(); err != nil {
		return nil, err
	}
	s := &Store{opts: opts, maxObject: opts.MaxObject, ready: make(chan struct{}), writers: map[*writer]struct{}{}}
	s.life, s.die = context.WithCancel(context.Background())
	if err := s.openDisks(); err != nil {
		for _, d := range s.disks {
			err = errors.Join(err, d.abandon())
		}
		s.die()
		return nil, err
	}
	for _, d := range s.disks {
		s.maxObject = min(s.maxObject, d.Size/2)
		if v := d.volume.Load(); !v.isOut() {
			v.start()
		}
	}
	go s.awaitReady(s.initial())
	for _, d := range s.disks {
		s.tending.Go(func() { s.tend(d) })
	}
	return s, nil
}

func (s *Store) openDisks() error {
	var lead *superblock // of those that know most
	for i, d := range s.opts.Disks {
		d.Name = d.name(i)
		at := &slot{Disk: d}
		s.disks = append(s.disks, at)
		if err := at.inspect(&s.opts); err != nil {
			return fmt.Errorf("store/disk: disk %s: %w", d.Name, err)
		}
		if at.super != nil && (lead == nil || behind(lead, at.super)) {
			lead = at.super
		}
	}
	epoch, all := uint64(1), []set(nil)
	if lead != nil {
		epoch, all = lead.Epoch+1, lead.Sets
	}
	if epoch > maxEpoch {
		return fmt.Errorf("store/disk: the disks were opened %d times, and can name no more entries: empty their folders", epoch)
	}
	s.ids.Store(epoch << epochShift)
	var now, whole []member
	for i, d := range s.disks {
		d.anew(&s.opts, uint64(i), lead)
		m := member{d.super.Identity, d.super.Secret, d.Size}
		if now = append(now, m); d.broken == nil {
			whole = append(whole, m)
		}
	}
	if len(whole) > 0 { // a set has to have some
		now = whole
	}
	known := newSets(extend(all, uint64(s.NextID()), now))
	s.sets.Store(known)
	for _, d := range s.disks {
		if err := s.openVolume(d, epoch, known.all); err != nil {
			return fmt.Errorf("store/disk: disk %s: %w", d.Name, err)
		}
	}
	close(known.known)
	return nil
}

// openVolume opens the volume of d, or one that is out if d fails.
func (s *Store) openVolume(d *slot, epoch uint64, all []set) error {
	if d.broken == nil {
		err := twice(func() error {
			super := *d.super
			super.Sets = all
			v := newVolume(s, d.Disk, &super)
			if err := v.open(epoch); err != nil {
				v.abandon()
				return err
			}
			d.volume.Store(v)
			return nil
		})
		if err == nil || refuses(err) || !d.used {
			return err
		}
		d.broken = err
	}
	super := *d.super
	super.Epoch, super.Sets = epoch, all
	v := newVolume(s, d.Disk, &super)
	v.hold()
	d.volume.Store(v)
	v.begun = d.lock != nil
	v.fail(fmt.Errorf("opening: %w", d.broken))
	if !v.begun {
		v.note("not in use: opening: %v", d.broken)
	}
	return nil
}

// twice does once more what has failed: a disk may have been short of something,
// or have had a bad moment.
func twice(do func() error) error {
	if do() == nil {
		return nil
	}
	return do()
}

// refuses says whether err, of a disk, is something for the operator to put right
// before anything begins.
func refuses(err error) bool {
	for _, is := range []error{vfs.ErrLocked, fs.ErrPermission, errFormat, errRoom} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// anew makes d another disk if it is new, or if the store was used without it: what
// is on it may have been replaced or removed meanwhile.
func (d *slot) anew(opts *Options, number uint64, lead *superblock) {
	old := d.super
	if old != nil && !old.Void && !behind(old, lead) {
		return
	}
	if old != nil {
		why := "it was not in use when others were"
		if old.Void {
			why = "it had been taken out of use"
		}
		opts.note(d.Name, "%s; it begins anew", why)
	}
	if lead != nil {
		number += lead.Epoch << 8
	}
	d.super = newSuper(opts, d.Size, number)
	if d.broken != nil {
		d.super.Written = unheard
	}
}

// note says something about the disk of that name, if anybody listens.
func (o *Options) note(name, format string, args ...any) {
	if o.Notes != nil {
		o.Notes(fmt.Sprintf("disk %s: ", name) + fmt.Sprintf(format, args...))
	}
}

// inspect finds out what the disk is. An error says that the store must not be
// opened.
func (d *slot) inspect(opts *Options) error {
	err := twice(d.look)
	if errors.Is(err, errNotSuper) {
		opts.note(d.Name, "%v; it begins anew, and what was cached there is lost", err)
		d.used = true
		return nil
	}
	d.used = d.super != nil || err != nil && d.known()
	if err == nil || refuses(err) || !d.used {
		return err
	}
	d.broken = err
	return nil
}

// look locks the disk and reads what it is: nothing yet if super is nil then.
func (d *slot) look() (err error) {
	if d.lock == nil {
		lock, err := d.FS.Lock(lockName)
		if err != nil {
			return err
		}
		d.lock = lock
	}
	d.super, err = readSuper(d.FS)
	return err
}

// known says whether a disk that could not be read was in use before, as far as
// that can be told.
func (d *slot) known() bool {
	names, err := d.FS.List()
	return err != nil || slices.Contains(names, superName) || slices.Contains(names, spareName)
}

// abandon lets go of a disk that is not used after all.
func (d *slot) abandon() error {
	if v := d.volume.Load(); v != nil {
		v.abandon()
	}
	return d.unlock()
}

// unlock gives the disk free, once nothing is written to it any more. One that
// hangs is not waited for: it is free when it answers, or when the process ends.
func (d *slot) unlock() error {
	v := d.volume.Load()
	if d.lock == nil {
		return nil
	}
	if v == nil || !v.isOut() {
		return d.lock.Close()
	}
	stop, late := v.expiry()
	defer stop()
	select {
	case <-v.disowned:
		return d.lock.Close()
	case <-late:
		go func() {
			<-v.disowned
			_ = d.lock.Close() // nobody is left to be told
		}()
		return nil
	}
}

// initial returns the volumes of all disks.
func (s *Store) initial() (all []*volume) {
	for _, d := range s.disks {
		all = append(all, d.volume.Load())
	}
	return all
}

// awaitReady closes ready when the index of each disk is complete, or the disk
// is out or closed.
func (s *Store) awaitReady(volumes []*volume) {
	for _, v := range volumes {
		select {
		case <-v.ready:
		case <-v.out:
		case <-v.stop:
		}
	}
	close(s.ready)
}

// Ready returns a channel that is closed when all entries of earlier runs that
// there are can be found, or the store was closed.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// NextID returns an ID that is greater than all given before, by this run and
// those before it. Commit takes its IDs from here; who gives IDs to entries that
// may later be Put takes them from here too.
func (s *Store) NextID() store.ID { return store.ID(s.ids.Add(1)) }

// home returns the disk that has key, and the hash of key there; nil if all are
// out.
func (s *Store) home(key store.Key) (*volume, uint64) {
	if len(s.disks) == 1 {
		v := s.disks[0].volume.Load()
		if v.isOut() {
			return nil, 0
		}
		return v, v.key.sum(key)
	}
	var best *volume
	var bestHash uint64
	var least float64
	for _, d := range s.disks {
		v := d.volume.Load()
		if v.isOut() {
			continue
		}
		hash := v.key.sum(key)
		if r := rank(hash, d.Size); best == nil || r < least {
			best, bestHash, least = v, hash, r
		}
	}
	return best, bestHash
}

// Lookup implements store.Store.
func (s *Store) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	if s.closed.Load() {
		return into, store.ErrClosed
	}
	v, hash := s.home(key)
	if v == nil {
		return into, nil
	}
	into, err := v.lookup(ctx, hash, key, into)
	if errors.Is(err, errOut) {
		err = nil
	}
	return into, err
}

// Head implements store.Store.
func (s *Store) Head(ctx context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	v, hash, err := s.homeOf(key)
	if err != nil {
		return nil, err
	}
	r, err := v.hinted(ctx, hash, key, id, 0)
	if err == nil && r.rev < rev {
		r, err = v.entry(ctx, hash, key, id)
	}
	if err != nil {
		return nil, lost(err)
	}
	if r.rev != rev {
		return nil, store.ErrGone
	}
	head, err := v.head(ctx, &r)
	if errors.Is(err, store.ErrGone) {
		if r, err = v.elsewhere(ctx, &r, key); err == nil && r.rev != rev {
			err = store.ErrGone
		}
		if err == nil {
			head, err = v.head(ctx, &r)
		}
	}
	if err == nil {
		v.keep(&r)
	}
	return head, lost(err)
}

// homeOf is home for those that need an entry.
func (s *Store) homeOf(key store.Key) (*volume, uint64, error) {
	if s.closed.Load() {
		return nil, 0, store.ErrClosed
	}
	v, hash := s.home(key)
	if v == nil {
		return nil, 0, store.ErrGone
	}
	return v, hash, nil
}

// lost is what a caller is told of an entry on a disk that went out.
func lost(err error) error {
	if errors.Is(err, errOut) || errors.Is(err, errRead) {
		return store.ErrGone
	}
	return err
}

// Served is implemented by what Store.Open returns.
type Served interface {
	// Served is how often the entry was opened before, since it was last
	// written to the disk; from 7 on it is not counted further.
	Served() int

	// Size is the length of the whole body in octets.
	Size() int64

	// Whole returns the entry as it is on disk if all of it was read and
	// verified in order to open it: so it is with most that are short, unless
	// nothing of the body was asked for. key is the key it was opened with. The
	// Object is valid until the reader is closed; its Mark is for Lend and
	// Return.
	Whole(key store.Key) (o store.Object, ok bool)
}

// Open implements store.Store. The reader is an io.WriterTo that hands out octets
// which are used again after Close: whoever receives them must neither change nor
// keep them. It implements Served too. It is for one goroutine at a time; its Close
// may be called more than once. What comes first of the body is verified here; a
// later part of a long one may prove damaged while it is read.
func (s *Store) Open(ctx context.Context, key store.Key, id store.ID, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, errOffset
	}
	v, hash, err := s.homeOf(key)
	if err != nil {
		return nil, err
	}
	r, err := v.hinted(ctx, hash, key, id, firstRead(off, n))
	if err != nil {
		return nil, lost(err)
	}
	rd, err := v.openBody(ctx, &r, off, n)
	if errors.Is(err, store.ErrGone) {
		if r, err = v.elsewhere(ctx, &r, key); err == nil {
			rd, err = v.openBody(ctx, &r, off, n)
		}
	}
	if err != nil {
		return nil, lost(err)
	}
	return rd, nil
}

// firstRead is how much of a body is read together with the start of its record by
// those who want n octets from off: all up to there of what may have one block.
func firstRead(off, n int64) int64 {
	if off > blockLen || n > blockLen-off || n <= 0 {
		return 0
	}
	return off + n
}

// Now is what OpenNow returns.
type Now interface {
	store.Pinned
	Served
}

// OpenNow is Open, for the revision rev, where nobody has to wait for the disk: the
// body is of one block, and the system has it in memory.
func (s *Store) OpenNow(key store.Key, id store.ID, rev uint32, off, n int64) (Now, bool) {
	v, hash, err := s.homeOf(key)
	if err != nil || v.recovering() {
		return nil, false
	}
	r, err := v.hinted(store.AtOnce, hash, key, id, firstRead(off, n))
	if err != nil {
		return nil, false
	}
	if r.rev != rev || r.pieces > 0 || r.size > blockLen || off < 0 || n < 0 || off > r.size || n > r.size-off {
		r.let()
		return nil, false
	}
	rd, err := v.openBody(store.AtOnce, &r, off, n)
	return rd, err == nil
}

// preparable is how many entries of a key Prepare reads.
const preparable = 8

// Prepare implements store.Prompt, for keys with at most preparable entries.
func (s *Store) Prepare(key store.Key, done func()) bool {
	v, hash, err := s.homeOf(key)
	if err != nil || v.recovering() || !v.prompt() {
		return false
	}
	refs := slices.DeleteFunc(v.refs(hash, nil), func(r index.Ref) bool { return r.Flags&v.lent != 0 })
	if len(refs) == 0 || len(refs) > preparable {
		return false
	}
	go func() {
		defer done()
		select {
		case v.preparing <- struct{}{}:
			defer func() { <-v.preparing }()
		case <-v.out:
			return
		}
		for _, ref := range refs {
			v.prepare(ref, len(refs) <= 2)
		}
	}()
	return true
}

// prepare reads the start of the record at ref, which may be gone, and a body of
// one block if that is wanted, behind a key and a head that are not long.
func (v *volume) prepare(ref index.Ref, body bool) {
	n := int64(peekLen)
	if all := index.ClassSize(ref.Class); body && all <= blockLen+blockLen/2 { // the class of those with one block
		n = min(all, peekLen+blockLen)
	}
	n = min(n, v.limitAt(ref.Addr))
	r := record{ref: ref, room: takeRoom(n)}
	r.start = r.room.octets[:n]
	if v.pread(context.Background(), r.start, int64(ref.Addr)*unit) != nil {
		return // and somebody may go on writing to the room
	}
	var ok bool
	if r.header, ok = parseHeader(r.start, v.key, v.limitAt(ref.Addr)); ok {
		v.keep(&r) // for who looks at it with more care
	} else {
		r.let()
	}
}

// Create implements store.Store. A body of unknown length, or of more than a
// mebibyte, is written to the disk as it comes, and read there by those who
// follow it.
func (s *Store) Create(_ context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	if size > s.maxObject {
		return nil, store.ErrFull
	}
	v, hash := s.home(key)
	if v == nil {
		return nil, store.ErrFull
	}
	return s.newWriter(v, hash, key, head, size)
}

func (s *Store) newWriter(v *volume, hash uint64, key store.Key, head store.Head, size int64) (*writer, error) {
	if int64(len(key)+len(head.Octets)) > v.segment/4 {
		return nil, store.ErrFull
	}
	head.Octets = append([]byte(nil), head.Octets...)
	w := &writer{s: s, v: v, hash: hash, key: append(store.Key(nil), key...), head: head, declared: size, users: 1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	s.writers[w] = struct{}{}
	v.hold()
	return w, nil
}

func (s *Store) forget(w *writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writers, w)
}

// Amend implements store.Store. ErrFull: there is no room for the new head; the
// old one stands.
func (s *Store) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	v, hash, err := s.homeOf(key)
	if err != nil {
		return err
	}
	return lost(v.amend(ctx, hash, key, id, head))
}

// Remove implements store.Store. It fails if it is not certain that id stays
// away after a restart, for instance because its disk was taken out and cannot be
// told so.
func (s *Store) Remove(ctx context.Context, key store.Key, id store.ID) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	v, hash := s.home(key)
	if v == nil {
		return s.alone()
	}
	if err := v.forget(ctx, key, kill{hash, id, 0}); err != nil {
		return fmt.Errorf("store/disk: entry %d may come back after a restart: %w", id, err)
	}
	return s.told(ctx)
}

// Close implements store.Store. It writes what waits to be written, saves the
// index and unlocks the disks. Open readers go on; writers fail with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed.Swap(true) {
		s.mu.Unlock()
		return store.ErrClosed
	}
	open := s.writers
	s.writers = nil
	s.mu.Unlock()
	s.die()
	s.tending.Wait()
	s.regroup() // of disks that went out at the last moment
	for w := range open {
		w.end(store.ErrClosed)
	}
	var errs []error
	for _, d := range s.disks {
		errs = append(errs, d.volume.Load().close(), d.unlock())
	}
	<-s.ready
	return errors.Join(errs...)
}
