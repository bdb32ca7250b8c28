package disk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// How much of a record is read at first, in octets: all of it if startLen is
// enough for that; otherwise peekLen, which has the header and most keys and heads.
const (
	startLen = 8 << 10
	peekLen  = 2 << 10
)

// A record is an object as it was found on disk.
type record struct {
	header
	ref   index.Ref
	start []byte // its first octets
	room  *room  // what they are in; nil: nothing to give back
}

// let gives the room of r back. Who does not call it leaves that to the collector.
func (r *record) let() {
	r.room.give()
	r.start, r.room = nil, nil
}

// A verdict says what lies where the index led.
type verdict int

const (
	mine    verdict = iota
	foreign         // another key of the same hash
	stale           // the segment was reused meanwhile: look again
	gone            // a piece of the body was reclaimed
	damaged
	unread // the disk did not give it
)

// find returns the records under key, and the addresses of all that the index
// knows under its hash. What cannot be used any more leaves the index. An error
// is that of ctx, or says that the disk is out.
func (v *volume) find(ctx context.Context, hash uint64, key store.Key) (all []record, seen []uint64, err error) {
	var room [8]index.Ref
	recovering := v.recovering() // before the index is asked
	for range 8 {
		again := false
		all, seen = all[:0], seen[:0]
		refs := v.refs(hash, room[:0])
		for _, ref := range refs {
			if recovering && !v.settled(ref.Addr) {
				// What comes later in the log may say that it is gone.
				seen = append(seen, ref.Addr)
				continue
			}
			seq := v.seqAt(ref.Addr)
			r, said, err := v.peek(ctx, ref, hash, key, 0)
			if err != nil && said != unread {
				return nil, nil, err
			}
			switch said {
			case mine:
				all = append(all, r)
				seen = append(seen, ref.Addr)
			case foreign:
				seen = append(seen, ref.Addr)
			case stale:
				again = true
			default:
				again = !v.drop(hash, ref.Addr, seq, said) || again
			}
		}
		if !again {
			break
		}
	}
	all = slices.DeleteFunc(all, func(r record) bool { return !v.counts(v, key, r.id) })
	return all, seen, nil
}

// fresh says whether the record at addr is of this run.
func (v *volume) fresh(addr uint64) bool {
	if c := v.resumed; c != nil && c.place >= 0 {
		if off := int64(addr)*unit - v.offset(c.place); off >= 0 && off < v.segment {
			return off >= c.end
		}
	}
	return v.seqAt(addr) >= v.first
}

// settled says whether all that comes after the record at addr has been seen.
func (v *volume) settled(addr uint64) bool { return v.fresh(addr) || v.seqAt(addr) >= v.shown.Load() }

// refs is index.Find at a moment when no change of this key is half done.
func (v *volume) refs(hash uint64, into []index.Ref) []index.Ref {
	into = v.index.Find(hash, into)
	if len(into) == 0 {
		return into
	}
	defer v.lock(hash).Unlock()
	return v.index.Find(hash, into[:0])
}

// peek reads the start of the record at ref, with as much of the body as is wanted
// if key and head are not long. The record is mine, or none.
func (v *volume) peek(ctx context.Context, ref index.Ref, hash uint64, key store.Key, want int64) (record, verdict, error) {
	seq := v.seqAt(ref.Addr)
	if seq == 0 {
		return record{}, stale, nil
	}
	n := index.ClassSize(ref.Class)
	if n > startLen {
		n = min(n, peekLen+want)
	}
	r, said, err := v.startOf(ctx, ref, n)
	if err != nil {
		return record{}, said, err
	}
	said, err = v.examine(ctx, &r, seq, hash, key)
	if err == nil && said != mine {
		r.let()
	}
	return r, said, err
}

// startOf reads the first n octets of what lies at ref, or all there can be of it.
func (v *volume) startOf(ctx context.Context, ref index.Ref, n int64) (record, verdict, error) {
	n = min(n, v.limitAt(ref.Addr))
	r := record{ref: ref, room: takeRoom(n)}
	r.start = r.room.octets[:n]
	said, err := v.readRecord(ctx, r.start, int64(ref.Addr)*unit)
	if err != nil {
		return record{}, said, err // and somebody may go on writing to the room
	}
	return r, mine, nil
}

