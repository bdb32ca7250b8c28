package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/larderhq/larder/internal/vfs"
)

// Names of the files of a disk.
const (
	lockName     = "lock"
	superName    = "larder.disk"
	spareName    = "larder.disk.spare" // the other copy of it
	segmentsName = "segments"
	tableName    = "table"
	indexPrefix  = "index." // and a number that rises
	newSuffix    = ".new"   // of a file that is being written
)

const format = 1

// superLen is the length of a copy of the superblock, in octets. It never changes,
// so that a disk can be opened, and disowned, where there is no room any more.
const superLen = 64 << 10

// A superblock says what a disk is. It is text, so that an operator can look at
// it: one line of JSON, one of its sum, and empty ones. There are two copies,
// which are written in place one after the other: what tears the one leaves the
// other, and of two that are whole the one Written more often counts.
type superblock struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"` // 32 hexadecimal digits; another one is another disk
	Secret   string `json:"secret"`   // likewise; see type secret
	Segment  int64  `json:"segment"`  // octets
	Segments int    `json:"segments"`

	// Epoch counts the openings of the store that this disk took part in. It
	// stands in the upper part of IDs and of segment numbers, so that none is
	// given twice.
	Epoch uint64 `json:"epoch"`

	// Sets are the disks that made up the store, oldest first: see type set.
	Sets []set `json:"sets"`

	// Written counts how often it was written.
	Written uint64 `json:"written"`

	// Void says that the store went on without this disk, which has not heard
	// since of what was removed: it begins anew.
	Void bool `json:"void,omitempty"`

	first string // the copy to write first: the newest is to be left; empty: either
}

// unheard is Written for what is said of a disk whose own superblock could not be
// read: more than it can have there.
const unheard = 1 << 40

var (
	errNotSuper = errors.New("is damaged: it is not what a disk store has written")
	errFormat   = errors.New("was written by another version of larder; use that version, or empty the folder to lose what is cached in it")
)

// encode returns a copy of s. Of very many disks it leaves out the oldest sets:
// what is from before them does not count any more.
func (s *superblock) encode() ([]byte, error) {
	for short := *s; ; short.Sets = short.Sets[1:] {
		text, err := json.Marshal(&short)
		if err != nil {
			panic(err) // it has nothing that JSON cannot say
		}
		b := fmt.Appendf(text, "\n%08x\n", sumOf(text))
		if room := superLen - len(b); room >= 0 {
			return append(b, bytes.Repeat([]byte("\n"), room)...), nil
		}
		if len(short.Sets) < 2 {
			return nil, errors.New("store/disk: too many disks to remember: use fewer and larger ones")
		}
	}
}

// parseSuper reads what encode returned.
func parseSuper(b []byte) (*superblock, error) {
	text, rest, _ := bytes.Cut(b, []byte("\n"))
	if !bytes.HasPrefix(rest, fmt.Appendf(nil, "%08x\n", sumOf(text))) {
		return nil, errNotSuper
	}
	s := &superblock{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, errNotSuper
	}
	switch {
	case s.Format != format:
		return nil, errFormat
	case !isKey(s.Identity), !isKey(s.Secret), s.Segment < minSegment, s.Segment > maxSegment, s.Segment%blockLen != 0,
		s.Segments < minSegments, int64(s.Segments) > maxSize/s.Segment, s.Epoch > maxEpoch:
		return nil, errNotSuper
	}
	for _, set := range s.Sets {
		if !set.sane() {
			return nil, errNotSuper
		}
	}
	return s, nil
}

func isKey(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16
}

// key is the secret in the form that is used.
func (s *superblock) key() secret {
	b, _ := hex.DecodeString(s.Secret) // was checked
	return secret{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// readSuper returns the superblock of a disk, or nil if it has none. If no copy is
// whole, the error wraps errNotSuper, or what the disk said when it could not read
// one.
func readSuper(fsys vfs.FS) (*superblock, error) {
	one, err := readSuperFile(fsys, superName)
	two, err2 := readSuperFile(fsys, spareName)
	switch {
	case errors.Is(err, errFormat):
		return nil, err
	case errors.Is(err2, errFormat):
		return nil, err2
	case one == nil && two == nil:
		if err == nil || errors.Is(err, errNotSuper) && err2 != nil {
			err = err2
		}
		return nil, err
	case two == nil || one != nil && one.Written >= two.Written:
		one.first = spareName
		return one, nil
	}
	two.first = superName
	return two, nil
}

func readSuperFile(fsys vfs.FS, name string) (*superblock, error) {
	b, err := readFile(fsys, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := parseSuper(b)
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return s, nil
}

// writeSuper makes s durable. If it fails, the disk has s or what it had before. A
// Void one is written as soon as one copy is.
func writeSuper(fsys vfs.FS, s *superblock) (err error) {
	s.Written++
	b, err := s.encode()
	if err != nil {
		return err
	}
	names := [...]string{spareName, superName}
	if s.first == superName {
		slices.Reverse(names[:])
	}
	s.first = ""
	failed := 0
	for _, name := range names {
		if werr := overwrite(fsys, name, b); werr != nil {
			s.first = name // it may be torn
			failed++
			if err = errors.Join(err, werr); !s.Void {
				return err
			}
		}
	}
	if failed < len(names) {
		return nil
	}
	return err
}

// overwrite makes b the durable content of a file from its start. Where there was
// as much before, it needs no room.
func overwrite(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.Open(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	had, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && had < int64(len(b)) {
		err = fsys.Sync() // it may be new
	}
	return err
}

// readFile returns what a file of at most limit octets holds.
func readFile(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, limit))
	if len(b) == 0 {
		return b, nil
	}
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// commitFile closes f, written so far with err, and gives it its name.
func commitFile(fsys vfs.FS, f vfs.File, name string, err error) error {
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(name+newSuffix, name)
	}
	if err == nil {
		err = fsys.Sync()
	}
	return err
}
