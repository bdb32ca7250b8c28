package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/larderhq/larder/gateway"
)

func TestWatchTellsOfEachChange(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "a", "b", "f"), []byte("1"), 0o644))
	s := open(t, dir)
	defer s.Close()

	ctx, stop := context.WithCancel(t.Context())
	ready, changes, ended := make(chan struct{}), make(chan gateway.Change, 1000), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func() { close(ready) }, func(c gateway.Change) { changes <- c }) }()
	<-ready
	// until waits for a change that tells of name, and for no other.
	until := func(what, name string, under bool) {
		t.Helper()
		for c := range changes {
			if c.Name == name && (c.Under || !under) {
				return
			}
		}
	}
	path := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, step := range []struct {
		what  string
		do    func() error
		name  string
		under bool
	}{
		{"rewritten", func() error { return os.WriteFile(path("a/b/f"), []byte("2"), 0o644) }, "a/b/f", false},
		{"replaced", func() error {
			if err := os.WriteFile(path("a/x"), nil, 0o644); err != nil {
				return err
			}
			return os.Rename(path("a/x"), path("a/b/f"))
		}, "a/b/f", false},
		{"removed", func() error { return os.Remove(path("a/b/f")) }, "a/b/f", false},
		{"folder made", func() error { return os.MkdirAll(path("new/er"), 0o755) }, "new", true},
		{"file in it", func() error { return os.WriteFile(path("new/er/f"), nil, 0o644) }, "new/er/f", false},
		{"folder renamed", func() error { return os.Rename(path("new"), path("newer")) }, "newer", true},
		{"file in that", func() error { return os.WriteFile(path("newer/er/f"), []byte("3"), 0o644) }, "newer/er/f", false},
		{"folder removed", func() error { return os.RemoveAll(path("newer/er")) }, "newer/er", true},
	} {
		check(t, step.do())
		until(step.what, step.name, step.under)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
