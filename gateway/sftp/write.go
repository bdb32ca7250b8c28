package sftp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
)

// The extensions of OpenSSH that are used if the server has them.
const (
	posixRename = "posix-rename@openssh.com"
	fsync       = "fsync@openssh.com"
	statvfs     = "statvfs@openssh.com"
)

// Put implements gateway.Writer. The octets go to a file of a name of its own in the same
// folder, ".larder-" and chance, which replaces the object in one step if the
// server can do that (posix-rename@openssh.com). If not, the old file is
// renamed first, to such a name too, and there is no object for a moment.
// A link of that name is replaced, not followed. The fields are dropped.
//
// only.Absent holds until the very end on servers whose rename replaces nothing, as the
// protocol demands. only.Version is looked at just before the object is replaced:
// another writer may come between.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, _ http.Header, only gateway.If) (gateway.Info, error) {
	c, err := s.get(ctx, name)
	if err != nil {
		return gateway.Info{}, err
	}
	defer s.conns.put(c)
	u := &upload{src: s, conn: c, name: name, only: only}
	info, err := u.run(ctx, body, size)
	return info, s.failed(name, err)
}

// Delete implements gateway.Writer. only is looked at just before: another writer may come between.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	c, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	defer s.conns.put(c)
	return s.failed(name, do(ctx, c, func() error {
		if exists, err := s.holds(c, name, only); err != nil {
			return err
		} else if !exists {
			return fs.ErrNotExist
		}
		folder, base := split(name)
		p, err := c.locate(folder)
		if err != nil {
			return err
		}
		return c.sftp.Remove(below(p.path, base))
	}))
}

// do is call for what returns nothing.
func do(ctx context.Context, c *conn, f func() error) error {
	_, err := call(ctx, c, func() (struct{}, error) { return struct{}{}, f() }, nil)
	return err
}

// holds tells whether the object exists, and fails if only does not hold.
func (s *Source) holds(c *conn, name string, only gateway.If) (exists bool, err error) {
	p, err := c.locate(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if only.Version != "" {
			return false, fmt.Errorf("there is none: %w", gateway.ErrConflict)
		}
		return false, nil
	case err != nil:
		return false, err
	case p.info.IsDir():
		return false, fmt.Errorf("it is a folder: %w", fs.ErrPermission)
	case only.Absent:
		return true, fmt.Errorf("there is one: %w", gateway.ErrConflict)
	}
	if v := s.info(p.info).Version; only.Version != "" && only.Version != v {
		return true, fmt.Errorf("its version is %q: %w", v, gateway.ErrConflict)
	}
	return true, nil
}

// An upload is a Put under way.
type upload struct {
	src  *Source
	conn *conn
	name string
	only gateway.If

	folder string // path of the folder
	target string // path of the object
	temp   string // path of what becomes the object
}

func (u *upload) run(ctx context.Context, body io.Reader, size int64) (gateway.Info, error) {
	if err := do(ctx, u.conn, u.prepare); err != nil {
		return gateway.Info{}, err
	}
	from := &reader{r: body, size: size, left: size}
	info, err := call(ctx, u.conn, func() (os.FileInfo, error) { return u.write(from) }, func(os.FileInfo) { u.remove() })
	if err != nil {
		from.stop()
	} else {
		err = do(ctx, u.conn, u.replace)
	}
	if err != nil {
		return gateway.Info{}, u.tidy(ctx, err)
	}
	return u.src.info(info), nil
}

// prepare finds the paths, and makes the folders that are missing.
func (u *upload) prepare() error {
	if u.name == "" {
		return fmt.Errorf("it is the root: %w", fs.ErrPermission)
	}
	if _, err := u.src.holds(u.conn, u.name, u.only); err != nil {
		return err
	}
	folder, base := split(u.name)
	var err error
	u.folder, err = u.conn.folder(folder)
	u.target, u.temp = below(u.folder, base), below(u.folder, unique())
	return err
}

// unique is a name that nothing has.
func unique() string { return ".larder-" + rand.Text() }

// folder returns the path of a folder, which it makes if there is none.
func (c *conn) folder(name string) (string, error) {
	p, err := c.locate(name)
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		above, base := split(name)
		parent, aboveErr := c.folder(above)
		if aboveErr != nil {
			return "", aboveErr
		}
		made := c.sftp.Mkdir(below(parent, base))
		if p, err = c.locate(name); err != nil && made != nil { // else somebody else made it
			return "", made
		}
	}
	if err == nil && !p.info.IsDir() {
		err = fmt.Errorf("%q is a file: %w", name, fs.ErrPermission)
	}
	return p.path, err
}

