package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
)

const adminToken = "a-token-of-enough-octets"

// A shelf is a Daemon with a disk before an origin, which can be started again.
type shelf struct {
	*started
	t      *testing.T
	client *http.Client
	admin  *admin.Client
	origin *arrivals
	opt    Options
}

// newShelf starts one. The origin answers each request with how many came before, and may
// be overridden by h.
func newShelf(t *testing.T, h http.HandlerFunc, before ...func(*Daemon)) *shelf {
	t.Helper()
	var asked counts
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600")
			w.Header().Set("Surrogate-Key", "all "+strings.Trim(r.URL.Path, "/"))
			fmt.Fprintf(w, "%s %d", r.URL.Path, asked.next(r.URL.Path))
		}
	}
	s := &shelf{t: t, client: clientOf(t)}
	url, seen := serveOrigin(t, h)
	s.origin = seen
	t.Setenv("GOGC", "100") // a Daemon leaves the collector alone then
	s.opt = Options{
		Origin: url, Listen: "127.0.0.1:0", Admin: filepath.Join(t.TempDir(), "s"), Memory: 8 << 20, Disks: []Disk{{t.TempDir(), MinDisk}},
		Drain: time.Minute, Notes: slog.New(slog.DiscardHandler),
	}
	s.start(before...)
	return s
}

// counts count by name.
type counts struct {
	mu sync.Mutex
	of map[string]int // guarded by mu
}

func (c *counts) next(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[name]++
	return c.of[name]
}

