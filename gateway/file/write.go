package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/larderhq/larder/gateway"
)

// Put implements gateway.Writer: a draft beside the file takes its place when it is
// whole and on disk. Fields are dropped; a folder has nowhere to keep them.
func (s *Source) Put(_ context.Context, name string, body io.Reader, size int64, _ http.Header, only gateway.If) (gateway.Info, error) {
	name, err := local(name)
	if err != nil {
		return gateway.Info{}, err
	}
	mode := fs.FileMode(0o666) // less what the process takes off
	switch info, err := s.root.Stat(name); {
	case err == nil && info.IsDir():
		return gateway.Info{}, fmt.Errorf("%q is a folder: %w", name, fs.ErrPermission)
	case err == nil:
		mode = info.Mode().Perm()
	}
	dir := path.Dir(name)
	made, err := s.makeFolders(dir)
	draft := gateway.NewDraft(name)
	var info fs.FileInfo
	if err == nil {
		info, err = s.draft(draft, body, size, mode)
	}
	if err == nil {
		err = s.publish(draft, name, only)
	}
	if err != nil {
		_ = s.root.Remove(draft) // it may have gone, or never come
		for _, folder := range made {
			_ = s.root.Remove(folder) // which it can only if nobody else uses it
		}
		return gateway.Info{}, absent(err)
	}
	if f, now, err := s.open(name); err == nil {
		_ = f.Close() // opened for reading
		if os.SameFile(info, now) {
			return s.describe(now), nil
		}
	}
	return gateway.Info{}, nil // another one took its place already
}

// makeFolders makes a folder and those that it is in, and returns the new ones, the
// innermost first.
func (s *Source) makeFolders(dir string) (made []string, err error) {
	for d := dir; d != "."; d = path.Dir(d) {
		info, err := s.root.Stat(d)
		if err == nil && !info.IsDir() {
			return nil, fmt.Errorf("%q is no folder: %w", d, fs.ErrNotExist)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	return made, s.root.MkdirAll(dir, 0o777)
}

// draft writes body to a new file.
func (s *Source) draft(name string, body io.Reader, size int64, mode fs.FileMode) (fs.FileInfo, error) {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, body)
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("%d octets came, and %d were announced: %w", n, size, io.ErrUnexpectedEOF)
	}
	var info fs.FileInfo
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	return info, errors.Join(err, f.Close())
}

// publish gives a draft its name.
func (s *Source) publish(draft, name string, only gateway.If) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	switch {
	case only.Absent:
		if err := s.root.Link(draft, name); errors.Is(err, fs.ErrExist) {
			return gateway.ErrConflict
		} else if err != nil {
			return err
		}
		if err := s.root.Remove(draft); err != nil {
			return err
		}
	case only.Version != "":
		if err := s.expect(name, only.Version); err != nil {
			return err
		}
		fallthrough
	default:
		if err := s.root.Rename(draft, name); err != nil {
			return err
		}
	}
	return s.sync(path.Dir(name))
}

// expect tells whether a file is of a version.
func (s *Source) expect(name, version string) error {
	info, err := s.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return gateway.ErrConflict
	}
	if err != nil {
		return err
	}
	if v, _ := identity(info); v != version {
		return gateway.ErrConflict
	}
	return nil
}

// sync has the names in a folder last.
func (s *Source) sync(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Delete implements gateway.Writer.
func (s *Source) Delete(_ context.Context, name string, only gateway.If) error {
	name, err := local(name)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	info, err := s.root.Lstat(name)
	switch {
	case err != nil:
		return absent(err)
	case info.IsDir():
		return fmt.Errorf("%q is a folder: %w", name, fs.ErrPermission)
	case only.Absent:
		return gateway.ErrConflict
	case only.Version != "":
		if err := s.expect(name, only.Version); err != nil {
			return absent(err)
		}
	}
	if err := s.root.Remove(name); err != nil {
		return absent(err)
	}
	return s.sync(path.Dir(name))
}