// write puts the octets where they do not count yet.
func (u *upload) write(body *reader) (os.FileInfo, error) {
	f, err := u.conn.sftp.OpenFile(u.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	info, err := u.fill(f, body)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err = u.full(err); err != nil {
		u.remove()
	}
	return info, err
}

// remove removes what was written. If it cannot, tidy says so.
func (u *upload) remove() { _ = u.conn.sftp.Remove(u.temp) }

func (u *upload) fill(f *sftp.File, body *reader) (os.FileInfo, error) {
	n, err := f.ReadFromWithConcurrency(body, 64)
	if err != nil {
		return nil, err
	}
	if _, ok := u.conn.sftp.HasExtension(fsync); ok {
		if err := f.Sync(); err != nil {
			return nil, err
		}
	}
	info, err := f.Stat()
	if err == nil && info.Size() != n {
		err = fmt.Errorf("the server has %d octets of %d: %w", info.Size(), n, gateway.ErrUnavailable)
	}
	return info, err
}

// full finds out whether err is for want of room: version 3 has no code for that.
func (u *upload) full(err error) error {
	var status *sftp.StatusError
	if _, ok := u.conn.sftp.HasExtension(statvfs); !ok || !errors.As(err, &status) {
		return err
	}
	if v, e := u.conn.sftp.StatVFS(u.folder); e == nil && (v.Bavail == 0 || v.Files > 0 && v.Favail == 0) {
		return fmt.Errorf("%w: %w", gateway.ErrFull, err)
	}
	return err
}

// replace makes the new file the object.
func (u *upload) replace() error {
	exists, err := u.src.holds(u.conn, u.name, u.only)
	if err != nil {
		return err
	}
	c := u.conn.sftp
	if _, ok := c.HasExtension(posixRename); ok && !u.only.Absent {
		return c.PosixRename(u.temp, u.target)
	}
	if !exists {
		err := c.Rename(u.temp, u.target)
		if err != nil && u.only.Absent {
			if _, now := u.src.holds(u.conn, u.name, u.only); now != nil {
				return now
			}
		}
		return err
	}
	return u.swap()
}

// swap replaces the object on a server that cannot do so in one step.
func (u *upload) swap() error {
	c := u.conn.sftp
	old := below(u.folder, unique())
	if err := c.Rename(u.target, old); err != nil {
		return err
	}
	if err := c.Rename(u.temp, u.target); err != nil {
		if back := c.Rename(old, u.target); back != nil {
			return fmt.Errorf("%w (and the old file stays at %s: %v)", err, old, back)
		}
		return err
	}
	return c.Remove(old)
}

// tidyTime is how long cleaning up may take when ctx ended already.
const tidyTime = 5 * time.Second

// tidy removes what was written, also if ctx ended or the connection broke. It returns err,
// and says what stays behind.
func (u *upload) tidy(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	c, failed := u.src.conns.get(ctx)
	if failed == nil {
		defer u.src.conns.put(c)
		failed = do(ctx, c, func() error { return c.sftp.Remove(u.temp) })
	}
	if failed == nil || errors.Is(failed, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w (and %s may be left behind: %v)", err, u.temp, failed)
}

// errBody is wrapped by what is wrong with the octets to be put.
var errBody = errors.New("the body failed")

// A reader gives exactly size octets of r, or fails. It can be stopped: r is not read after that.
type reader struct {
	mu   sync.Mutex
	r    io.Reader
	size int64 // negative: all that come
	left int64
}

func (b *reader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, fmt.Errorf("%w: nobody wants it any more", errBody)
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("%w: %w", errBody, err)
	case b.size >= 0 && b.left < 0:
		return n, fmt.Errorf("%w: it has more than %d octets", errBody, b.size)
	case b.size >= 0 && b.left > 0 && err == io.EOF:
		return n, fmt.Errorf("%w: it has %d octets of %d: %w", errBody, b.size-b.left, b.size, io.ErrUnexpectedEOF)
	}
	return n, err
}

// stop waits for a Read that is under way: it is r that makes it wait.
func (b *reader) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r = nil
}