// examine parses the start of r, which should be in the segment seq and of key.
func (v *volume) examine(ctx context.Context, r *record, seq, hash uint64, key store.Key) (verdict, error) {
	if said := v.parse(r, seq, hash); said != mine {
		return said, nil
	}
	if int(r.keyLen) != len(key) {
		return foreign, nil
	}
	got, said, err := v.partOf(ctx, r, headerLen, int64(r.keyLen))
	if err == nil && !bytes.Equal(got, key) {
		said = foreign
	}
	return said, err
}

// parse is examine for whatever key has this hash.
func (v *volume) parse(r *record, seq, hash uint64) verdict {
	addr := r.ref.Addr
	h, ok := parseHeader(r.start, v.key, v.limitAt(addr))
	if !ok || h.kind != kindObject || h.addr != addr || h.seq != seq || h.hash != hash {
		if v.seqAt(addr) != seq {
			return stale
		}
		return damaged
	}
	r.header = h
	if h.bodySeq != 0 && v.seqAt(h.bodyAddr) != h.bodySeq {
		return gone
	}
	return mine
}

// partOf returns n octets that lie from octets into r.
func (v *volume) partOf(ctx context.Context, r *record, from, n int64) ([]byte, verdict, error) {
	if from+n <= int64(len(r.start)) {
		return r.start[from : from+n], mine, nil
	}
	b := make([]byte, n)
	said, err := v.readRecord(ctx, b, r.at(from))
	return b, said, err
}

// readRecord is readAt, with the verdict on a record that cannot be read.
func (v *volume) readRecord(ctx context.Context, p []byte, off int64) (verdict, error) {
	err := v.readAt(ctx, p, off)
	if errors.Is(err, errRead) {
		return unread, err
	}
	return stale, err
}

// drop takes the record at addr, which lay in the segment seq, out of the index:
// for said. It reports false if it has moved since.
func (v *volume) drop(hash, addr, seq uint64, said verdict) bool {
	defer v.lock(hash).Unlock()
	if v.seqAt(addr) != seq || !v.index.Remove(hash, addr) {
		return false
	}
	switch said {
	case gone:
	case unread:
		// It may be readable another time, after it was removed.
		v.bury([]kill{{hash: hash, addr: addr}})
		fallthrough
	default:
		v.tally.damaged.Add(1)
	}
	return true
}

// bury appends a tombstone. The caller holds the stripe of all it names.
func (v *volume) bury(kills []kill) (uint64, error) {
	d := newDraft(header{kind: kindTombstone}, nil, nil, kills, nil, nil)
	ticket, err := v.append(d, kills, 0)
	if err == nil && v.recovering() {
		v.late.add(kills)
	}
	return ticket, err
}

// lookup appends the entries under key to into, the one committed last first.
func (v *volume) lookup(ctx context.Context, hash uint64, key store.Key, into []store.Entry) ([]store.Entry, error) {
	all, _, err := v.find(ctx, hash, key)
	if err != nil {
		return into, err
	}
	had := len(into)
	for _, r := range newest(all) {
		if r.ref.Flags&v.lent == 0 && len(into)-had < store.MaxVariants {
			into = append(into, store.Entry{ID: r.id, Rev: r.rev, Size: r.size})
			v.hint(&r)
			v.keep(&r)
		}
	}
	return into, nil
}

// newest sorts by ID, the greatest first, and leaves of each ID the record of the
// last revision: an entry that was lent, changed in memory and came back has an
// older record too.
func newest(all []record) []record {
	slices.SortFunc(all, func(a, b record) int {
		return cmp.Or(cmp.Compare(b.id, a.id), cmp.Compare(b.rev, a.rev), cmp.Compare(b.seq, a.seq), cmp.Compare(b.addr, a.addr))
	})
	return slices.CompactFunc(all, func(a, b record) bool { return a.id == b.id })
}

// entry returns the record of id.
func (v *volume) entry(ctx context.Context, hash uint64, key store.Key, id store.ID) (record, error) {
	all, _, err := v.find(ctx, hash, key)
	if err != nil {
		return record{}, err
	}
	for _, r := range newest(all) {
		if r.id == id {
			v.hint(&r)
			return r, nil
		}
	}
	return record{}, store.ErrGone
}

// elsewhere returns the record of id again if it has moved from where r says, as
// what is used does when its segment is reclaimed. ErrGone: it has not.
func (v *volume) elsewhere(ctx context.Context, r *record, key store.Key) (record, error) {
	now, err := v.entry(ctx, r.hash, key, r.id)
	if err == nil && now.addr == r.addr && now.seq == r.seq {
		err = store.ErrGone
	}
	return now, err
}