// start starts it. before is told of the Daemon before it runs.
func (s *shelf) start(before ...func(*Daemon)) {
	s.t.Helper()
	d, err := New(s.opt)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range before {
		f(d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s.started = &started{Daemon: d, stop: sync.OnceFunc(func() {
		s.client.CloseIdleConnections()
		s.admin.Close()
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})}
	s.admin = admin.NewClient(d.AdminAt(), adminToken, nil)
	s.t.Cleanup(s.stop)
}

// restart stops it and starts it again.
func (s *shelf) restart(before ...func(*Daemon)) {
	s.t.Helper()
	s.stop()
	s.start(before...)
}

// get asks for a path, and fails the test unless the answer has this body.
func (s *shelf) get(path, want string) {
	s.t.Helper()
	if got := s.ask(path); got != want {
		s.t.Fatalf("%s is %q, want %q", path, got, want)
	}
}

// stored waits until so many objects are in the store: an answer may be with its client before.
func (s *shelf) stored(n int64) {
	s.t.Helper()
	for {
		p, err := s.admin.Preview(s.t.Context(), purge.Order{Selectors: []purge.Selector{{All: true}}})
		if err != nil {
			s.t.Fatal(err)
		}
		if p.Objects >= n {
			return
		}
	}
}

func (s *shelf) ask(path string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL()+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = shop
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// renewed asks for what was purged until it is new, and returns it: what was purged softly is
// served once more, and validated behind that. A busy disk may have the store not take an
// answer at once, and the origin asked again.
func (s *shelf) renewed(mode purge.Mode, path, was string) string {
	s.t.Helper()
	if mode == purge.Refresh {
		s.get(path, was)
	}
	got := s.ask(path)
	for got == was && mode == purge.Refresh {
		got = s.ask(path)
	}
	if got == was {
		s.t.Fatalf("%s is %q still", path, got)
	}
	return got
}

// wantAsked fails the test unless so many requests have come to the origin.
func (s *shelf) wantAsked(n int) {
	s.t.Helper()
	if got := s.origin.count(); got != n {
		s.t.Fatalf("the origin was asked %d times, want %d", got, n)
	}
}

func (s *shelf) purge(mode purge.Mode, selectors ...purge.Selector) purge.Receipt {
	s.t.Helper()
	return s.order(purge.Order{Selectors: selectors, Mode: mode})
}

func (s *shelf) order(o purge.Order) purge.Receipt {
	s.t.Helper()
	r, err := s.admin.Purge(s.t.Context(), o)
	if err != nil || !r.Durable {
		s.t.Fatalf("%+v %v", r, err)
	}
	return r
}

// until returns what a purge has come to when it is over.
func (s *shelf) until(id purge.ID) purge.Receipt {
	s.t.Helper()
	for {
		r, err := s.admin.Receipt(s.t.Context(), id, 60)
		if err != nil {
			s.t.Fatal(err)
		}
		if r.State != purge.InForce && r.State != purge.Scheduled {
			return r
		}
	}
}

// held has the purges of a Daemon stay in force until release, as if something asked for
// before them was still on its way.
func held(release *func()) func(*Daemon) {
	return func(d *Daemon) {
		ticket := d.ledger.Begin()
		*release = sync.OnceFunc(ticket.End)
	}
}

// A restart with a hundred purges in force costs the origin nothing for what was refreshed
// since, and one request for what was not.
func TestRestartWithPurgesInForce(t *testing.T) {
	for _, mode := range []purge.Mode{purge.Refetch, purge.Refresh} {
		t.Run(mode.String(), func(t *testing.T) {
			var release func()
			s := newShelf(t, nil, held(&release))
			const n = 100
			path := func(i int) string { return fmt.Sprintf("/p%d", i) }
			for i := range n {
				s.get(path(i), path(i)+" 1")
			}
			for i := range n {
				s.purge(mode, purge.Selector{Tag: path(i)[1:]})
			}
			renewed := make([]string, n)
			for i := range n / 2 {
				renewed[i] = s.renewed(mode, path(i), path(i)+" 1")
			}
			asked := s.origin.count()
			s.stop()
			release()
			var again func()
			s.start(held(&again), func(d *Daemon) {
				for _, r := range d.ledger.Receipts() {
					if r.State != purge.InForce || !r.Durable {
						t.Errorf("after a restart: %+v", r)
					}
				}
			})
			for i := range n / 2 {
				s.get(path(i), renewed[i])
			}
			s.wantAsked(asked) // and not once more
			for i := n / 2; i < n; i++ {
				renewed[i] = s.renewed(mode, path(i), path(i)+" 1")
			}
			asked = s.origin.count()
			again()
			all, err := s.admin.Receipts(t.Context())
			if err != nil || len(all) != n {
				t.Fatalf("%d receipts, %v", len(all), err)
			}
			for _, r := range all {
				if r := s.until(r.ID); r.State != purge.Done || !r.Complete {
					t.Errorf("%+v", r)
				}
			}
			s.restart()
			for i := range n {
				s.get(path(i), renewed[i])
			}
			s.wantAsked(asked)
		})
	}
}

// A purge with a start does nothing before, and once what it is there for, whether there was a
// restart before it or not, and after it.
func TestScheduledPurgeAcrossRestarts(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		s := newShelf(t, nil)
		s.get("/a", "/a 1")
		start := time.Now().Add(time.Second)
		r := s.order(purge.Order{Selectors: []purge.Selector{{Prefix: "/a"}}, Start: start})
		if r.State != purge.Scheduled || r.Applied {
			t.Errorf("%+v", r)
		}
		if restarts {
			s.restart()
		}
		if got := s.ask("/a"); time.Now().Before(start) && got != "/a 1" {
			t.Errorf("before the start it is %q", got)
		}
		if r := s.until(r.ID); r.State != purge.Done || !r.Applied || time.Now().Before(start) {
			t.Errorf("at %v: %+v", time.Now(), r)
		}
		for range 3 {
			s.get("/a", "/a 2")
		}
		if restarts {
			s.restart()
		}
		s.get("/a", "/a 2")
		s.wantAsked(2)
	}
}

// What ended before its time to begin, or was cancelled, does nothing, then or later.
func TestCancelledPurgesDoNothing(t *testing.T) {
	var release func()
	s := newShelf(t, nil, held(&release))
	s.get("/a", "/a 1")
	scheduled := s.order(purge.Order{Selectors: []purge.Selector{{All: true}}, Start: time.Now().Add(time.Hour)})
	inForce := s.purge(purge.Refetch, purge.Selector{Tag: "elsewhere"})
	for _, r := range []purge.Receipt{scheduled, inForce} {
		if r, err := s.admin.Cancel(t.Context(), r.ID); err != nil || r.State != purge.Cancelled || r.Applied || !r.Durable {
			t.Errorf("%+v %v", r, err)
		}
		var refusal *admin.Refusal
		if _, err := s.admin.Cancel(t.Context(), r.ID); !errors.As(err, &refusal) || refusal.Status != http.StatusConflict {
			t.Errorf("once more: %v", err)
		}
	}
	release()
	s.get("/a", "/a 1")
	s.restart()
	s.get("/a", "/a 1")
	s.wantAsked(1)
}

// A soft purge is undone: what it made stale is fresh, after a restart too, and what was
// refreshed meanwhile stays so.
func TestSoftPurgeIsUndone(t *testing.T) {
	s := newShelf(t, nil)
	s.get("/a", "/a 1")
	s.get("/b", "/b 1")
	s.get("/c", "/c 1")
	s.stored(3)
	soft := s.until(s.purge(purge.Refresh, purge.Selector{Tag: "all"}).ID)
	if soft.Objects != 3 {
		t.Errorf("%+v", soft)
	}
	s.renewed(purge.Refresh, "/b", "/b 1")
	r, err := s.admin.Undo(t.Context(), soft.ID)
	if err != nil || r.State != purge.Undone || r.Applied {
		t.Errorf("%+v %v", r, err)
	}
	s.get("/a", "/a 1")
	s.get("/b", "/b 2")
	s.restart()
	s.get("/a", "/a 1")
	s.get("/b", "/b 2")
	s.get("/c", "/c 1")
	s.wantAsked(4)
	hard := s.purge(purge.Refetch, purge.Selector{Tag: "all"})
	if _, err := s.admin.Undo(t.Context(), hard.ID); err == nil {
		t.Error("a hard purge is undone")
	}
	s.get("/a", "/a 2")
}

// Repeating makes another purge. All are listed, the last one first, and a restart changes
// neither their names nor what is said of them.
func TestPurgesAreListed(t *testing.T) {
	s := newShelf(t, nil)
	s.get("/a", "/a 1")
	first := s.until(s.purge(purge.Refetch, purge.Selector{URL: "//" + shop + "/a"}).ID)
	s.get("/a", "/a 2")
	again, err := s.admin.Repeat(t.Context(), first.ID)
	if err != nil || again.ID <= first.ID {
		t.Fatalf("%+v %v", again, err)
	}
	s.get("/a", "/a 3")
	again = s.until(again.ID)
	scheduled := s.order(purge.Order{Selectors: []purge.Selector{{Tag: "t"}}, Mode: purge.Refresh, Start: time.Now().Add(time.Hour), End: time.Now().Add(2 * time.Hour)})
	before, err := s.admin.Receipts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.restart()
	later := s.until(s.purge(purge.Refetch, purge.Selector{Tag: "later"}).ID)
	after, err := s.admin.Receipts(t.Context())
	if err != nil || len(after) != 4 || after[0].ID != later.ID {
		t.Fatalf("%+v %v", after, err)
	}
	if said, now := fmt.Sprintf("%+v", before), fmt.Sprintf("%+v", after[1:]); said != now {
		t.Errorf("before\n%s\nafter\n%s", said, now)
	}
	var ids []purge.ID
	for _, r := range after {
		ids = append(ids, r.ID)
	}
	if want := []purge.ID{later.ID, scheduled.ID, again.ID, first.ID}; !slices.Equal(ids, want) || later.ID.String() != "2-1" {
		t.Errorf("%v, want %v", ids, want)
	}
}

// A preview tells what there is, and purges nothing.
func TestPreviewPurgesNothing(t *testing.T) {
	s := newShelf(t, nil)
	for _, path := range []string{"/a/1", "/a/2", "/b"} {
		s.get(path, path+" 1")
	}
	s.stored(3)
	p, err := s.admin.Preview(t.Context(), purge.Order{Selectors: []purge.Selector{{Prefix: "/a/"}}})
	if err != nil || p.Objects != 2 || p.URLs != 2 || p.Bytes != int64(len("/a/1 1/a/2 1")) || p.OriginRequests != 2 || len(p.Examples) != 2 {
		t.Errorf("%+v %v", p, err)
	}
	for _, path := range []string{"/a/1", "/a/2", "/b"} {
		s.get(path, path+" 1")
	}
	if all, err := s.admin.Receipts(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("%+v %v", all, err)
	}
}

// Who purges, and who takes it back, is in the access log.
func TestPurgesAreLogged(t *testing.T) {
	var log bytes.Buffer
	var release func()
	s := newShelf(t, nil)
	s.opt.Log = observe.NewLog(&log, observe.Text)
	s.restart(held(&release))
	defer func() { release() }()
	r := s.purge(purge.Refresh, purge.Selector{Tag: "a"}, purge.Selector{Tag: "b"})
	if _, err := s.admin.Undo(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.admin.Purge(t.Context(), purge.Order{}); err == nil {
		t.Error("nothing is purged")
	}
	c := s.order(purge.Order{Selectors: []purge.Selector{{All: true}}, Start: time.Now().Add(time.Hour)})
	if _, err := s.admin.Cancel(t.Context(), c.ID); err != nil {
		t.Error(err)
	}
	s.stop()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	want := []string{"(refresh): in force", "(refresh): undone", "(refetch): scheduled", "(refetch): cancelled"}
	if len(lines) != len(want) {
		t.Fatalf("the log is\n%s", log.String())
	}
	for i, line := range lines {
		if !strings.Contains(line, "PURGE") || !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i, line, want[i])
		}
	}
}

// At the end nobody is waited for who waits for a purge, but is told how far it is.
func TestAdminEnds(t *testing.T) {
	var release func()
	s := newShelf(t, nil, held(&release))
	r := s.purge(purge.Refetch, purge.Selector{Tag: "t"})
	waited := make(chan purge.Receipt, 1)
	client := admin.NewClient(s.AdminAt(), "", nil)
	defer client.Close()
	go func() {
		r, err := client.Receipt(context.Background(), r.ID, 60)
		if err != nil {
			t.Errorf("who waits is told: %v", err)
		}
		waited <- r
	}()
	for stacks := make([]byte, 1<<20); !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("admin.(*Options).receipt")); {
		runtime.Gosched() // until it is waiting
	}
	s.stop()
	if r := <-waited; r.State != purge.InForce {
		t.Errorf("%+v", r)
	}
	release()
	if _, err := os.Lstat(s.opt.Admin); !os.IsNotExist(err) {
		t.Errorf("the socket was left: %v", err)
	}
}

