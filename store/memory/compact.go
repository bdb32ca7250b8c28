package memory

import "math/bits"

// tighten closes the gaps in a sheet.
func (sh *shard) tighten(slot uint32, p *sheet) {
	b := sh.sheets.octets(slot, 0, int64(sh.sheets.size))
	to := uint32(sheetHead)
	for at := to; at < p.used; {
		head := recordHead(b[at:])
		if head&freed != 0 {
			at += head &^ freed
			continue
		}
		e := sh.book.at(head)
		n := uint32(e.record())
		if at != to {
			sh.begin(e.hash)
			copy(b[to:to+n], b[at:at+n])
			e.when = e.when&^wide | uint64(to/recordAlign)
			sh.end(e.hash)
		}
		at += n
		to += n
	}
	if poison {
		spoil(b[to:p.used])
	}
	p.used, p.gaps = to, 0
}

// compact gives memory back that holds little: of records or of entries.
func (sh *shard) compact() bool { return sh.compactSheets() || sh.compactBook() }

// compactBook gives a page of entries back whose entries find room in others,
// if many are free there.
func (sh *shard) compactBook() bool {
	b := &sh.book
	const looks = 8 // entries that somebody reads cannot move
	for page, i := int(b.top/perPage)-1, 0; page >= 0 && i < looks && b.sparse(); page-- {
		if b.free[0][page] == allFree {
			continue
		}
		if sh.emptyPage(uint32(page)) {
			return true
		}
		i++
	}
	return false
}

// emptyPage moves the entries of a page to others below it.
func (sh *shard) emptyPage(page uint32) bool {
	for used := ^sh.book.free[0][page]; used != 0; used &= used - 1 {
		to, ok := sh.book.gap(page)
		if !ok || !sh.renumber(page*perPage+uint32(bits.TrailingZeros64(used)), to) {
			return false
		}
	}
	return true
}

// renumber moves an entry, unless somebody is about to find it or reads it.
func (sh *shard) renumber(from, to uint32) bool {
	e := sh.book.at(from)
	hash := e.hash
	if hash == 0 || e.pinned() {
		return false
	}
	last, slot := sh.before(from, e)
	sh.begin(hash)
	defer sh.end(hash)
	if e.pinned() { // since then; whoever pins it from now on sees that it is late
		return false
	}
	sh.book.take(to)
	f := sh.book.at(to)
	f.id, f.mark, f.when, f.span, f.head, f.page, f.next, f.rev, f.run = e.id, e.mark, e.when, e.span, e.head, e.page, e.next, e.rev, e.run
	if e.shown() {
		f.show()
	}
	setRecordHead(sh.record(f), to)
	f.hash, e.hash = hash, 0
	if last != nil {
		last.next = to + 1
	} else {
		sh.index.set(slot, to)
	}
	sh.policy.Move(from, to)
	sh.giveEntry(from)
	return true
}

// compactSheets gives a sheet back: an empty one, or, where the room in all of
// them has become too much, one whose records find room in others.
func (sh *shard) compactSheets() bool {
	ss := &sh.sheets
	slot, ok := ss.roomiest()
	if !ok {
		return false
	}
	p := ss.at(slot)
	if p.live > 0 && ss.room <= max(2*int64(ss.size), ss.count*int64(ss.size)/16) {
		return false
	}
	ss.unlink(p)
	if !sh.empty(slot, p) {
		ss.link(slot, p)
		return false
	}
	ss.remove(slot, p)
	ss.region.give(slot, int64(ss.size))
	sh.store.release(int64(ss.size))
	return true
}

// empty moves the records of a sheet, which is in no list, to others.
func (sh *shard) empty(slot uint32, p *sheet) bool {
	ss := &sh.sheets
	for at := uint32(sheetHead); p.live > 0; {
		head := recordHead(ss.octets(slot, at, 4))
		if head&freed != 0 {
			at += head &^ freed
			continue
		}
		e := sh.book.at(head)
		n := e.record()
		to, ok := ss.find(n)
		if !ok {
			return false
		}
		place := sh.append(to, n, head)
		from := ss.octets(slot, at, n)
		sh.begin(e.hash)
		copy(ss.octets(to, place, n), from)
		e.page, e.when = to, e.when&^wide|uint64(place/recordAlign)
		sh.end(e.hash)
		ss.erase(slot, at, n)
		at += uint32(n)
	}
	return true
}

// append gives n octets of a sheet that has room for them to entry number.
func (sh *shard) append(slot uint32, n int64, number uint32) (at uint32) {
	p := sh.sheets.at(slot)
	if int64(p.used)+n > int64(sh.sheets.size) {
		sh.tighten(slot, p)
	}
	at = sh.sheets.append(slot, p, n, number)
	sh.sheets.sort(slot, p)
	return at
}

// shrink makes the index smaller where little is left in it, if there is room
// for two at the moment.
func (sh *shard) shrink() {
	if pages, deserted := sh.index.deserted(); deserted && sh.store.charge(pages*pageSize) {
		sh.remake(pages)
	}
}

// remake replaces the table by one whose pages are paid for.
func (sh *shard) remake(pages int64) {
	if old := sh.index.remake(pages); old != 0 {
		sh.index.places.vacate(old.place(), old.pages()*pageSize)
		sh.store.release(old.pages() * pageSize)
	}
}
