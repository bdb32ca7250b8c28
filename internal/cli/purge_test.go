package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/purge"
)

// A shop is a Larder in this process, before an origin, whose admin API is at a socket.
type shop struct {
	t      *testing.T
	url    string
	secure string // URL, or empty
	socket string
	ledger *admin.Client
}

// openShop starts one. Every answer of the origin says how many came before, has two tags, and
// may be served stale.
func openShop(t *testing.T, o daemon.Options) *shop {
	t.Helper()
	percent := debug.SetGCPercent(100)
	if o.Origin == "" {
		var n atomic.Int64
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600, stale-while-revalidate=60")
			w.Header().Set("Surrogate-Key", "all "+strings.Trim(r.URL.Path, "/"))
			fmt.Fprintf(w, "%-2000d", n.Add(1))
		}))
		t.Cleanup(origin.Close)
		o.Origin = origin.URL
	}
	if o.Admin == "" {
		o.Admin = filepath.Join(t.TempDir(), "s")
	}
	o.Listen, o.Memory, o.Drain, o.Notes = "127.0.0.1:0", 4<<20, time.Minute, slog.New(slog.DiscardHandler)
	d, err := daemon.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s := &shop{t, d.URL(), d.SecureURL(), d.AdminAt(), admin.NewClient(d.AdminAt(), o.AdminToken, nil)}
	t.Cleanup(func() {
		s.ledger.Close()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		debug.SetGCPercent(percent)
	})
	return s
}

// ask asks for paths, and returns the numbers of the answers.
func (s *shop) ask(paths ...string) (numbers string) {
	s.t.Helper()
	for _, path := range paths {
		_, body := get(s.t, s.url+path)
		numbers += strings.TrimSpace(body) + " "
	}
	return strings.TrimSpace(numbers)
}

