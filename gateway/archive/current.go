package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/larderhq/larder/gateway"
)

const (
	// settled is how long a file must have been left alone before size and time of
	// modification identify its octets: more than a tick of the coarsest
	// clock of a file system, which is that of FAT.
	settled = 2 * time.Second

	// attempts is how many indexes one call waits for while the archive keeps
	// changing.
	attempts = 3
)

// A format reads the directory of one kind of archive into an empty index.
type format func(ctx context.Context, r io.ReaderAt, size int64, x *index) error

// A state is what a file was found to be.
type state struct {
	info fs.FileInfo
	// sure says that it was settled already, so that nothing can have changed
	// without info changing too.
	sure bool
}

// still tells whether a file that is found as info can be taken for the one of st.
func (st state) still(info fs.FileInfo, now time.Time) bool {
	return st.same(info) && os.SameFile(st.info, info) && (st.sure || now.Sub(info.ModTime()) < settled)
}

// same is still for a file that cannot have been replaced.
func (st state) same(info fs.FileInfo) bool {
	return st.info.Size() == info.Size() && st.info.ModTime().Equal(info.ModTime())
}

// An archive is an open file with its index. It is closed when nobody holds it; until
// then no other file has its inode.
type archive struct {
	file     *os.File
	state    state
	identity string // of the file, for versions
	index    index
	broken   error // why it has no index and cannot be served
	holds    atomic.Int32
}

func (a *archive) release() {
	if a.holds.Add(-1) == 0 {
		_ = a.file.Close() // opened for reading
	}
}

// unchanged fails if the file was written to.
func (a *archive) unchanged() error {
	info, err := a.file.Stat()
	if err == nil && !a.state.same(info) {
		err = gateway.ErrChanged
	}
	return err
}

// A flight is the reading of an index that several wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// current returns the archive that is at the path, with a hold for the caller.
func (s *Source) current(ctx context.Context) (*archive, error) {
	for range attempts {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("archive %s: %w", s.path, err)
		}
		info, err := os.Stat(s.path)
		if err != nil {
			return nil, s.unavailable(err)
		}
		a, f := s.take(info)
		switch {
		case a != nil && a.broken != nil:
			a.release()
			return nil, s.unavailable(a.broken)
		case f == nil:
			return a, nil
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("archive %s: %w", s.path, ctx.Err())
		}
		if f.err != nil {
			return nil, f.err
		}
	}
	return nil, s.unavailable(errors.New("it changes faster than its directory can be read"))
}

// take returns the archive if it is of the file that is found as info, with a hold
// for the caller, and otherwise the flight that may bring that.
func (s *Source) take(info fs.FileInfo) (*archive, *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.state.still(info, s.now()) {
		s.cur.holds.Add(1)
		return s.cur, nil
	}
	if s.making == nil {
		s.making = &flight{done: make(chan struct{})}
		go s.renew(s.making)
	}
	return nil, s.making
}

// renew replaces the archive by the one that is at the path now.
func (s *Source) renew(f *flight) {
	defer close(f.done)
	a, err := s.load(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = nil
	if err != nil {
		f.err = s.unavailable(err)
		return
	}
	s.cur.release()
	s.cur = a
}

// unavailable says that the archive cannot be used for now. What err is must not be
// seen: that the archive does not exist says nothing about what is in it.
func (s *Source) unavailable(err error) error {
	return fmt.Errorf("archive %s: %v: %w", s.path, err, gateway.ErrUnavailable)
}

// load opens the file at the path and reads its index. There is one hold on what it
// returns. It fails if another attempt may succeed; a file that is itself to blame
// is an archive that is broken.
func (s *Source) load(ctx context.Context) (*archive, error) {
	info, err := os.Stat(s.path) // so that no device is opened
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	a, err := s.read(ctx, f)
	if err != nil {
		_ = f.Close() // opened for reading
	}
	return a, err
}

// read is load for a file that is open.
func (s *Source) read(ctx context.Context, f *os.File) (*archive, error) {
	info, err := f.Stat()
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	a := &archive{
		file:     f,
		state:    state{info, s.now().Sub(info.ModTime()) >= settled},
		identity: fmt.Sprintf("%x-%x-%x", inode(info), info.Size(), info.ModTime().UnixNano()),
		index:    index{most: s.most},
	}
	a.holds.Store(1)
	err = s.format(ctx, f, info.Size(), &a.index)
	if changed := a.unchanged(); changed != nil {
		return nil, changed
	}
	if system := (*fs.PathError)(nil); errors.As(err, &system) || ctx.Err() != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	if err != nil {
		a.broken, a.index = err, index{}
	}
	return a, nil
}