// The real server lets in nobody either: what net/http answers by itself, and connections
// without end.
func TestR32_AdminServer(t *testing.T) {
	s := newShelf(t, nil)
	var notes bytes.Buffer
	s.opt.Admin, s.opt.AdminToken, s.opt.Notes = "127.0.0.1:0", adminToken, slog.New(slog.NewTextHandler(&notes, nil))
	s.restart()
	s.get("/a", "/a 1")
	if at := s.AdminAt(); strings.HasSuffix(at, ":0") || at != s.adminListener.Addr().String() {
		t.Errorf("it is at %s", at)
	}
	raw := func(text string) int {
		c, err := net.Dial("tcp", s.AdminAt())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	post := "POST /v1/purge HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 30\r\n"
	for _, text := range []string{
		"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: evil.com\r\nAuthorization: Bearer " + adminToken + "\r\nConnection: close\r\n\r\n",
		post + "\r\n" + `{"selectors":[{"all":true}]}  `,
		strings.Replace(post, "127.0.0.1", "evil.com", 1) + "Authorization: Bearer " + adminToken + "\r\n\r\n" + `{"selectors":[{"all":true}]}  `,
	} {
		if got := raw(text); got != http.StatusUnauthorized {
			t.Errorf("%d for %s", got, text)
		}
	}
	if n := strings.Count(notes.String(), "a request was refused"); n != 1 || !strings.Contains(notes.String(), "a request was refused: 127.0.0.1:") {
		t.Errorf("notes: %s", notes.String())
	}
	s.get("/a", "/a 1")
	if got := raw(post + "Authorization: Bearer " + adminToken + "\r\n\r\n" + `{"selectors":[{"all":true}]}  `); got != http.StatusCreated {
		t.Errorf("with the token: %d", got)
	}
	s.get("/a", "/a 2")
}

// A tally counts the connections of a listener that are open at once.
type tally struct {
	net.Listener
	full chan struct{} // closed when adminConns were accepted

	mu                   sync.Mutex
	open, most, accepted int
}

func (l *tally) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	l.most = max(l.most, l.open)
	if l.accepted++; l.accepted == adminConns {
		close(l.full)
	}
	return tallied{c, l}, nil
}