// purges are all there were.
func (s *shop) purges() []purge.Receipt {
	s.t.Helper()
	all, err := s.ledger.Receipts(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// A mistake costs one line that says what is wrong and what to do, exit code 2, and nothing is
// purged.
func TestPurgeMistakes(t *testing.T) {
	s := openShop(t, daemon.Options{})
	t.Setenv("LARDER_ADMIN_TOKEN", "")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "purge what? Name URLs, as in larder purge http://example.org/news, or --tag, --prefix, --glob, --regex, --group or --all"},
		{[]string{""}, "an empty name is the name of nothing: --all purges everything"},
		{[]string{"--tag", ""}, "an empty name is the name of nothing: --all purges everything"},
		{[]string{"/a", "--prefix="}, "an empty name is the name of nothing: --all purges everything"},
		{[]string{"/caf\xe9"}, "\"/caf\ufffd\" has octets that are not UTF-8: in URLs write them as %E9"},
		{[]string{"--all", "--prefix", "http://example.org/img/"}, "--all is everything: leave the rest out, or leave out --all to purge only that"},
		{[]string{"--all", "/a"}, "--all is everything: leave the rest out, or leave out --all to purge only that"},
		{[]string{"/a", "--origin", "http://example.org"}, "--origin is for --group; leave it out, or name a group"},
		{[]string{"--all", "--origin", "http://example.org"}, "--origin is for --group; leave it out, or name a group"},
		{[]string{"--tags", "x"}, `unknown flag --tags, did you mean "--tag"?`},
		{[]string{"/a", "--hard"}, "unknown flag --hard: larder purge --help lists what there is"},
		{[]string{"/a", "--start", "tomorrow"}, `--start: "tomorrow" is no time: write it as 2026-12-24T18:00:00Z, or in how long as 10m`},
		{[]string{"/a", "--start", "10"}, `--start: "10" is no time: write it as 2026-12-24T18:00:00Z, or in how long as 10m`},
		{[]string{"/a", "--start=-10m"}, `--start: "-10m" is no time: write it as 2026-12-24T18:00:00Z, or in how long as 10m`},
		{[]string{"/a", "--start", "2999-01-01T00:00:00Z", "--via", "/run/x"}, "--start with --via: they would begin at once, and an edge could fetch what its parent has not purged yet; schedule each, the parent's earlier"},
		{[]string{"/a", "--for", "0s"}, "--for 0s: it would end before it starts: give it time, or leave --for out"},
		{[]string{"/a", "--for", "tomorrow"}, `--for: "tomorrow" is no time: write a number and a unit, such as 10s, 500ms, 1h30m or 7d`},
		{[]string{"/a", "--for=-1s"}, `--for: "-1s" is negative: write how long, such as 10s`},
		{[]string{"/a", "--start", "9999-12-31T00:00:00Z", "--for", "7d"}, "--for 604800s: it would end after the year 9999: leave --for out"},
		{[]string{"/a", "--admin", "http://127.0.0.1:9000"}, `--admin: "http://127.0.0.1:9000" is a URL: write host:port, or the path of a socket`},
		{[]string{"/a", "--admin", "larder.sock"}, `--admin: "larder.sock" is neither host:port nor the path of a socket: write it as 127.0.0.1:9000, or with a slash in it, as ./larder.sock`},
		{[]string{"/a", "--admin", "127.0.0.1:1"}, "--admin: over TCP the admin API needs a token: put a random word of 16 characters or more into LARDER_ADMIN_TOKEN, as from openssl rand -hex 16"},
		{[]string{"/a", "--admin", "https://127.0.0.1:1"}, "--admin: over TCP the admin API needs a token: put a random word of 16 characters or more into LARDER_ADMIN_TOKEN, as from openssl rand -hex 16"},
		{[]string{"/a", "--admin", "https://127.0.0.1:1/"}, `--admin: "https://127.0.0.1:1/" has a path: write https://host:port`},
		{[]string{"/a", "--ca", "ca.pem"}, "--ca and --cert are for an address that begins with https://; leave them out, or write it so"},
		{[]string{"/a", "--admin", "https://127.0.0.1:1", "--ca", "/none/ca.pem"}, "--ca: open /none/ca.pem: no such file or directory"},
		{[]string{"/a", "--via", "https://127.0.0.1:1", "--cert", "/none/c.pem"}, "--cert: open /none/c.pem: no such file or directory"},
		{[]string{"/a", "--via", "here"}, `--via: "here" is neither host:port nor the path of a socket: write it as 127.0.0.1:9000, or with a slash in it, as ./larder.sock`},
		// What only the other knows:
		{[]string{"example.org/a"}, `"example.org/a" is no URL to find something by: write http://host/path, //host/path for http and https, or /path for all hosts`},
		{[]string{"http://"}, `"http://" names no host: write http://host/path, or /path for all hosts`},
		{[]string{"/a#b"}, `"/a#b" can be no URL that was asked for: it has a fragment, a backslash or control octets`},
		{[]string{"--regex", "("}, "regex \"(\": error parsing regexp: missing closing ): `(`"},
		{[]string{"--regex", ".*"}, `regex ".*": it is found in everything; say all if that is what you mean`},
		{[]string{"--regex", "\x1b[2J("}, "regex \"\\x1b[2J(\": error parsing regexp: missing closing ]: `[2J(`"},
		{[]string{"--prefix", "/"}, `prefix "/": everything begins with it; say all if that is what you mean`},
		{[]string{"--glob", "/**"}, `glob "/**": everything fits; say all if that is what you mean`},
		{[]string{"--glob", "*.png"}, `glob "*.png": begin with http://host/, with //host/ for http and https, or with / for all hosts`},
		{[]string{"--tag", "a b\n"}, `tag "a b\n": tags and groups are printable ASCII, so nothing has this one`},
		{[]string{"--group", "g"}, "a group is one of an origin: give both group and origin, such as http://example.org"},
		{[]string{"--group", "g", "--origin", "example.org"}, `origin "example.org": write it as http://host or https://host:port`},
		{append(strings.Fields(strings.Repeat("/a ", 1000)), "--tag", "t"), "1001 selectors: at most 1000 at a time"},
	} {
		for _, how := range [][]string{nil, {"--dry-run"}, {"--soft", "--wait", "--json"}} {
			args := append(append([]string{"purge"}, test.args...), how...)
			if !strings.Contains(strings.Join(args, " "), "--admin") {
				args = append(args, "--admin", s.socket)
			}
			code, out, msg := try(args...)
			if code != 2 || out != "" || msg != "larder: "+test.want+"\n" {
				t.Errorf("%.200q: exit code %d, stdout %q, stderr\n%s\nwant\n%s", args, code, out, msg, test.want)
			}
		}
	}
	if all := s.purges(); len(all) > 0 {
		t.Errorf("purged: %+v", all)
	}
}

