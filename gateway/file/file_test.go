package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/file"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *file.Source {
	t.Helper()
	s, err := file.Options{Now: func() time.Time { return time.Now().Add(time.Minute) }}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
		top := t.TempDir()
		dir := filepath.Join(top, "root")
		check(t, os.Mkdir(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(top, "secret"), []byte("outside"), 0o644))
		return &gatewaytest.Storage{
			Source: open(t, dir),
			Steady: true,
			Put: func(t *testing.T, name string, octets []byte, at time.Time) {
				full := filepath.Join(dir, name)
				check(t, os.MkdirAll(filepath.Dir(full), 0o755))
				check(t, os.WriteFile(full+".new", octets, 0o644))
				if !at.IsZero() {
					check(t, os.Chtimes(full+".new", at, at))
				}
				check(t, os.Rename(full+".new", full))
			},
			Remove: func(t *testing.T, name string) { check(t, os.Remove(filepath.Join(dir, name))) },
		}
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFG_OpenRefuses(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	for path, hint := range map[string]string{
		filepath.Join(dir, "none"): "does not exist",
		filepath.Join(dir, "f"):    "is a file",
	} {
		if _, err := file.Open(path); err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error with %q", path, err, hint)
		}
	}
}

func TestOctetsThatAreNoUTF8AreNames(t *testing.T) {
	dir := t.TempDir()
	name := "l\xe9gume\xff"
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer s.Close()
	o, err := s.Open(t.Context(), name, gateway.Want{})
	check(t, err)
	defer o.Close()
	infos, err := s.List(t.Context(), "", 10)
	if err != nil || len(infos) != 1 || infos[0].Name != name {
		t.Errorf("%v %v", infos, err)
	}
}

func TestDraftsAreSeenByNobodyElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	r := readerFunc(func([]byte) (int, error) {
		entries, err := os.ReadDir(dir)
		check(t, err)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s can be seen before it is whole", e.Name())
			}
		}
		return 0, fs.ErrClosed
	})
	if _, err := s.Put(t.Context(), "f", r, -1, nil, gateway.If{}); err == nil {
		t.Error("a broken body went through")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPutLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	check(t, os.WriteFile(filepath.Join(dir, "private"), nil, 0o600))
	if _, err := s.Put(t.Context(), "private", strings.NewReader("x"), 1, nil, gateway.If{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "private")); err != nil || info.Mode() != 0o600 {
		t.Errorf("a private file is %v (%v)", info.Mode(), err)
	}
	check(t, os.Mkdir(filepath.Join(dir, "there"), 0o755))
	broken := readerFunc(func([]byte) (int, error) { return 0, fs.ErrClosed })
	for _, name := range []string{"a/b/c", "there/d/e"} {
		if _, err := s.Put(t.Context(), name, broken, -1, nil, gateway.If{}); err == nil {
			t.Error("a broken body went through")
		}
	}
	if _, err := s.Put(t.Context(), "private/x/y", strings.NewReader("x"), 1, nil, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below a file: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "there")); err != nil || len(entries) != 0 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestDraftsDoNotExist(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, gateway.Draft+"x"), []byte("half"), 0o644))
	s := open(t, dir)
	defer s.Close()
	if _, err := s.Open(t.Context(), gateway.Draft+"x", gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if infos, err := s.List(t.Context(), "", 10); err != nil || len(infos) != 0 {
		t.Errorf("%v %v", infos, err)
	}
}

func TestHolds(t *testing.T) {
	top := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(top, "root", "in"), 0o755))
	check(t, os.Symlink("root", filepath.Join(top, "link")))
	s := open(t, filepath.Join(top, "link"))
	defer s.Close()
	for name, want := range map[string]bool{
		"root": true, "link": true, "root/in": true, "link/in/new/er": true, "root/../root/new": true, ".": false, "rooted": false, "other/root": false,
	} {
		if got := s.Holds(filepath.Join(top, name)); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
