package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listenPrivately makes a socket that nobody else can reach, not even before its mode is
// set: it gets its name when it has its mode. Nothing that is there already is lost but
// the socket of a process that died.
func listenPrivately(path string) (net.Listener, error) {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer folder.Close() // which unlocks it
	// Of two that start at once on what a third has left, one has to wait.
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("%s cannot be locked: %w", filepath.Dir(path), err)
	}
	if err := makeWay(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".larder-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the socket has another name by then, or nothing came of it
	draft := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(draft, 0o600); err == nil {
		err = os.Link(draft, path) // unlike Rename it replaces nothing
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &socket{l, path, info}, nil
}

// makeWay removes a socket that nobody listens at.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there already, and no socket; name another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close() // it was only to see whether somebody is there
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is in use by another process; name another path", path)
	}
	return os.Remove(path)
}

// A socket goes with its listener.
type socket struct {
	net.Listener
	path string
	was  fs.FileInfo
}

func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(s.was, now) {
		_ = os.Remove(s.path) // whoever comes next removes it otherwise
	}
	return s.Listener.Close()
}

// Addr is the path that the listener has by now.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
