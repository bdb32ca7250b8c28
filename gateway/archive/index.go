package archive

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/larderhq/larder/gateway"
)

// Bounds of an index.
const (
	maxEntries = 10_000_000
	maxNames   = 1 << 30 // octets of all names
	maxName    = 4096    // octets of one that is served
)

// A kind is what an entry is.
type kind uint8

const (
	nothing     kind = iota // it hides what has its name
	folderEntry             // its key ends with a NUL
	linkEntry               // a hard link that was not followed yet
	tarFile                 // the octets are at offset
	sparseFile
	zipFile // at offset is a local header
	encryptedFile
)

func (k kind) file() bool { return k >= tarFile }

// An entry has 64 octets and no pointers, which the garbage collector would follow.
type entry struct {
	offset   int64
	limit    int64 // where the next entry begins, at the earliest
	packed   int64 // octets in the archive
	size     int64
	modified int64 // seconds since 1970, zero if unknown
	key      uint32
	length   uint16 // of the key
	method   uint16
	crc      uint32
	seq      uint32 // place in the archive
	kind     kind
}

// A link is a hard link: the entry with seq is the last one before it called target.
type link struct {
	name, target string
	seq          uint32
}

// An index has the entries in the order of their keys. A key is a name with NUL
// instead of slashes: no octet that a name can have comes before it, so that what
// is in a folder follows a file of the folder's name at once.
type index struct {
	most    int    // entries
	names   []byte // all keys
	entries []entry
	links   []link
	seen    int // entries so far
	skipped int
}

// add takes the next entry of the archive in, if it has a name that can be served.
func (x *index) add(name string, e entry) error {
	x.seen++
	if x.seen > x.most {
		return fmt.Errorf("it has more than %d entries, which is more than an index may have", x.most)
	}
	name, folder := clean(name)
	if name == "" && (folder || e.kind == folderEntry) {
		return nil // the root
	}
	if !valid(name) {
		x.skipped++
		return nil
	}
	if e.kind == nothing {
		x.skipped++
	}
	if folder && e.kind != nothing {
		e.kind = folderEntry
	}
	e.seq, e.key = uint32(x.seen), uint32(len(x.names)) // bounded by most, and below
	x.names = append(x.names, key(name)...)
	if e.kind == folderEntry {
		x.names = append(x.names, 0)
	}
	if len(x.names) > maxNames {
		return errors.New("its names are longer than an index may be")
	}
	e.length = uint16(len(x.names) - int(e.key)) // at most maxName and the NUL
	x.entries = append(x.entries, e)
	return nil
}

// addLink takes in a hard link.
func (x *index) addLink(name, target string, modified int64) error {
	before := len(x.entries)
	if err := x.add(name, entry{kind: linkEntry, modified: modified}); err != nil || len(x.entries) == before {
		return err
	}
	e := &x.entries[before]
	target, _ = clean(target)
	x.links = append(x.links, link{string(x.of(e)), key(target), e.seq})
	return nil
}

// clean cuts off what says that a name is in the root, and a slash at the end, which
// says that it is of a folder.
func clean(name string) (_ string, folder bool) {
	name, folder = strings.CutSuffix(name, "/")
	for strings.HasPrefix(name, "./") {
		name = name[2:]
	}
	if name == "." {
		name = ""
	}
	return name, folder
}

// valid tells whether a name can be served: it leads nowhere else, on any system.
func valid(name string) bool {
	if len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	if len(name) >= 2 && name[1] == ':' && 'a' <= name[0]|0x20 && name[0]|0x20 <= 'z' {
		return false
	}
	for s := range strings.SplitSeq(name, "/") {
		if s == "" || s == "." || s == ".." || strings.HasPrefix(s, gateway.Draft) {
			return false
		}
	}
	return true
}

func key(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

func (x *index) of(e *entry) []byte { return x.names[e.key : e.key+uint32(e.length)] }

// finish makes the index ready to be asked.
func (x *index) finish() {
	slices.SortFunc(x.entries, func(a, b entry) int {
		return cmp.Or(bytes.Compare(x.of(&a), x.of(&b)), cmp.Compare(a.seq, b.seq))
	})
	for _, l := range x.links {
		x.follow(l)
	}
	x.links = nil
	x.prune()
}

// follow makes a hard link the file that it is of. A link to a link finds that
// followed, for it comes earlier.
func (x *index) follow(l link) {
	e := &x.entries[x.search([]byte(l.name), l.seq)]
	if i := x.search([]byte(l.target), l.seq) - 1; i >= 0 {
		if to := x.entries[i]; string(x.of(&to)) == l.target && to.kind.file() {
			e.kind, e.offset, e.limit, e.packed, e.size = to.kind, to.offset, to.limit, to.packed, to.size
			return
		}
	}
	e.kind = nothing
	x.skipped++
}

// prune leaves one entry of each name, and nothing below a file.
func (x *index) prune() {
	kept := x.entries[:0]
	var file []byte // the last one, with a NUL
	for i, e := range x.entries {
		k := x.of(&e)
		switch {
		case i+1 < len(x.entries) && bytes.Equal(k, x.of(&x.entries[i+1])):
		case e.kind == nothing:
		case file != nil && bytes.HasPrefix(k, file):
			x.skipped++
		default:
			kept = append(kept, e)
			if e.kind.file() {
				file = append(append(file[:0], k...), 0)
			}
		}
	}
	x.entries = slices.Clip(kept)
}

// search returns where an entry with that key and place is, or would be.
func (x *index) search(key []byte, seq uint32) int {
	return sort.Search(len(x.entries), func(i int) bool {
		e := &x.entries[i]
		return cmp.Or(bytes.Compare(x.of(e), key), cmp.Compare(e.seq, seq)) >= 0
	})
}

// file finds the file called name.
func (x *index) file(name string) (entry, bool) {
	k := key(name)
	i := x.search([]byte(k), 0)
	if i == len(x.entries) || string(x.of(&x.entries[i])) != k {
		return entry{}, false
	}
	return x.entries[i], true
}

// beginning is what the keys of all that is in a folder begin with.
func beginning(folder string) string {
	if folder == "" {
		return ""
	}
	return key(folder) + "\x00"
}

// folder tells whether there is such a folder. The root always is.
func (x *index) folder(name string) bool {
	begin := []byte(beginning(name))
	i := x.search(begin, 0)
	return name == "" || i < len(x.entries) && bytes.HasPrefix(x.of(&x.entries[i]), begin)
}

// in gives the names that are in a folder, each once. Of folders the entry has its
// kind only.
func (x *index) in(folder string) iter.Seq2[string, entry] {
	begin := []byte(beginning(folder))
	return func(yield func(string, entry) bool) {
		for i := x.search(begin, 0); i < len(x.entries); {
			e := x.entries[i]
			rest, ok := bytes.CutPrefix(x.of(&e), begin)
			if !ok {
				return
			}
			name, _, deeper := bytes.Cut(rest, []byte{0})
			i++
			if len(rest) == 0 {
				continue // the folder itself
			}
			if deeper {
				// The next octet after the NUL is after all that is in there.
				i = x.search(slices.Concat(begin, name, []byte{1}), 0)
				e = entry{kind: folderEntry}
			}
			if !yield(string(name), e) {
				return
			}
		}
	}
}