type tallied struct {
	net.Conn
	of *tally
}

func (c tallied) Close() error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.open--
	return c.Conn.Close()
}

// Those who only connect do not take the files that clients need.
func TestAdminTakesFewFiles(t *testing.T) {
	l := &tally{full: make(chan struct{})}
	s := newShelf(t, nil, func(d *Daemon) {
		l.Listener = d.adminListener
		d.adminListener = l
	})
	var idle []net.Conn
	for range 4 * adminConns {
		c, err := net.Dial("unix", s.AdminAt())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	<-l.full
	for _, c := range idle {
		c.Close()
	}
	if _, err := s.admin.Receipts(t.Context()); err != nil {
		t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most != adminConns || l.accepted < 4*adminConns {
		t.Errorf("of %d connections %d were open at once", l.accepted, l.most)
	}
}

// The usual place is taken over from the dead, and not from the living, without whom the
// server serves all the same.
func TestUsualPlace(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	s := newShelf(t, nil)
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	s.stop()
	path := filepath.Join(dir, "larder-"+port+".sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	s.opt.Admin, s.opt.Listen = Usual, "127.0.0.1:"+port
	s.start()
	if s.AdminAt() != path {
		t.Fatalf("it is at %q", s.AdminAt())
	}
	if _, err := s.admin.Receipts(t.Context()); err != nil {
		t.Error(err)
	}
	var notes bytes.Buffer
	other, err := New(Options{Origin: "http://127.0.0.1:1", Listen: "127.0.0.2:" + port, Admin: Usual, Memory: 1 << 20, Notes: slog.New(slog.NewTextHandler(&notes, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer other.abandon()
	if other.AdminAt() != "" || !strings.Contains(notes.String(), "no admin API: "+path+" is in use by another process; name another path; --admin names another place, or none") {
		t.Errorf("it is at %q; notes: %s", other.AdminAt(), notes.String())
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "none"))
	notes.Reset()
	third, err := New(Options{Origin: "http://127.0.0.1:1", Listen: "127.0.0.1:0", Admin: Usual, Memory: 1 << 20, Notes: slog.New(slog.NewTextHandler(&notes, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer third.abandon()
	if third.AdminAt() != "" || !strings.Contains(notes.String(), "no admin API: ") {
		t.Errorf("it is at %q; notes: %s", third.AdminAt(), notes.String())
	}
}

// The list of what was kept is written at one stroke, to nobody else's file, and not at all
// rather than half.
func TestHotIsWritten(t *testing.T) {
	dir := t.TempDir()
	file, victim := filepath.Join(dir, "hot"), filepath.Join(dir, "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, file+".new")); err != nil {
		t.Fatal(err)
	}
	s := newShelf(t, nil)
	s.opt.Hot = file
	s.restart()
	s.get("/a", "/a 1")
	s.get("/b?c", "/b 1")
	s.stop()
	text, err := os.ReadFile(file)
	lines := strings.Split(string(text), "\n")
	slices.Sort(lines)
	if want := []string{"", "# What larder serve kept, what was asked for most often lately first: larder warm " + file, "http://" + shop + "/a", "http://" + shop + "/b?c"}; err != nil || !slices.Equal(lines, want) {
		t.Errorf("%v %q", err, text)
	}
	if text, _ := os.ReadFile(victim); string(text) != "precious" {
		t.Errorf("another file is %q now", text)
	}
	var full syscall.Errno
	if err := writeLines("/dev/full/x", nil); !errors.As(err, &full) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700), os.WriteFile(filepath.Join(file, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := writeLines(file, []string{"http://h/"}); err == nil {
		t.Error("a folder was written to")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("what was left: %v", entries)
	}
}

// Through two tiers, a soft purge of the parent and then of the edge brings what is new to
// those who ask the edge, although the parent serves the old one meanwhile.
func TestSoftPurgeThroughTiers(t *testing.T) {
	var version counts
	origin, _ := serveOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600, stale-while-revalidate=3600")
		fmt.Fprint(w, version.next(""))
	})
	c := newTiers(t, origin, func(*engine.Config, *engine.Config) {})
	c.want(c.get("/"), 200, "1")
	for _, tier := range []*started{c.parent, c.edge} {
		if _, err := tier.engine.Purge(t.Context(), purge.Order{Selectors: []purge.Selector{{URL: "/"}}, Mode: purge.Refresh}); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	for range 200 { // each asks for what is stale, and the last ones for what is new
		if a := c.get("/"); a.broken != nil || a.status != 200 {
			t.Fatalf("%+v", a)
		} else if seen = append(seen, a.body); a.body == "2" {
			return
		}
	}
	t.Errorf("it stays old: %q", seen)
}
