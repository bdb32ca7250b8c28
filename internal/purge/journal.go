package purge

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/internal/vfs"
)

// What a Journal is in, and how long.
const (
	journalName  = "purges"
	journalDraft = "purges.new"

	// maxJournal is how many octets of a journal are read: more was not written by us.
	maxJournal = 1 << 28

	// lineageLen is how long a Lineage is: it stands in every key.
	lineageLen = 10

	// slack is how many lines there may be beside those that are needed.
	slack = 10_000

	// slackOctets is the same for octets, beside twice what there was when all was needed.
	slackOctets = 16 << 20
)

// A Folder is where a Journal is kept.
type Folder struct {
	FS   vfs.FS
	Name string // for notes
}

// A Journal keeps a Ledger in files, the same in each Folder: lines of JSON with their
// sums, the last of which about a job counts. Make one with OpenJournal.
type Journal struct {
	notes   func(string)
	lineage string
	fresh   bool // there was none that could be read
	run     uint64
	jobs    []jobLine // that were found
	undone  []ID

	mu     sync.Mutex
	files  []*journalFile
	lines  uint64    // that were written, in all runs
	tried  time.Time // when a file that had failed was tried again
	closed bool

	syncing sync.Mutex
	synced  atomic.Uint64 // lines
}

type journalFile struct {
	Folder
	file   vfs.File
	size   int64
	base   int64 // what it had when it was begun anew
	lines  int
	failed error
}

// A line is what a Journal consists of: the first has Lineage, and each one Line, its
// number.
type line struct {
	Line    uint64   `json:"line"`
	Run     uint64   `json:"run,omitempty"`
	Lineage string   `json:"lineage,omitempty"`
	Undone  []ID     `json:"undone,omitempty"`
	Job     *jobLine `json:"job,omitempty"`
}

