package file_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
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
	// until waits for a change that tells of name, and of all below it if under.
	until := func(name string, under bool) {
		t.Helper()
		for c := range changes {
			if c.Name == name && (c.Under || !under) || c.Under && (c.Name == "" || strings.HasPrefix(name, c.Name+"/")) {
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
		{"file beside", func() error { return os.WriteFile(path("newer/f"), nil, 0o644) }, "newer/f", false},
		{"folder removed", func() error { return os.RemoveAll(path("newer/er")) }, "newer/er", true},
		{"folder closed", func() error { return os.Chmod(path("a"), 0o700) }, "a", true},
		{"file with two names", func() error { return os.Link(path("newer/f"), path("a/g")) }, "", true},
		{"one of them changed", func() error { return os.WriteFile(path("newer/f"), []byte("4"), 0o644) }, "", true},
		{"link made", func() error { return os.Symlink("newer", path("current")) }, "", true},
		{"what it leads to changed", func() error { return os.WriteFile(path("newer/h"), nil, 0o644) }, "", true},
		{"link led elsewhere", func() error {
			if err := os.Symlink("a", path("next")); err != nil {
				return err
			}
			return os.Rename(path("next"), path("current"))
		}, "", true},
	} {
		check(t, step.do())
		t.Log(step.what)
		until(step.name, step.under)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A folder by the name of a link is watched, too, and one that goes is not silently so no more.
func TestWatchOfAFolderThatGoes(t *testing.T) {
	top := t.TempDir()
	check(t, os.Mkdir(filepath.Join(top, "real"), 0o755))
	check(t, os.Symlink("real", filepath.Join(top, "link")))
	s := open(t, filepath.Join(top, "link"))
	defer s.Close()
	ready, changes, ended := make(chan struct{}), make(chan gateway.Change, 1000), make(chan error, 1)
	go func() {
		ended <- s.Watch(t.Context(), func() { close(ready) }, func(c gateway.Change) { changes <- c })
	}()
	<-ready
	check(t, os.WriteFile(filepath.Join(top, "real", "f"), nil, 0o644))
	if c := <-changes; c.Name != "f" {
		t.Errorf("%+v", c)
	}
	check(t, os.Rename(filepath.Join(top, "real"), filepath.Join(top, "other")))
	if err := <-ended; err == nil {
		t.Error("the watch went on")
	}
}

// Drafts are nobody's business, and what changes within a file moves nothing else.
func TestWatchTellsWhatKindOfChange(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	s := open(t, dir)
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ready, changes, ended := make(chan struct{}), make(chan gateway.Change, 1000), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func() { close(ready) }, func(c gateway.Change) { changes <- c }) }()
	<-ready
	check(t, os.WriteFile(filepath.Join(dir, gateway.Draft+"x"), []byte("x"), 0o644))
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY, 0)
	check(t, err)
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	check(t, f.Close())
	if c := <-changes; c != (gateway.Change{Name: "f", Inside: true}) {
		t.Errorf("%+v", c)
	}
	check(t, os.Remove(filepath.Join(dir, "f")))
	for c := range changes {
		if c.Name != "f" || c.Under {
			t.Errorf("%+v", c)
		}
		if !c.Inside {
			break
		}
	}
	stop()
	check(t, <-ended)
}
