package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// Put implements gateway.Writer. The octets go to a file of a name of its own in the same
// folder, ".larder-" and chance, which is renamed when the server has it
// whole. If the server does not rename over a file, the old one is renamed first, to
// such a name too, and there is no object for a moment; that goes on to its end when ctx
// ends, and over another connection if this one breaks. The old file may then stay
// behind under that name, if the server does not let it be removed. The fields
// are dropped.
//
// only is looked at before the octets are sent and again just before the renaming:
// FTP cannot exclude that another writer comes between.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, _ http.Header, only gateway.If) (gateway.Info, error) {
	u := &replacement{src: s, name: name, only: only}
	octets := conduit.New(body, size)
	defer func() { _ = octets.Finish(ctx) }() // should run not come to it
	err := s.change(ctx, name, func(l *lease) error {
		err := l.explain(l.guarded(func() error { return u.run(ctx, l, octets) }))
		if err == nil {
			return nil
		}
		return u.tidy(l, meaning(err))
	})
	if err != nil {
		return gateway.Info{}, err
	}
	return s.info(u.entry), nil
}

// Delete implements gateway.Writer. only is looked at just before: another writer may come between.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	return s.change(ctx, name, func(l *lease) error {
		if exists, err := s.holds(l.conn, name, only); err != nil {
			return err
		} else if !exists {
			return fs.ErrNotExist
		}
		return denied(l.Delete(l.at(name)))
	})
}

// holds tells whether the object exists, and fails if only does not hold.
func (s *Source) holds(c *conn, name string, only gateway.If) (exists bool, err error) {
	e, err := c.stat(name)
	if err != nil {
		if err = meaning(err); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		} else if only.Version != "" {
			return false, fmt.Errorf("there is none: %w", gateway.ErrConflict)
		}
		return false, nil
	}
	switch v := s.info(e).Version; {
	case e.folder:
		return true, fmt.Errorf("it is a folder: %w", fs.ErrPermission)
	case only.Absent:
		return true, fmt.Errorf("there is one: %w", gateway.ErrConflict)
	case only.Version != "" && only.Version != v:
		return true, fmt.Errorf("its version is %q: %w", v, gateway.ErrConflict)
	}
	return true, nil
}

// A replacement is a Put under way.
type replacement struct {
	src   *Source
	name  string
	only  gateway.If
	temp  string // what becomes the object; "": there is none
	entry entry  // of it
	old   string // what was the object, once it may be there
}

func (u *replacement) run(ctx context.Context, l *lease, body *conduit.Body) error {
	c := l.conn
	if u.name == "" {
		return fmt.Errorf("it is the root: %w", fs.ErrPermission)
	}
	if _, err := u.src.holds(c, u.name, u.only); err != nil {
		return err
	}
	folder, _ := split(u.name)
	if err := c.makeFolder(folder); err != nil {
		return err
	}
	u.temp = below(folder, gateway.NewDraft(""))
	if err := u.store(ctx, c, body); err != nil {
		return err
	}
	return u.replace(l)
}

// store sends the octets.
func (u *replacement) store(ctx context.Context, c *conn, body *conduit.Body) error {
	stop := context.AfterFunc(ctx, func() { body.GiveUp(ctx.Err()) })
	sent := &counter{Reader: body}
	err := c.Stor(c.at(u.temp), sent)
	stop()
	if failed := body.Finish(ctx); failed != nil && !errors.Is(failed, conduit.ErrEarly) {
		c.kill() // what the server made of it is not known
		return fmt.Errorf("%w: %w", errBody, failed)
	}
	if err != nil {
		return denied(err)
	}
	if u.entry, err = c.stat(u.temp); err != nil {
		return err
	}
	if u.entry.size != sent.n {
		return fmt.Errorf("the server has %d octets of %d: %w", u.entry.size, sent.n, gateway.ErrUnavailable)
	}
	return nil
}

// makeFolder makes a folder, and those that it is in, if there is none.
func (c *conn) makeFolder(name string) error {
	c.listen(-1)
	if there, err := c.isFolder(name); err != nil || there {
		return err
	}
	if name == "" {
		return fmt.Errorf("the root is not there: %w", fs.ErrNotExist)
	}
	above, _ := split(name)
	if err := c.makeFolder(above); err != nil {
		return err
	}
	made := c.MakeDir(c.at(name))
	if fatal(made) {
		return made
	}
	if there, err := c.isFolder(name); err != nil || there { // if not made, by somebody else
		return err
	}
	return fmt.Errorf("%q cannot be made, or is a file: %w", name, denied(made))
}

// ownTime is how long what has to be done may take when ctx ended already.
const ownTime = 5 * time.Second

// replace makes the new file the object. It begins no swap if the context ended, and ends what it began.
func (u *replacement) replace(l *lease) error {
	exists, err := u.src.holds(l.conn, u.name, u.only)
	if err != nil {
		return err
	}
	err = l.Rename(l.at(u.temp), l.at(u.name))
	if !exists || code(err) < ftp.StatusBadCommand { // done, or not refused
		return denied(err)
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	l.outlive(ownTime)
	folder, _ := split(u.name)
	u.old = below(folder, gateway.NewDraft(""))
	return denied(u.swap(l.conn))
}

// swap replaces the object in two steps. If the way back is barred too, tidy tries it again.
func (u *replacement) swap(c *conn) error {
	temp, target, old := c.at(u.temp), c.at(u.name), c.at(u.old)
	if err := c.Rename(target, old); err != nil {
		return err
	}
	if err := c.Rename(temp, target); err != nil {
		if fatal(c.Rename(old, target)) {
			c.kill()
		}
		return err
	}
	if fatal(c.Delete(old)) { // the object is there, whatever stays beside it
		c.kill()
	}
	return nil
}

// tidy leaves an object and nothing else, also if the context ended or the connection broke. It returns
// nil if the object is the new one, else err, and says what stays behind.
func (u *replacement) tidy(l *lease, err error) error {
	if u.temp == "" {
		return err
	}
	l.outlive(ownTime)
	var replaced bool
	failed := l.explain(l.guarded(func() (err error) {
		if err = l.awake(); err == nil {
			replaced, err = u.settle(l.conn)
		}
		return err
	}))
	switch {
	case replaced:
		return nil
	case failed == nil:
		return err
	case u.old != "":
		return fmt.Errorf("%w (and %s and the old file, %s, may be left behind: %v)", err, u.temp, u.old, failed)
	}
	return fmt.Errorf("%w (and a file may be left behind: %v)", err, failed)
}

// settle ends a swap that broke off: if there is no object, the new file becomes it, or else the
// old one again. Nothing is removed before there is one. It tells whether the new
// file is the object.
func (u *replacement) settle(c *conn) (replaced bool, err error) {
	temp, target := c.at(u.temp), c.at(u.name)
	if u.old != "" {
		old := c.at(u.old)
		if _, err = c.stat(u.name); absent(err) {
			if err = c.Rename(temp, target); err != nil {
				err = c.Rename(old, target)
			}
		}
		if err != nil {
			return false, err
		}
		if _, err = c.stat(u.temp); err == nil || absent(err) {
			replaced = err != nil // it bears the name of the object
			err = c.Delete(old)
		}
		if replaced || fatal(err) {
			return replaced, err
		}
	}
	if err = c.Delete(temp); absent(err) {
		err = nil
	}
	return false, err
}

// absent tells whether err says that there is no such file.
func absent(err error) bool { return err != nil && errors.Is(meaning(err), fs.ErrNotExist) }

// errBody is wrapped by what is wrong with the octets to be put.
var errBody = errors.New("the body failed")

// A counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
