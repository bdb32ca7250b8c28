package ftp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
)

// Put implements gateway.Writer. The octets go to a file of a name of its own in the same
// folder, ".larder-" and chance, which is renamed when the server has it
// whole. If the server does not rename over a file, the old one is renamed first, to
// such a name too, and there is no object for a moment. The fields are dropped.
//
// only is looked at before the octets are sent and again just before the renaming:
// FTP cannot exclude that another writer comes between.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, _ http.Header, only gateway.If) (gateway.Info, error) {
	u := &upload{src: s, name: name, only: only}
	err := s.with(ctx, name, func(c *conn) error { return u.run(c, &reader{r: body, size: size, left: size}) })
	if err != nil {
		return gateway.Info{}, u.tidy(ctx, err)
	}
	return s.info(u.entry), nil
}

// Delete implements gateway.Writer. only is looked at just before: another writer may come between.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	return s.with(ctx, name, func(c *conn) error {
		if exists, err := s.holds(c, name, only); err != nil {
			return err
		} else if !exists {
			return fs.ErrNotExist
		}
		return denied(c.Delete(c.at(name)))
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

// An upload is a Put under way.
type upload struct {
	src   *Source
	name  string
	only  gateway.If
	temp  string // what becomes the object; "": there is none
	entry entry  // of it
}

func (u *upload) run(c *conn, body *reader) error {
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
	u.temp = below(folder, unique())
	if err := c.Stor(c.at(u.temp), body); err != nil {
		if body.err != nil {
			c.kill() // what the server made of it is not known
			return body.err
		}
		return denied(err)
	}
	var err error
	if u.entry, err = c.stat(u.temp); err != nil {
		return err
	}
	if u.entry.size != body.read {
		return fmt.Errorf("the server has %d octets of %d: %w", u.entry.size, body.read, gateway.ErrUnavailable)
	}
	return u.replace(c)
}

// unique is a name that nothing has.
func unique() string { return ".larder-" + rand.Text() }

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

// replace makes the new file the object.
func (u *upload) replace(c *conn) error {
	exists, err := u.src.holds(c, u.name, u.only)
	if err != nil {
		return err
	}
	temp, target := c.at(u.temp), c.at(u.name)
	err = c.Rename(temp, target)
	if !exists || code(err) < ftp.StatusBadCommand { // done, or not refused
		return denied(err)
	}
	folder, _ := split(u.name)
	old := c.at(below(folder, unique()))
	if err := c.Rename(target, old); err != nil {
		return denied(err)
	}
	if err := c.Rename(temp, target); err != nil {
		if back := c.Rename(old, target); back != nil {
			return fmt.Errorf("%w (and the old file stays at %s: %v)", denied(err), old, back)
		}
		return denied(err)
	}
	return denied(c.Delete(old))
}

// tidyTime is how long cleaning up may take when ctx ended already.
const tidyTime = 5 * time.Second

// tidy removes what was written, also if ctx ended or the connection broke. It returns err,
// and says what stays behind.
func (u *upload) tidy(ctx context.Context, err error) error {
	if u.temp == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	failed := u.src.with(ctx, u.temp, func(c *conn) error {
		c.listen(-1)
		return c.Delete(c.at(u.temp))
	})
	if failed == nil || errors.Is(failed, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w (and a file may be left behind: %v)", err, failed)
}

// errBody is wrapped by what is wrong with the octets to be put.
var errBody = errors.New("the body failed")

// A reader gives exactly size octets of r, or fails.
type reader struct {
	r    io.Reader
	size int64 // negative: all that come
	left int64
	read int64
	err  error // what is wrong with the octets
}

func (b *reader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	b.read += int64(n)
	switch {
	case err != nil && err != io.EOF:
		err = fmt.Errorf("%w: %w", errBody, err)
	case b.size >= 0 && b.left < 0:
		err = fmt.Errorf("%w: it has more than %d octets", errBody, b.size)
	case b.size >= 0 && b.left > 0 && err == io.EOF:
		err = fmt.Errorf("%w: it has %d octets of %d: %w", errBody, b.read, b.size, io.ErrUnexpectedEOF)
	}
	if err != io.EOF {
		b.err = err
	}
	return n, err
}
