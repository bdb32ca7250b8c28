package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A Daemon serves until it is told to stop, and leaves nothing behind.
func TestRun(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	var log, notes bytes.Buffer
	d, err := New(Options{
		Origin: t.TempDir(), Listen: "127.0.0.1:0", Memory: 1 << 20, Drain: time.Minute,
		Log: observe.NewLog(&log, observe.Text), Notes: slog.New(slog.NewTextHandler(&notes, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 2 {
		resp, err := client.Get(d.URL() + "/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(d.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("no answer to what is no HTTP: %v", err)
	}
	c.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if strings.Count(log.String(), "\n") != 3 || !strings.Contains(log.String(), "  400  -        -     -  ") {
		t.Errorf("the log is\n%s", log.String())
	}
	if notes.Len() > 0 {
		t.Errorf("notes: %s", notes.String())
	}
}

// A listener that fails ends Run, which tells of it.
func TestListenerFails(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	d, err := New(Options{Origin: "http://127.0.0.1:1", Listen: "127.0.0.1:0", Memory: 1 << 20, Notes: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	d.listener.Close()
	if err := d.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

func TestCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "200")
	calmCollector()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is set, and yet the collector runs at %d", got)
	}
	t.Setenv("GOGC", "")
	calmCollector()
	if got := debug.SetGCPercent(100); got != collectAt {
		t.Errorf("the collector runs at %d", got)
	}
}

// What a disk keeps is found under the same secret after a restart. One that
// cannot be read is an error, not another secret.
func TestLasting(t *testing.T) {
	fs := vfs.NewMem(0)
	secret, err := lasting(fs)
	if err != nil || len(secret) != secretOctets || bytes.Equal(secret, make([]byte, secretOctets)) {
		t.Fatalf("%x, %v", secret, err)
	}
	fs = fs.Crash(rand.New(rand.NewPCG(1, 1)), vfs.UnsyncedLost)
	if again, err := lasting(fs); err != nil || !bytes.Equal(again, secret) {
		t.Errorf("%x after a crash, %v, want %x", again, err, secret)
	}
	fails := &vfs.Faulty{FS: fs, Hook: func(op vfs.Op) vfs.Fault {
		if op.Kind == vfs.OpReadAt {
			return vfs.Fail(syscall.EIO)
		}
		return vfs.Fault{}
	}}
	if _, err := lasting(fails); !errors.Is(err, syscall.EIO) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
	f, err := fs.Open(secretName, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(5), f.Close()); err != nil {
		t.Fatal(err)
	}
	if again, err := lasting(fs); err != nil || len(again) != secretOctets || bytes.Equal(again, secret) {
		t.Errorf("%x after it was cut short, %v", again, err)
	}
}

func TestURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://127.0.0.1:80", "[::1]:80": "http://[::1]:80",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		d := &Daemon{listener: fixed{addr: a}}
		if got := d.URL(); got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
}

type fixed struct {
	net.Listener
	addr net.Addr
}

func (f fixed) Addr() net.Addr { return f.addr }

func TestPlaces(t *testing.T) {
	for _, test := range []struct{ conns, files, want int }{
		{0, 0, 0}, {0, 1 << 20, 0}, {50, 1 << 20, 50}, {0, 1024, 704}, {50, 1024, 50}, {5000, 1024, 704}, {0, 256, 16},
	} {
		if got := places(test.conns, test.files); got != test.want {
			t.Errorf("places(%d, %d) = %d, want %d", test.conns, test.files, got, test.want)
		}
	}
}

func TestPseudonyms(t *testing.T) {
	if a, b := pseudonym(), pseudonym(); a == b || len(a) != len("larder-12345678") {
		t.Errorf("%s, %s", a, b)
	}
}
