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

	"github.com/larderhq/larder/internal/vfs"
)

// Names of the files of a disk.
const (
	lockName     = "lock"
	superName    = "larder.disk"
	spareName    = "larder.disk.spare" // a second superblock, written before the first
	segmentsName = "segments"
	tableName    = "table"
	indexPrefix  = "index." // and a number that rises
	newSuffix    = ".new"   // of a file that is being written
)

const format = 1

// A superblock says what a disk is. It is text, so that an operator can look at
// it: one line of JSON, and one of its sum.
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
}

var (
	errNotSuper = errors.New("is damaged: it is not what a disk store has written")
	errFormat   = errors.New("was written by another version of larder; use that version, or empty the folder to lose what is cached in it")
)

func (s *superblock) encode() []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it has nothing that JSON cannot say
	}
	return fmt.Appendf(text, "\n%08x\n", sumOf(text))
}

// parseSuper reads what encode wrote.
func parseSuper(b []byte) (*superblock, error) {
	text, sum, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(sum) != fmt.Sprintf("%08x\n", sumOf(text)) {
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

// readSuper returns the superblock of a disk, or nil if it has none. A damaged
// one is an error that wraps errNotSuper.
func readSuper(fsys vfs.FS) (*superblock, error) {
	first, err := readSuperFile(fsys, superName)
	if first != nil || errors.Is(err, errFormat) {
		return first, err
	}
	if second, _ := readSuperFile(fsys, spareName); second != nil {
		return second, nil
	}
	return nil, err
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

// writeSuper makes s durable. The spare goes first: it is never older.
func writeSuper(fsys vfs.FS, s *superblock) error {
	for _, name := range []string{spareName, superName} {
		if err := writeFile(fsys, name, s.encode()); err != nil {
			return err
		}
	}
	return nil
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

// writeFile makes b the durable content of a file, at one stroke.
func writeFile(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.Open(name+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	return commitFile(fsys, f, name, err)
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