// The same of what is asked about purges.
func TestPurgesMistakes(t *testing.T) {
	s := openShop(t, daemon.Options{})
	if code, _, msg := try("purge", "/a", "--admin", s.socket, "--wait"); code != 0 {
		t.Fatal(msg)
	}
	before := fmt.Sprint(s.purges())
	for args, want := range map[string]string{
		"--undo":                "which purge? larder purges lists them; write larder purges ID with the flag",
		"--wait":                "which purge? larder purges lists them; write larder purges ID with the flag",
		"1-1 --undo --cancel":   "--cancel, --undo and --repeat: one of them at a time",
		"1":                     `"1" names no purge: an id looks like 3-17`,
		"one-two --cancel":      `"one-two" names no purge: an id looks like 3-17`,
		"9-9":                   "there is no such purge: it may have left the list, which keeps the last thousand",
		"9-9 --repeat":          "there is no such purge: it may have left the list, which keeps the last thousand",
		"1-1 --undo":            "it is done: only a refresh (soft purge) can be undone; what was refetched is gone",
		"1-1 --cancel --wait":   "it is done: there is nothing left to cancel",
		"1-1 1-2":               "unexpected argument 1-2: leave it out; larder purges --help says what goes there",
		"1-1 --admin unix:///s": `--admin: "unix:///s" is a URL: write host:port, or the path of a socket`,
	} {
		line := append([]string{"purges"}, strings.Fields(args)...)
		if !strings.Contains(args, "--admin") {
			line = append(line, "--admin", s.socket)
		}
		if code, out, msg := try(line...); code != 2 || out != "" || msg != "larder: "+want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s\nwant\n%s", args, code, out, msg, want)
		}
	}
	if after := fmt.Sprint(s.purges()); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// says runs a command line, and wants exit code 0 and stdout to match. It returns stdout.
func says(t *testing.T, want string, args ...string) string {
	t.Helper()
	code, out, msg := try(args...)
	if code != 0 || msg != "" || !regexp.MustCompile("^"+want+"$").MatchString(out) {
		t.Errorf("%q: exit code %d, stderr %q, stdout\n%s\nwant\n%s", args, code, msg, out, want)
	}
	return out
}

