package admin

import (
	"net"
	"os"
	"path/filepath"
)

// listenPrivately makes a socket that nobody else can reach, not even before its mode is
// set: it gets its name when it has its mode.
func listenPrivately(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".larder-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // it is empty, or nothing came of it
	draft := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(draft, 0o600); err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &socket{l, path}, nil
}

// A socket goes with its listener.
type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error {
	_ = os.Remove(s.path) // the next one removes it otherwise
	return s.Listener.Close()
}
