package admin

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListenHarmsNothing(t *testing.T) {
	dir := t.TempDir()
	file, live, datagram := filepath.Join(dir, "file"), filepath.Join(dir, "live"), filepath.Join(dir, "datagram")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(live, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := net.ListenPacket("unixgram", datagram)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, path := range []string{file, live, datagram, dir, filepath.Join(dir, "none", "s")} {
		before, _ := os.Lstat(path)
		if other, err := Listen(path, "", false); err == nil {
			other.Close()
			t.Errorf("%s was taken", path)
		}
		if now, _ := os.Lstat(path); before != nil && !os.SameFile(before, now) {
			t.Errorf("%s is another one now", path)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("%v %v", entries, err)
	}
}

// What a process that died has left is taken, by one.
func TestListenTakesTheSocketOfTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		var got atomic.Pointer[net.Listener]
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if l, err := Listen(path, "", false); err == nil && got.Swap(&l) != nil {
					t.Error("two have it")
				}
			})
		}
		wg.Wait()
		l := got.Load()
		if l == nil {
			t.Fatal("nobody has it")
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		(*l).Close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("it was left behind: %v", err)
		}
	}
}