type jobLine struct {
	ID      ID        `json:"id"`
	Order   Order     `json:"order"`
	Created time.Time `json:"created"`
	Seq     uint64    `json:"seq,omitempty"`
	State   State     `json:"state"`
	Walked  bool      `json:"walked,omitempty"`
	Objects int64     `json:"objects,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Undone  bool      `json:"undone,omitempty"`
	Covers  bool      `json:"covers,omitempty"`
}

// OpenJournal reads what is in the folders, of which there is at least one, and begins
// another run. notes is told in one line each what an operator must know. Where there is
// no journal, or a damaged one, it begins a new Lineage: what was kept under another has
// to count as purged, since nobody knows. The error says that none of the folders can
// be written.
func OpenJournal(folders []Folder, notes func(string)) (*Journal, error) {
	j := &Journal{notes: notes}
	for _, f := range folders {
		header, found, err := readJournal(f.FS)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			notes(fmt.Sprintf("disk %s: its journal of purges cannot be read: %v", f.Name, err))
		case j.lineage == "", header.Lineage == j.lineage && header.Line > j.lines:
			j.lineage, j.run, j.lines, j.jobs, j.undone = header.Lineage, header.Run, header.Line, found, header.Undone
		}
		j.files = append(j.files, &journalFile{Folder: f})
	}
	if j.lineage == "" {
		j.fresh = true
		j.lineage = rand.Text()[:lineageLen]
	}
	j.run++
	all := make([]*jobLine, len(j.jobs))
	for i := range j.jobs {
		all[i] = &j.jobs[i]
	}
	if err := j.rewrite(all, j.undone); err != nil {
		return nil, err
	}
	return j, nil
}

// Lineage names what is written here, and what is kept under it: it changes when nobody
// knows any more what was purged.
func (j *Journal) Lineage() string { return j.lineage }

// Fresh tells whether the Lineage is a new one.
func (j *Journal) Fresh() bool { return j.fresh }

// readJournal returns the last header of a journal, with the number of its last line, and
// the jobs as they were written last. A damaged end does not count: it was being written
// when the last run ended, and nobody was told that it was. Damage before that is an error.
func readJournal(folder vfs.FS) (header line, jobs []jobLine, err error) {
	f, err := folder.Open(journalName, os.O_RDONLY)
	if err != nil {
		return header, nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > maxJournal {
		return header, nil, errors.Join(err, fmt.Errorf("it has %d octets", size))
	}
	text := make([]byte, size)
	if n, err := f.ReadAt(text, 0); int64(n) != size {
		return header, nil, err
	}
	at, torn := map[ID]int{}, false
	for rest := range bytes.Lines(text) {
		l, ok := decodeLine(rest)
		switch {
		case !ok:
			torn = true
			continue
		case torn:
			return header, nil, errors.New("it is damaged")
		}
		if l.Lineage != "" {
			header = l
		}
		header.Line = l.Line
		if l.Job == nil {
			continue
		}
		if i, known := at[l.Job.ID]; known {
			jobs[i] = *l.Job
		} else {
			at[l.Job.ID] = len(jobs)
			jobs = append(jobs, *l.Job)
		}
	}
	if header.Lineage == "" {
		return header, nil, errors.New("its beginning is damaged")
	}
	return header, jobs, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumLen is the length of the sum in front of a line, with the blank behind it.
const sumLen = 9

func decodeLine(text []byte) (l line, ok bool) {
	if len(text) <= sumLen || text[len(text)-1] != '\n' {
		return l, false
	}
	sum, err := strconv.ParseUint(string(text[:sumLen-1]), 16, 32)
	body := text[sumLen : len(text)-1]
	return l, err == nil && crc32.Checksum(body, castagnoli) == uint32(sum) && json.Unmarshal(body, &l) == nil
}

func encodeLine(l *line) []byte {
	text := bytes.NewBuffer(make([]byte, sumLen, 512))
	e := json.NewEncoder(text)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		panic(err) // of nothing but strings, numbers and times of this age
	}
	b := text.Bytes()
	copy(b, fmt.Sprintf("%08x ", crc32.Checksum(b[sumLen:len(b)-1], castagnoli)))
	return b
}

// rewrite has the files hold these jobs and nothing else. A file that cannot be written
// must not be believed by a later run, and loses its name. The caller holds mu, or is the only one.
func (j *Journal) rewrite(jobs []*jobLine, undone []ID) error {
	if j.closed {
		return errClosed
	}
	j.lines++
	text := encodeLine(&line{Line: j.lines, Run: j.run, Lineage: j.lineage, Undone: undone})
	for _, job := range jobs {
		j.lines++
		text = append(text, encodeLine(&line{Line: j.lines, Job: job})...)
	}
	var errs []error
	whole := false
	for _, f := range j.files {
		if err := f.replace(text, len(jobs)+1); err != nil {
			errs = append(errs, j.fail(f, err))
			continue
		}
		whole = true
	}
	if whole {
		return nil
	}
	return errors.Join(errs...)
}

// replace puts text in the place of what the file held, at one stroke.
func (f *journalFile) replace(text []byte, lines int) error {
	draft, err := f.FS.Open(journalDraft, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = draft.WriteAt(text, 0)
	if err = errors.Join(err, draft.Sync()); err == nil {
		err = errors.Join(f.FS.Rename(journalDraft, journalName), f.FS.Sync())
	}
	if err != nil {
		return errors.Join(err, draft.Close())
	}
	if f.file != nil {
		_ = f.file.Close() // nobody writes to it any more
	}
	f.file, f.size, f.base, f.lines, f.failed = draft, int64(len(text)), int64(len(text)), lines, nil
	return nil
}

// fail notes that f lacks something, and has no later run believe it.
func (j *Journal) fail(f *journalFile, err error) error {
	if f.failed == nil {
		j.notes(fmt.Sprintf("disk %s: the journal of purges cannot be written: %v; what is kept there will not be found after a restart", f.Name, err))
	}
	// Each time: a replacement that has failed may have got as far as the name.
	_ = errors.Join(f.FS.Remove(journalName), f.FS.Sync()) // the disk is failing: no more can be done
	f.failed = err
	return fmt.Errorf("disk %s: %w", f.Name, err)
}

// append writes jobs at the end of the files, and returns what to wait for until that
// is durable. The jobs are encoded now.
func (j *Journal) append(jobs ...*jobLine) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var text []byte
	for _, job := range jobs {
		j.lines++
		text = append(text, encodeLine(&line{Line: j.lines, Job: job})...)
	}
	for _, f := range j.files {
		if f.failed != nil || f.file == nil {
			continue
		}
		if _, err := f.file.WriteAt(text, f.size); err != nil {
			_ = j.fail(f, err)
			continue
		}
		f.size += int64(len(text))
		f.lines += len(jobs)
	}
	return j.lines
}

// wait returns when all lines up to this one are durable, in one file at least. Who
// waits first does it for all who wait.
func (j *Journal) wait(upTo uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced.Load() >= upTo {
		return nil
	}
	j.mu.Lock()
	upTo = j.lines
	files, closed := append([]*journalFile(nil), j.files...), j.closed
	j.mu.Unlock()
	if closed {
		return errClosed
	}
	var errs []error
	whole := false
	for _, f := range files {
		if err := j.sync(f); err != nil {
			errs = append(errs, err)
			continue
		}
		whole = true
	}
	if !whole {
		return errors.Join(errs...)
	}
	j.synced.Store(upTo)
	return nil
}

// sync makes durable what f has. Others may write to it meanwhile.
func (j *Journal) sync(f *journalFile) error {
	j.mu.Lock()
	file, err := f.file, f.failed
	j.mu.Unlock()
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.fail(f, err)
}

// bloated tells whether most of it is about what is no more.
func (j *Journal) bloated(needed int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range j.files {
		switch {
		case f.failed != nil:
			if time.Since(j.tried) < retry {
				continue // each attempt writes all there is
			}
			j.tried = time.Now()
			return true
		case f.lines > 2*needed+slack, f.size > 2*f.base+slackOctets, f.size > maxJournal/2 && f.size > f.base:
			return true
		}
	}
	return false
}

// Close lets go of the files.
func (j *Journal) Close() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	var errs []error
	for _, f := range j.files {
		if f.file != nil {
			errs = append(errs, f.file.Close())
			f.file = nil
		}
	}
	return errors.Join(errs...)
}

var errClosed = errors.New("the journal of purges is closed")
