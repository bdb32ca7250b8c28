package vfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
)

// A CrashMode is what a Crash takes away.
type CrashMode int

const (
	// ProcessDied keeps everything, as kill -9 does. What was not synced
	// stays so: a PowerCut afterwards may still take it.
	ProcessDied CrashMode = iota

	// UnsyncedLost leaves what was synced, and nothing else.
	UnsyncedLost

	// PowerCut lets chance decide on everything that was not synced:
	//
	//   - Each write is there, or lost, or torn: then any of its sectors of
	//     512 octets are there, and one may hold garbage where the write
	//     wanted to change it. What came later may be there without what came
	//     before, also in other files.
	//   - The length of a file is any that it had since it was synced, or
	//     since the last Truncate that is there; each Truncate may be lost.
	//     Where it is there but its octets are not, there are zeros, or what
	//     had been cut off.
	//   - Each creation, renaming and removal is there or lost whole. Those
	//     that have a name in common keep their order: none is there without
	//     those before it.
	PowerCut

	// PowerCutWide is PowerCut on a disk that spoils the whole sector: garbage
	// also takes the octets around the write that were synced before.
	PowerCutWide
)

// sectorLen is what a disk writes at once, in octets.
const sectorLen = 512

// Crash ends m, and returns the FS that is found afterwards, with no file open
// and nothing locked. Calls on m and on Files and locks of m fail with
// fs.ErrClosed from now on. ProcessDied and UnsyncedLost need no chance; it may
// be nil then. The same state, mode and decisions of chance leave the same.
//
// To see more than one outcome of the same moment, crash a Clone.
func (m *Mem) Crash(chance Chance, mode CrashMode) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	switch mode {
	case ProcessDied:
		return m.clone()
	case UnsyncedLost:
		return m.reboot(m.durable, func(f *inode) content { return f.durable.fork() })
	case PowerCut, PowerCutWide:
		return m.reboot(m.namesLeft(chance), func(f *inode) content { return f.left(chance, mode == PowerCutWide) })
	}
	panic(fmt.Sprintf("vfs: no CrashMode %d", mode))
}

// Clone returns a copy that has nothing to do with m any more: the same files,
// synced as far as they are, none open and nothing locked.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clone()
}

func (m *Mem) clone() *Mem {
	twins := map[*inode]*inode{}
	twin := func(f *inode) *inode {
		if twins[f] == nil {
			twins[f] = &inode{live: f.live.fork(), durable: f.durable.fork(), changes: slices.Clip(f.changes), strayed: f.strayed}
		}
		return twins[f]
	}
	c := &Mem{capacity: m.capacity, names: map[string]*inode{}, durable: map[string]*inode{}}
	for name, f := range m.names {
		c.adopt(name, twin(f))
	}
	for name, f := range m.durable {
		c.durable[name] = twin(f)
	}
	for _, r := range m.renames {
		c.renames = append(c.renames, renaming{r.from, r.to, twin(r.file)})
	}
	return c
}

// adopt gives f a name and takes its room.
func (m *Mem) adopt(name string, f *inode) {
	m.names[name] = f
	f.links++
	m.used += f.live.pages() * pageLen
}

// reboot returns an FS that has these names, and of each file what left says.
func (m *Mem) reboot(names map[string]*inode, left func(*inode) content) *Mem {
	next := &Mem{capacity: m.capacity, names: map[string]*inode{}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := &inode{durable: left(names[name])}
		f.live = f.durable.fork()
		next.adopt(name, f)
	}
	next.durable = maps.Clone(next.names)
	return next
}

// A fate is what becomes of one change in a crash.
type fate int

const (
	kept fate = iota
	lost
	torn
)

// fates draws those of n changes. Each on its own would hardly ever leave a
// long list as it was up to some point, so that is drawn as often.
func fates(chance Chance, n int) []fate {
	all := make([]fate, n) // kept
	if n == 0 {
		return all
	}
	switch chance.IntN(3) {
	case 0:
		end := chance.IntN(n + 1)
		for i := end; i < n; i++ {
			all[i] = lost
		}
		if end < n {
			all[end] = torn
		}
	case 1:
		for i := range all {
			all[i] = fate(chance.IntN(3))
		}
	}
	return all
}

// namesLeft draws which names there are.
func (m *Mem) namesLeft(chance Chance) map[string]*inode {
	names, broken := map[string]*inode{}, map[string]bool{}
	maps.Copy(names, m.durable)
	for i, fate := range fates(chance, len(m.renames)) {
		r := m.renames[i]
		if fate != kept || broken[r.from] || broken[r.to] {
			broken[r.from], broken[r.to] = r.from != "", r.to != ""
			continue
		}
		r.apply(names)
	}
	return names
}

// left draws what is there of f.
func (f *inode) left(chance Chance, wide bool) content {
	c := f.durable.fork()
	if len(f.changes) == 0 {
		return c
	}
	likely, sizes := c.size, []int64{c.size} // what the length may be
	for i, fate := range fates(chance, len(f.changes)) {
		change := f.changes[i]
		cut := change.data == nil
		switch {
		case fate == kept && cut:
			sizes = sizes[:0]
			fallthrough
		case fate == kept:
			change.apply(&c)
			likely = change.size
		case fate == torn && !cut:
			change.tear(&c, chance, wide)
			likely = change.size
		}
		sizes = append(sizes, change.size)
	}
	sizes = append(sizes, likely)
	c.resize(sizes[chance.IntN(len(sizes))])
	return c
}

// tear does a part of c to to.
func (c change) tear(to *content, chance Chance, wide bool) {
	end := c.off + int64(len(c.data))
	first := c.off - c.off%sectorLen
	sectors := int((end - first + sectorLen - 1) / sectorLen)
	head, garbled := chance.IntN(sectors+2), chance.IntN(sectors+1)
	for i := range sectors {
		start := first + int64(i)*sectorLen
		from, till := max(start, c.off), min(start+sectorLen, end)
		switch {
		case i == garbled && wide:
			to.write(garbage(chance, start, sectorLen), start, maxLen)
		case i == garbled:
			to.write(garbage(chance, from, till-from), from, maxLen)
		case i < head && head <= sectors, head > sectors && chance.IntN(2) == 0:
			to.write(c.data[from-c.off:till-c.off], from, maxLen)
		}
	}
}

// garbage returns n octets that stand for what a torn sector at off may hold.
func garbage(chance Chance, off, n int64) []byte {
	switch chance.IntN(3) {
	case 0:
		return make([]byte, n)
	case 1:
		return bytes.Repeat([]byte{0xff}, int(n))
	}
	noise := rand.NewPCG(uint64(off), uint64(n)) // different for each place
	p := make([]byte, 0, n+8)
	for int64(len(p)) < n {
		p = binary.LittleEndian.AppendUint64(p, noise.Uint64())
	}
	return p[:n]
}

// Flip turns one bit, 0 to 7, of the octet at off, for readers and for ever,
// as a disk does that forgets. It fails if that octet is not there.
func (m *Mem) Flip(name string, off int64, bit int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.named(name)
	if err == nil && (off < 0 || off >= f.live.size || bit < 0 || bit > 7) {
		err = syscall.EINVAL
	}
	if err != nil {
		return &fs.PathError{Op: "flip", Path: name, Err: err}
	}
	before := f.live.pages()
	f.live.flip(off, bit)
	f.durable.flip(off, bit)
	m.used += (f.live.pages() - before) * pageLen
	return nil
}

func (c *content) flip(off int64, bit int) {
	if off < c.size {
		c.own(off / pageLen).data[off%pageLen] ^= 1 << bit
	}
}
