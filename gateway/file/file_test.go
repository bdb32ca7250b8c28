package file_test

import (
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
