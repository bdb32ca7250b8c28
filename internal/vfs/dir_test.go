package vfs

import (
	"bufio"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// lockHere tells a copy of this test to lock in a folder and wait to be killed.
const lockHere = "VFS_TEST_LOCK_HERE"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockHere); path != "" {
		holdLock(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func holdLock(path string) {
	dir, err := Dir(path)
	if err == nil {
		_, err = dir.Lock("lock")
	}
	if _, err := os.Stdout.WriteString(map[bool]string{true: "locked\n", false: "failed\n"}[err == nil]); err != nil {
		return
	}
	_, _ = io.ReadAll(os.Stdin) // until the parent is gone too
}

// no lock is left behind by kill -9, and none is taken before.
func TestKernelEndsTheLockOfTheDead(t *testing.T) {
	path := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), lockHere+"="+path)
	stdin, err := child.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		t.Errorf("the child says %q, %v", line, err)
	}
	dir, err := Dir(path)
	must(t, err)
	defer dir.Close()
	_, err = dir.Lock("lock")
	wantErr(t, "Lock while another process has it", err, ErrLocked)
	must(t, child.Process.Kill())
	_ = child.Wait() // says that it was killed
	l, err := dir.Lock("lock")
	must(t, err)
	must(t, l.Close())
}

func TestDirHoldsPlainFilesOnly(t *testing.T) {
	path := t.TempDir()
	dir, err := Dir(path)
	must(t, err)
	defer dir.Close()
	must(t, os.Mkdir(filepath.Join(path, "folder"), 0o700))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(path, "link")))
	put(t, dir, "plain", "")
	if names, err := dir.List(); err != nil || !slices.Equal(names, []string{"plain"}) {
		t.Errorf("List: %q, %v", names, err)
	}
	_, err = dir.Open("folder", os.O_RDONLY)
	wantErr(t, "Open of a folder", err, fs.ErrInvalid)
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR, create, create | os.O_TRUNC} {
		if f, err := dir.Open("link", flag); err == nil {
			t.Errorf("Open(%#x) went through a link out of the folder: %v", flag, f.Close())
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
}

func TestDirKeepsFilesPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	dir, err := Dir(path)
	must(t, err)
	defer dir.Close()
	put(t, dir, "a", "")
	for name, want := range map[string]fs.FileMode{path: fs.ModeDir | 0o700, filepath.Join(path, "a"): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

// An operator must find the file that an error speaks of.
func TestDirErrorsNameTheFileInFull(t *testing.T) {
	dir := tempDir(t)
	want := filepath.Join(dir.root.Name(), "q7")
	_, openErr := dir.Open("q7", os.O_RDWR)
	f := put(t, dir, "q7", "")
	must(t, f.Close())
	_, sizeErr := f.Size()
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	l, err := dir.Lock("q7")
	must(t, err)
	defer l.Close()
	_, lockErr := dir.Lock("q7")
	must(t, dir.Remove("q7"))
	for _, err := range []error{
		openErr, sizeErr, readErr, lockErr,
		f.Allocate(1), f.Sync(), f.Truncate(1), dir.Remove("q7"), dir.Rename("q7", "b"), dir.Rename("b", "q7"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "q7") > 1 {
			t.Errorf("%v does not name %s once", err, want)
		}
	}
}

func TestDirIsOverAfterClose(t *testing.T) {
	dir, err := Dir(t.TempDir())
	must(t, err)
	f := put(t, dir, "a", "text")
	must(t, dir.Close())
	_, err = dir.Open("a", os.O_RDWR)
	wantErr(t, "Open", err, fs.ErrClosed)
	wantErr(t, "Sync", dir.Sync(), fs.ErrClosed)
	_, err = dir.List()
	wantErr(t, "List", err, fs.ErrClosed)
	_, err = dir.Free()
	wantErr(t, "Free", err, fs.ErrClosed)
	if got := held(t, f); got != "text" {
		t.Errorf("the open file holds %q", got)
	}
}

func TestDirGivesTheFileForSendfile(t *testing.T) {
	f := put(t, tempDir(t), "a", "text")
	if b, err := io.ReadAll(f.OS()); err != nil || string(b) != "text" {
		t.Errorf("OS reads %q, %v", b, err)
	}
}

// Where fallocate is missing, Allocate still makes the file long enough.
func TestLengthenNeverShortens(t *testing.T) {
	f := osFile{put(t, tempDir(t), "a", "text").OS()}
	for _, c := range []struct {
		to   int64
		want string
	}{{2, "text"}, {4, "text"}, {6, "text\x00\x00"}} {
		must(t, f.lengthen(c.to))
		if got := held(t, f); got != c.want {
			t.Errorf("lengthen(%d) leaves %q, want %q", c.to, got, c.want)
		}
	}
}
