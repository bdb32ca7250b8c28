package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A Daemon serves until it is told to stop, and leaves nothing behind.
func TestRun(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
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
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	d, err := New(Options{Origin: "http://127.0.0.1:1", Listen: "127.0.0.1:0", Memory: 1 << 20, Notes: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	d.listener.Close()
	if err := d.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	t.Setenv("GOMEMLIMIT", "")
	limitMemory(100 << 20)
	if got := debug.SetMemoryLimit(-1); got != 100<<20+beyond {
		t.Errorf("the limit is %d", got)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	limitMemory(200 << 20)
	if got := debug.SetMemoryLimit(-1); got != 100<<20+beyond {
		t.Errorf("GOMEMLIMIT is set, and yet the limit was set to %d", got)
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