// What is purged is told in a line, and is what was asked for. What is named by URL may be
// counted by the walker as well.
func TestPurge(t *testing.T) {
	s := openShop(t, daemon.Options{})
	at := func(args ...string) []string { return append(args, "--admin", s.socket) }
	const day = `\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d`
	s.ask("/a", "/b", "/b?c")
	says(t, "would purge 2 objects of 2 URLs, 3.9 KiB\norigin: at most 2 requests\n(  "+s.url+"/b(\\?c)?\n){2}", at("purge", "--glob", "/b", "--dry-run")...)
	says(t, "would purge 0 objects of 0 URLs, 0 B\norigin: at most 0 requests\n", at("purge", "--tag", "none", "--dry-run")...)
	if got := s.ask("/a", "/b", "/b?c"); got != "1 2 3" {
		t.Errorf("after a dry run: %s", got)
	}
	says(t, "1-1  refetch of "+s.url+"/a: (in force|done); [12] objects?, .*\n", at("purge", s.url+"/a")...)
	if got := s.ask("/a", "/b"); got != "4 2" {
		t.Errorf("after a purge: %s", got)
	}
	says(t, "1-2  refresh of tag all: done; 3 objects, 5.9 KiB\n", at("purge", "--tag", "all", "--soft", "--wait")...)
	says(t, "1-2  refresh of tag all: undone; 3 objects, 5.9 KiB\n", at("purges", "1-2", "--undo")...)
	if got := s.ask("/a", "/b"); got != "4 2" {
		t.Errorf("after it was undone: %s", got)
	}
	says(t, "1-3  refetch of /p, tag t, prefix /q and 3 more: scheduled for "+day+` [+-]\d\d:\d\d`+"\n",
		at("purge", "/p", "--prefix", "/q", "--glob", "/r", "--regex", "s", "--tag", "t", "--group", "g", "--origin", "http://h", "--start", "1h", "--for", "10m")...)
	if r := s.purges()[0]; r.End.Sub(r.Start) != 10*time.Minute || len(r.Selectors) != 6 {
		t.Errorf("%+v", r)
	}
	says(t, "1-3  refetch of .*: cancelled; 0 objects, 0 B\n", at("purges", "1-3", "--cancel")...)
	says(t, "1-4  refetch of "+s.url+"/a: done; [12] objects?, .*\n", at("purges", "1-1", "--repeat", "--wait")...)
	says(t, "1-5  refetch of everything: done; 2 objects, 3.9 KiB\n", at("purge", "--all", "--wait")...)
	says(t, "1-1  refetch of .*/a: done; [12] objects?, .*\n", at("purges", "1-1", "--wait")...)
	says(t, "(?s)"+day+"  1-5  .*\n"+day+"  1-4  .*\n"+day+"  1-3  .*\n"+day+"  1-2  .*\n"+day+"  1-1  refetch of .*/a: done; [12] objects?, .*\n", at("purges")...)
	for _, args := range [][]string{{"purge", "/z", "--json"}, {"purges", "1-1", "--json"}, {"purges", "--json"}, {"purge", "/z", "--dry-run", "--json"}} {
		out := says(t, "({.*}\n)+", at(args...)...)
		for line := range strings.Lines(out) {
			var r purge.Receipt
			if err := json.Unmarshal([]byte(line), &r); err != nil || args[1] != "--json" && !strings.Contains(line, `"objects":`) {
				t.Errorf("%v: %s", err, line)
			}
		}
	}
	other := openShop(t, daemon.Options{})
	says(t, "nothing was purged yet\n", "purges", "--admin", other.socket)
	says(t, "", "purges", "--json", "--admin", other.socket)
}

// Without --admin it is the Larder of this user's at port 8000 that is asked, and over TCP the
// token comes from the environment, also where the server said all addresses.
func TestPurgeFindsTheServer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	openShop(t, daemon.Options{Admin: filepath.Join(dir, "larder-8000.sock")})
	says(t, "1-1  refetch of everything: .*\n", "purge", "--all")
	says(t, ".* 1-1 .*\n", "purges")

	const secret = "a-token-of-enough-octets"
	s := openShop(t, daemon.Options{Admin: "127.0.0.1:0", AdminToken: secret})
	_, port, err := net.SplitHostPort(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("LARDER_ADMIN_TOKEN", secret)
	for i, where := range []string{s.socket, "localhost:" + port, ":" + port, "0.0.0.0:" + port} {
		says(t, fmt.Sprintf("1-%d  .*\n", i+1), "purge", "/a", "--admin", where)
	}
	t.Setenv("LARDER_ADMIN_TOKEN", "another-token-of-enough-octets")
	code, out, msg := try("purge", "/a", "--admin", s.socket)
	if code != 1 || out != "" || msg != "larder: the token is missing or wrong: send Authorization: Bearer TOKEN (larder sends what LARDER_ADMIN_TOKEN holds)\n" {
		t.Errorf("exit code %d, %q, %q", code, out, msg)
	}
	if n := len(s.purges()); n != 4 {
		t.Errorf("%d purges", n)
	}
}

