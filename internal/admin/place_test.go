package admin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// strangers is a folder of another user's.
func strangers(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		return "/" // which is root's
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	return dir
}

func folder(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func link(t *testing.T, to, from string) string {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
	return from
}

// The usual place is in a folder of this user's alone, or nowhere: neither who listens nor who
// asks is led to somebody else.
func TestPlace(t *testing.T) {
	good, file := folder(t, 0o700), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{good, folder(t, 0o755)} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		for _, made := range []bool{true, false} {
			if path, err := Place("8000", made); err != nil || path != filepath.Join(dir, "larder-8000.sock") {
				t.Errorf("%s: %q %v", dir, path, err)
			}
		}
	}
	for name, dir := range map[string]string{
		"a stranger's": strangers(t), "group-writable": folder(t, 0o770), "world-writable": folder(t, 0o707), "sticky": folder(t, 0o777|fs.ModeSticky),
		"a link": link(t, good, filepath.Join(t.TempDir(), "l")), "a file": file,
	} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		for _, made := range []bool{true, false} {
			if path, err := Place("8000", made); err == nil || !strings.Contains(err.Error(), dir+" is not this user's alone: name a socket by --admin") {
				t.Errorf("%s: %q %v", name, path, err)
			}
		}
	}
	missing := filepath.Join(good, "none")
	t.Setenv("XDG_RUNTIME_DIR", missing)
	if path, err := Place("8000", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %q %v", path, err)
	}
	if path, err := Place("8000", false); err != nil || path != filepath.Join(missing, "larder-8000.sock") {
		t.Errorf("missing: %q %v", path, err)
	}
	if _, err := os.Lstat(missing); err == nil {
		t.Error("a folder of the system's was made")
	}
}

// Where the system has no folder for the user, there is one beside the temporary files, which
// who asks does not make.
func TestPlaceBesideTemporaryFiles(t *testing.T) {
	for _, none := range []string{"", "relative", "./relative"} {
		tmp := t.TempDir()
		t.Setenv("XDG_RUNTIME_DIR", none)
		t.Setenv("TMPDIR", tmp)
		path, err := Place("1", false)
		if entries, _ := os.ReadDir(tmp); err != nil || len(entries) > 0 {
			t.Errorf("%q: %v %v", none, entries, err)
		}
		for range 2 {
			made, err := Place("1", true)
			info, statErr := os.Stat(filepath.Dir(made))
			if err != nil || made != path || filepath.Dir(filepath.Dir(made)) != tmp || statErr != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%q: %q %v, %v %v", none, made, err, info, statErr)
			}
		}
		dir := filepath.Dir(path)
		if err := errors.Join(os.Remove(dir), os.Mkdir(filepath.Join(tmp, "x"), 0o700)); err != nil {
			t.Fatal(err)
		}
		link(t, filepath.Join(tmp, "x"), dir)
		if path, err := Place("1", true); err == nil {
			t.Errorf("%q: somebody else's link is followed to %s", none, path)
		}
	}
}

// Over TCP nobody listens without a token that cannot be guessed and can be sent; and a slip in
// a place is told.
func TestListenFailsClosed(t *testing.T) {
	for _, bad := range []string{"", " ", "short", strings.Repeat("x", 15), strings.Repeat(" ", 16), strings.Repeat("x", 16) + "\n", strings.Repeat("x", 8) + " " + strings.Repeat("x", 8), strings.Repeat("ä", 16)} {
		l, err := Listen("127.0.0.1:0", bad, false)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "LARDER_ADMIN_TOKEN") || bad != "" && bad != " " && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for where, want := range map[string]string{
		"larder.sock": "write it as 127.0.0.1:9000, or with a slash in it", "127.0.0.1": "neither host:port nor", "": "neither host:port nor",
		"http://127.0.0.1:9000": "is a URL: write host:port", "unix:///run/s": "is a URL",
	} {
		l, err := Listen(where, token, false)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", where, err)
		}
	}
	for _, where := range []string{"127.0.0.1:0", filepath.Join(t.TempDir(), "s")} {
		l, err := Listen(where, token, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
