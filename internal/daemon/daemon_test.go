package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/file"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A Daemon serves until it is told to stop, and leaves nothing behind.
func TestRun(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	var log, notes bytes.Buffer
	src, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{
		Storage: src, Gateway: gateway.Options{Listing: true}, Listen: "127.0.0.1:0", Memory: 1 << 20, Drain: time.Minute,
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

// What a disk keeps is found under the same secret after a restart.
func TestLasting(t *testing.T) {
	fs := vfs.NewMem(0)
	silent := func(line string) { t.Errorf("note: %s", line) }
	secret := lasting(named(fs), silent)
	if len(secret) != secretOctets || bytes.Equal(secret, make([]byte, secretOctets)) {
		t.Fatalf("%x", secret)
	}
	fs = fs.Crash(rand.New(rand.NewPCG(1, 1)), vfs.UnsyncedLost)
	if again := lasting(named(fs), silent); !bytes.Equal(again, secret) {
		t.Errorf("%x after a crash, want %x", again, secret)
	}
	f, err := fs.Open(secretName, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(5), f.Close()); err != nil {
		t.Fatal(err)
	}
	if again := lasting(named(fs), silent); len(again) != secretOctets || bytes.Equal(again, secret) {
		t.Errorf("%x after it was cut short", again)
	}
}

// named are disks of these folders.
func named(folders ...vfs.FS) (disks []disk.Disk) {
	for i, fs := range folders {
		disks = append(disks, disk.Disk{FS: fs, Name: fmt.Sprint(i)})
	}
	return disks
}

// A secret that one disk cannot give comes from another. If none can, there is a
// new one, which takes the place of none, and that is said.
func TestLastingOnSeveralDisks(t *testing.T) {
	one, two := vfs.NewMem(0), vfs.NewMem(0)
	silent := func(line string) { t.Errorf("note: %s", line) }
	secret := lasting(named(one), silent)
	if again := lasting(named(two, one), silent); !bytes.Equal(again, secret) {
		t.Errorf("%x with a new disk before it, want %x", again, secret)
	}
	if again := lasting(named(two), silent); !bytes.Equal(again, secret) {
		t.Errorf("the new disk alone has %x, want %x", again, secret)
	}
	fails := func(fs vfs.FS) vfs.FS {
		return &vfs.Faulty{FS: fs, Hook: func(op vfs.Op) vfs.Fault {
			if op.Kind == vfs.OpReadAt || op.Kind == vfs.OpWriteAt {
				return vfs.Fail(syscall.EIO)
			}
			return vfs.Fault{}
		}}
	}
	var notes []string
	note := func(line string) { notes = append(notes, line) }
	if again := lasting(named(fails(one), two), note); !bytes.Equal(again, secret) || len(notes) != 1 {
		t.Errorf("one disk that cannot be read: %x, want %x; notes %q", again, secret, notes)
	}
	notes = nil
	if again := lasting(named(fails(one), fails(two)), note); len(again) != secretOctets || bytes.Equal(again, secret) {
		t.Errorf("no disk can be read: %x", again)
	}
	if len(notes) != 3 || !strings.Contains(notes[2], "is not found") {
		t.Errorf("notes: %q", notes)
	}
	if again := lasting(named(one, two), silent); !bytes.Equal(again, secret) {
		t.Errorf("they can be read again: %x, want %x", again, secret)
	}
	notes = nil
	if again := lasting(named(fails(vfs.NewMem(0))), note); len(again) != secretOctets || len(notes) != 1 {
		t.Errorf("a new disk that cannot be written: %x; notes %q", again, notes)
	}
}

// A folder that fails for a moment is opened; one that ails is told from one that
// was named wrongly.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	times := 0
	folder, err := openFolder(dir, func(dir string) (*vfs.Folder, error) {
		if times++; times == 1 {
			return nil, syscall.EMFILE
		}
		return vfs.Dir(dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	folder.Close()
	_, missing := openFolder("/proc/larder", vfs.Dir)
	for err, want := range map[error]bool{
		&os.PathError{Err: syscall.EIO}: true, &os.PathError{Err: syscall.EMFILE}: true,
		missing: false, &os.PathError{Err: syscall.EACCES}: false, &os.PathError{Err: syscall.ENOSPC}: false,
	} {
		if ailing(err) != want {
			t.Errorf("%v ails: %t, want %t", err, !want, want)
		}
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

// Pages are assembled where that was chosen, also on hits, which the loops leave to it.
func TestPagesAreAssembled(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Surrogate-Control", `content="ESI/1.0"`)
			fmt.Fprintf(w, `<esi:include src="/part"/> %s`, r.Header.Get("Surrogate-Capability"))
		case "/part":
			fmt.Fprint(w, "a part")
		}
	}))
	defer origin.Close()
	d, err := New(Options{
		Origin: origin.URL, Listen: "127.0.0.1:0", Memory: 1 << 20, Drain: time.Minute, Notes: slog.New(slog.DiscardHandler),
		Engine: engine.Config{Policy: engine.Policy{Assembles: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	client := http.Client{Transport: &http.Transport{}}
	for i := range 5 {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", d.URL()+"/page", nil)
		if i > 2 {
			r.Header.Set("If-None-Match", `"1"`)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(content) != `a part larder="ESI/1.0"` || resp.Header.Get("Etag") != "" || resp.Header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%d: %s %q %q", i, resp.Status, content, resp.Header)
		}
	}
	client.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