// Where nobody listens, one line says what to do.
func TestPurgeOfNobody(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("LARDER_ADMIN_TOKEN", "a-token-of-enough-octets")
	usual, nobody := filepath.Join(dir, "larder-8000.sock"), freePort(t)
	const hint = ": start larder serve, or name with --admin where it is\n"
	for args, want := range map[string]string{
		"purge /a":                        "no Larder answers at " + usual + ": connect: no such file or directory" + hint,
		"purge /a --dry-run":              "no Larder answers at " + usual + ": connect: no such file or directory" + hint,
		"purges":                          "no Larder answers at " + usual + ": connect: no such file or directory" + hint,
		"purges 1-1 --undo":               "no Larder answers at " + usual + ": connect: no such file or directory" + hint,
		"purge /a --admin " + nobody:      "no Larder answers at " + nobody + ": connect: connection refused" + hint,
		"purges --admin " + dir + "/none": "no Larder answers at " + dir + "/none: connect: no such file or directory" + hint,
	} {
		if code, out, msg := try(strings.Fields(args)...); code != 1 || out != "" || msg != "larder: "+want {
			t.Errorf("%s: exit code %d, %q, %q, want %q", args, code, out, msg, want)
		}
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	code, _, msg := try("purge", "/a")
	if code != 2 || msg != "larder: "+dir+" is not this user's alone: name a socket by --admin\n" {
		t.Errorf("exit code %d, %q", code, msg)
	}
}

// A fake is an admin API that does as it is told.
func fake(t *testing.T, h http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := admin.Listen(socket, "", false)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { server.Close() })
	return socket
}

// asked is a fake that takes every purge and has done it when it is asked again, and tells
// what it was asked.
func asked(t *testing.T, name string, told *[]string) (socket string) {
	var mu sync.Mutex
	return fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost { // and not, what has come of it
			mu.Lock()
			*told = append(*told, name+" "+r.Method)
			mu.Unlock()
		}
		state := "done"
		if r.Method == http.MethodPost {
			state = "in force"
		}
		fmt.Fprintf(w, `{"id":"1-1","selectors":[{"tag":"t"}],"mode":"refetch","state":%q}`, state)
	})
}

