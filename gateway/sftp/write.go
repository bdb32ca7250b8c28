package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
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
// renamed first, to such a name too, and there is no object for a moment; that goes
// on to its end when ctx ends, and over another connection if this one breaks. The old
// file then may stay behind under that name, if the server does not let it be removed.
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
	u := &replacement{src: s, conn: c, name: name, only: only}
	info, err := u.run(ctx, body, size)
	return info, s.failed(name, err)
}

// Delete implements gateway.Writer. only is looked at just before: another writer may come between. A
// folder that comes between stays, unless the server's REMOVE takes folders too.
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

// A replacement is a Put under way.
type replacement struct {
	src  *Source
	conn *conn
	name string
	only gateway.If

	folder string // path of the folder
	target string // path of the object
	temp   string // path of what becomes the object
	old    string // path of what was the object, once it may be there
}

func (u *replacement) run(ctx context.Context, r io.Reader, size int64) (gateway.Info, error) {
	if err := do(ctx, u.conn, u.prepare); err != nil {
		return gateway.Info{}, err
	}
	body := conduit.New(r, size)
	info, err := call(ctx, u.conn, func() (os.FileInfo, error) { return u.write(body) }, func(os.FileInfo) { u.remove() })
	if failed := body.Finish(ctx); failed != nil && ctx.Err() == nil && !errors.Is(failed, conduit.ErrEarly) {
		err = fmt.Errorf("%w: %w", errBody, failed)
	}
	if err == nil {
		err = u.replace(ctx)
	}
	if err != nil {
		err = u.tidy(ctx, err)
	}
	if err != nil {
		return gateway.Info{}, err
	}
	return u.src.info(info), nil
}

// prepare finds the paths, and makes the folders that are missing.
func (u *replacement) prepare() error {
	if u.name == "" {
		return fmt.Errorf("it is the root: %w", fs.ErrPermission)
	}
	if _, err := u.src.holds(u.conn, u.name, u.only); err != nil {
		return err
	}
	folder, base := split(u.name)
	var err error
	u.folder, err = u.conn.folder(folder)
	u.target, u.temp = below(u.folder, base), below(u.folder, gateway.NewDraft(""))
	return err
}

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
func (u *replacement) write(body io.Reader) (os.FileInfo, error) {
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
func (u *replacement) remove() { _ = u.conn.sftp.Remove(u.temp) }

func (u *replacement) fill(f *sftp.File, body io.Reader) (os.FileInfo, error) {
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
func (u *replacement) full(err error) error {
	var status *sftp.StatusError
	if _, ok := u.conn.sftp.HasExtension(statvfs); !ok || !errors.As(err, &status) {
		return err
	}
	if v, e := u.conn.sftp.StatVFS(u.folder); e == nil && v != nil && (v.Bavail == 0 || v.Files > 0 && v.Favail == 0) {
		return fmt.Errorf("%w: %w", gateway.ErrFull, err)
	}
	return err
}

// ownTime is how long what has to be done may take when ctx ended already.
const ownTime = 5 * time.Second

// replace makes the new file the object. It begins no swap if ctx ended, and ends what it began.
func (u *replacement) replace(ctx context.Context) error {
	done, err := call(ctx, u.conn, u.rename, nil)
	if err != nil || done {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	u.old = below(u.folder, gateway.NewDraft(""))
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTime)
	defer cancel()
	err = do(own, u.conn, u.swap)
	if err != nil && own.Err() != nil {
		u.conn.kill() // nothing more of the swap is to come
		err = fmt.Errorf("no answer came: %w", gateway.ErrUnavailable)
	}
	return err
}

// rename replaces the object in one step, if the server can do that.
func (u *replacement) rename() (done bool, err error) {
	exists, err := u.src.holds(u.conn, u.name, u.only)
	if err != nil {
		return false, err
	}
	c := u.conn.sftp
	if _, ok := c.HasExtension(posixRename); ok && !u.only.Absent {
		return true, c.PosixRename(u.temp, u.target)
	}
	if exists {
		return false, nil
	}
	err = c.Rename(u.temp, u.target)
	if err != nil && u.only.Absent {
		if _, now := u.src.holds(u.conn, u.name, u.only); now != nil {
			return false, now
		}
	}
	return true, err
}

// swap replaces the object in two steps. If the way back is barred too, tidy tries it again.
func (u *replacement) swap() error {
	c := u.conn.sftp
	if err := c.Rename(u.target, u.old); err != nil {
		return err
	}
	if err := c.Rename(u.temp, u.target); err != nil {
		_ = c.Rename(u.old, u.target)
		return err
	}
	_ = c.Remove(u.old) // the object is there, whatever stays beside it
	return nil
}

// tidy leaves an object and nothing else, also if ctx ended or the connection broke. It returns nil if
// the object is the new one, else err, and says what stays behind.
func (u *replacement) tidy(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTime)
	defer cancel()
	var replaced bool
	c, failed := u.src.conns.get(ctx)
	if failed == nil {
		defer u.src.conns.put(c)
		replaced, failed = call(ctx, c, func() (bool, error) { return u.settle(c.sftp) }, nil)
	}
	switch {
	case replaced:
		return nil
	case failed == nil:
		return err
	case u.old != "":
		return fmt.Errorf("%w (and %s and the old file, %s, may be left behind: %v)", err, u.temp, u.old, failed)
	}
	return fmt.Errorf("%w (and %s may be left behind: %v)", err, u.temp, failed)
}

// settle ends a swap that broke off: if there is no object, the new file becomes it, or else
// the old one again. Nothing is removed before there is one. It tells whether a swap
// made the new file the object.
func (u *replacement) settle(c *sftp.Client) (replaced bool, err error) {
	if u.old != "" {
		_, err := c.Lstat(u.target)
		if errors.Is(err, fs.ErrNotExist) {
			if err = c.Rename(u.temp, u.target); err != nil {
				err = c.Rename(u.old, u.target)
			}
		}
		if err != nil {
			return false, err
		}
		_ = c.Remove(u.old)
	}
	err = c.Remove(u.temp)
	if errors.Is(err, fs.ErrNotExist) {
		return u.old != "", nil // it bears the name of the object
	}
	return false, err
}

// errBody is wrapped by what is wrong with the octets to be put.
var errBody = errors.New("the body failed")