// Hints say where the records of entries lie that were found lately, so that who
// asks for one of many variants, after a lookup, does not read them all again.
// One is an address, and above it a part of the hash of the entry.
const hintCount = 4096

func hintOf(hash uint64, id store.ID) (at, tag uint64) {
	h := (hash ^ uint64(id)) * 0x9e3779b97f4a7c15
	return h % hintCount, h &^ index.MaxAddr
}

func (v *volume) hint(r *record) {
	at, tag := hintOf(r.hash, r.id)
	v.hints[at].Store(tag | r.addr)
}

// keepCount is how many records are kept from one call to the next: who looks up
// a key goes on to ask for a head and to open a body, soon or not at all. Each has
// a room of startLen, or where that was prepared one for a block.
const keepCount = 128

// keep keeps r with what was read of it, for who asks for it next, and takes the
// octets from r. What is kept belongs to whoever swaps it out.
func (v *volume) keep(r *record) {
	if r.room == nil {
		return
	}
	at, _ := hintOf(r.hash, r.id)
	slot := &v.kept[at%keepCount]
	kept := *r
	r.start, r.room = nil, nil
	if old := slot.Load(); old != nil && slot.CompareAndSwap(old, nil) { // which is ours then
		if old.id == kept.id && old.addr == kept.addr && old.seq == kept.seq && len(old.start) > len(kept.start) {
			kept, *old = *old, kept // there is more of it already
		}
		old.let()
	}
	if old := slot.Swap(&kept); old != nil {
		old.let()
	}
}

// takeKept returns what was kept of an entry, if it is there yet. It may be gone
// from the disk.
func (v *volume) takeKept(hash uint64, id store.ID) (record, bool) {
	at, _ := hintOf(hash, id)
	slot := &v.kept[at%keepCount]
	kept := slot.Load()
	if kept == nil || kept.hash != hash || kept.id != id || !slot.CompareAndSwap(kept, nil) {
		return record{}, false
	}
	return *kept, true
}

// hinted is entry for those who have seen a revision already, and are content
// with the record that was the newest then. They want so much of its body.
func (v *volume) hinted(ctx context.Context, hash uint64, key store.Key, id store.ID, want int64) (record, error) {
	if v.recovering() {
		return v.entry(ctx, hash, key, id)
	}
	kept, ok := v.takeKept(hash, id)
	addr := kept.addr
	if at, tag := hintOf(hash, id); !ok {
		word := v.hints[at].Load()
		addr, ok = word&index.MaxAddr, word&^index.MaxAddr == tag
	}
	if ok {
		var room [8]index.Ref
		for _, ref := range v.refs(hash, room[:0]) {
			if ref.Addr != addr || ref.Flags&v.lent != 0 {
				continue
			}
			if r, ok := v.recall(ctx, kept, ref, hash, key, want); ok && r.id == id && v.counts(v, key, id) {
				return r, nil
			}
		}
	}
	return v.entry(ctx, hash, key, id)
}

// recall returns the record at ref, from what was kept of it, if anything was.
func (v *volume) recall(ctx context.Context, kept record, ref index.Ref, hash uint64, key store.Key, want int64) (record, bool) {
	if kept.room == nil {
		r, said, err := v.peek(ctx, ref, hash, key, want)
		return r, err == nil && said == mine
	}
	// The index has it, so all that may have changed is the life of its segment.
	kept.ref = ref
	said, err := v.examine(ctx, &kept, v.seqAt(ref.Addr), hash, key)
	return kept, err == nil && said == mine
}

// head returns a copy of the head of r.
func (v *volume) head(ctx context.Context, r *record) ([]byte, error) {
	b, said, err := v.partOf(ctx, r, r.headAt(), int64(r.headLen))
	if err == nil && sumOf(b) == r.headSum {
		return slices.Clone(b), nil
	}
	return nil, v.lose(r, said, err)
}

// lose says that a part of r is not what was written, or could not be read.
func (v *volume) lose(r *record, said verdict, err error) error {
	switch {
	case err != nil && said != unread:
		return err
	case err == nil:
		said = damaged
	}
	v.drop(r.hash, r.addr, r.seq, said)
	return store.ErrGone
}