// Parents are purged before their edges; an edge is not asked if its parent could not be.
func TestPurgeThroughTiers(t *testing.T) {
	var told []string
	far, parent, edge := asked(t, "far", &told), asked(t, "parent", &told), asked(t, "edge", &told)
	bad := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"status":400,"detail":"no \u001b[2J"}`)
	})
	none := filepath.Join(t.TempDir(), "none")
	const no = ": no Larder answers at %s: connect: no such file or directory: start larder serve, or name with --admin where it is"
	for _, test := range []struct {
		args  []string
		told  string
		code  int
		stdin string
	}{
		{[]string{"--via", far, "--via", parent, "--admin", edge}, "far POST, parent POST, edge POST", 0, ""},
		{[]string{"--admin", edge, "--via", parent, "--wait"}, "parent POST, edge POST", 0, ""},
		{[]string{"--via", none, "--admin", edge}, "", 1, none + fmt.Sprintf(no, none) + "; not asked after that: " + edge},
		{[]string{"--via", far, "--via", none, "--admin", edge}, "far POST", 1, none + fmt.Sprintf(no, none) + "; not asked after that: " + edge + "; done before that: " + far + "; purging again does no harm"},
		{[]string{"--via", bad, "--admin", edge}, "", 2, bad + ": no ?[2J; not asked after that: " + edge},
		{[]string{"--via", parent, "--admin", bad}, "parent POST", 1, bad + ": no ?[2J; done before that: " + parent + "; purging again does no harm"},
		{[]string{"--via", parent, "--admin", "nowhere"}, "", 2, `--admin: "nowhere" is neither host:port nor the path of a socket: write it as 127.0.0.1:9000, or with a slash in it, as ./larder.sock`},
	} {
		told = nil
		code, _, msg := try(append([]string{"purge", "--tag", "t"}, test.args...)...)
		if test.stdin != "" {
			test.stdin = "larder: " + test.stdin + "\n"
		}
		if got := strings.Join(told, ", "); code != test.code || got != test.told || msg != test.stdin {
			t.Errorf("%q: exit code %d, asked: %s, stderr\n%s\nwant %d, %s\n%s", test.args, code, got, msg, test.code, test.told, test.stdin)
		}
	}
	says(t, regexp.QuoteMeta(parent)+": 1-1  .*\n"+regexp.QuoteMeta(edge)+": 1-1  .*\n", "purge", "--tag", "t", "--via", parent, "--admin", edge)
}

// Through two real tiers, who asks the edge gets what is new.
func TestPurgeThroughRealTiers(t *testing.T) {
	parent := openShop(t, daemon.Options{})
	edge := openShop(t, daemon.Options{Origin: parent.url})
	for i, soft := range [][]string{nil, {"--soft"}} {
		old, want := fmt.Sprint(i+1), fmt.Sprint(i+2)
		if got := edge.ask("/a"); got != old {
			t.Fatalf("before it is %s, want %s", got, old)
		}
		says(t, "(.*: 1-\\d  .*\n){2}", append([]string{"purge", edge.url + "/a", "--via", parent.socket, "--admin", edge.socket}, soft...)...)
		got := edge.ask("/a")
		for n := 0; soft != nil && got == old && n < 1000; n++ {
			got = edge.ask("/a")
		}
		if got != want {
			t.Errorf("%v: it is %s, want %s", soft, got, want)
		}
	}
}

// Ctrl-C ends the waiting, and not the purge.
func TestPurgeWaitIsInterrupted(t *testing.T) {
	waiting := make(chan struct{}, 1)
	socket := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			waiting <- struct{}{}
			<-r.Context().Done()
		}
		fmt.Fprint(w, `{"id":"1-1","selectors":[{"tag":"t"}],"mode":"refetch","state":"in force"}`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that no failure hangs
	defer cancel()
	c := exec.CommandContext(ctx, larder, "purge", "--tag", "t", "--wait", "--admin", socket)
	var msg bytes.Buffer
	c.Stderr = &msg
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its exit code is asked for below
	if code := c.ProcessState.ExitCode(); code != 1 || msg.String() != "larder: nobody waits any more, but the purge goes on: larder purges 1-1 tells what comes of it\n" {
		t.Errorf("exit code %d, stderr %q", code, msg.String())
	}
}

// What another says moves no cursor.
func TestPurgeShowsNoControls(t *testing.T) {
	socket := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "preview") {
			fmt.Fprint(w, `{"objects":1,"urls":1,"examples":["\u001b[2J\u009b\n"]}`)
			return
		}
		fmt.Fprint(w, `{"id":"1-1","selectors":[{"regex":"\u001b[2J\n"}],"state":"\u001b[2J\u0007"}`)
	})
	for _, args := range [][]string{{"purge", "/a"}, {"purge", "/a", "--dry-run"}, {"purge", "/a", "--json"}} {
		if _, out, _ := try(append(args, "--admin", socket)...); strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && visible(r) != r }) || strings.Count(out, "\n") > 3 {
			t.Errorf("%q: %q", args, out)
		}
	}
}

// Help fits a terminal and names every flag.
func TestPurgeHelp(t *testing.T) {
	for command, flags := range map[string]string{
		"purge":  "tag TAG, prefix PREFIX, glob GLOB, regex EXPR, group NAME, origin URL, all, soft, dry-run, wait, start TIME, for TIME, via ADDR, admin ADDR, json",
		"purges": "cancel, undo, repeat, wait, admin ADDR, json",
	} {
		code, out, msg := try(command, "--help")
		if code != 0 || msg != "" || !strings.HasPrefix(out, "larder "+command+" ") {
			t.Errorf("exit code %d, stderr %q:\n%s", code, msg, out)
		}
		for _, flag := range strings.Split(flags, ", ") {
			if !strings.Contains(out, "  --"+flag+" ") {
				t.Errorf("there is no --%s:\n%s", flag, out)
			}
		}
		for line := range strings.Lines(out) {
			if len(line) > 121 || strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("too long, or with blanks at the end: %q", line)
			}
		}
	}
}
