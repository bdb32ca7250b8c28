package cli

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/daemon"
)

// greeted runs larder serve with these arguments and the environment of the test, until it has
// said what there is to try. It returns what it has said.
func greeted(t *testing.T, args ...string) (p *process, lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that no failure hangs
	t.Cleanup(cancel)
	p = &process{Cmd: exec.CommandContext(ctx, larder, append([]string{"serve", "--log", "off"}, args...)...)}
	p.notes, p.exited = make(chan string, 100), make(chan error, 1)
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() }) // it has ended, unless the test failed
	from := bufio.NewScanner(stderr)
	for len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "try: ") {
		if !from.Scan() {
			t.Fatalf("it ended: %v: %q", p.Wait(), lines)
		}
		lines = append(lines, from.Text())
		if _, at, ok := strings.Cut(from.Text(), " at http"); ok {
			at, _, _ = strings.Cut(at, " ")
			p.url = "http" + at
		}
	}
	go func() {
		for from.Scan() {
			p.notes <- from.Text()
		}
		close(p.notes)
		p.exited <- p.Wait()
	}()
	return p, lines
}

// What is said at the start is where purges are taken, and what to type for that.
func TestServeSaysWhereToPurge(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("LARDER_ADMIN_TOKEN", "a-token-of-enough-octets")
	socket := filepath.Join(dir, "mine")
	for _, test := range []struct {
		admin []string
		want  string // ADDR is where; empty: nothing is said
	}{
		{nil, "purge: larder purge --admin ADDR; the admin API is at " + dir + "/larder-PORT.sock"},
		{[]string{"--admin", socket}, "purge: larder purge --admin ADDR; the admin API is at " + socket},
		{[]string{"--admin", "127.0.0.1:0"}, "purge: larder purge --admin ADDR; the admin API is at 127.0.0.1:[1-9][0-9]*"},
		{[]string{"--admin", "none"}, ""},
	} {
		p, lines := greeted(t, append([]string{".", "--listen", "127.0.0.1:0"}, test.admin...)...)
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
		said := ""
		if len(lines) > 3 {
			said = lines[2]
		}
		_, at, _ := strings.Cut(said, "the admin API is at ")
		want := strings.NewReplacer("ADDR", regexp.QuoteMeta(at), "PORT", port).Replace(test.want)
		if !regexp.MustCompile("^"+want+"$").MatchString(said) || len(lines) != 3 && said == "" {
			t.Errorf("%q: it says %q, want %s", test.admin, lines, want)
		}
		if words := strings.Fields(strings.TrimPrefix(strings.Split(said, ";")[0], "purge: larder ")); len(words) > 0 {
			says(t, "1-\\d  refetch of everything: .*\n", append(words, "--all")...)
		}
		p.stop(t)
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%q: left behind: %v", test.admin, left)
		}
	}
}

// The port that the others look at needs no flag to be found.
func TestAdminHint(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	for at, want := range map[string]string{
		dir + "/larder-8000.sock": "", dir + "/larder-8001.sock": " --admin " + dir + "/larder-8001.sock", "127.0.0.1:9000": " --admin 127.0.0.1:9000",
	} {
		if got := new(serve).adminHint(at); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// A place that cannot be had is a mistake if somebody has named it, and a note if not; what
// a process that was killed has left is taken over.
func TestServeAdminPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("LARDER_ADMIN_TOKEN", "")
	dead, lines := greeted(t, ".", "--listen", "127.0.0.1:0")
	if len(lines) != 4 {
		t.Fatalf("it says %q", lines)
	}
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-dead.exited
	address := strings.TrimPrefix(dead.url, "http://")
	_, port, _ := net.SplitHostPort(address)
	socket := filepath.Join(dir, "larder-"+port+".sock")
	p, lines := greeted(t, ".", "--listen", address)
	if len(lines) != 4 || !strings.HasSuffix(lines[2], "the admin API is at "+socket) {
		t.Errorf("after one was killed: %q", lines)
	}
	other, lines := greeted(t, ".", "--listen", "127.0.0.2:"+port)
	if len(lines) != 4 || lines[0] != "larder: no admin API: "+socket+" is in use by another process; name another path; --admin names another place, or none" {
		t.Errorf("a second one on the port says %q", lines)
	}
	says(t, "nothing was purged yet\n", "purges", "--admin", socket)
	other.stop(t)
	says(t, "nothing was purged yet\n", "purges", "--admin", socket)

	file := write(t, "file", "")
	taken := freePort(t)
	l, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for at, want := range map[string]string{
		socket:        socket + " is in use by another process; name another path",
		file:          file + " is there already, and no socket; name another path",
		dir + "/no/s": "open " + dir + "/no: no such file or directory",
		"s":           `"s" is neither host:port nor the path of a socket: write it as 127.0.0.1:9000, or with a slash in it, as ./larder.sock`,
		"127.0.0.1:0": "over TCP the admin API needs a token: put a random word of 16 characters or more into LARDER_ADMIN_TOKEN, as from openssl rand -hex 16",
		"http://x":    `"http://x" is a URL: write host:port, or the path of a socket`,
	} {
		if code, out, msg := try("serve", ".", "--listen", "127.0.0.1:0", "--admin", at); code != 2 || out != "" || msg != "larder: --admin "+at+": "+want+"\n" {
			t.Errorf("%s: exit code %d, %q, want %s", at, code, msg, want)
		}
	}
	t.Setenv("LARDER_ADMIN_TOKEN", "a-token-of-enough-octets")
	if code, _, msg := try("serve", ".", "--listen", "127.0.0.1:0", "--admin", taken); code != 2 || msg != "larder: --admin "+taken+": the port is taken: stop what has it, or name another\n" {
		t.Errorf("exit code %d, %q", code, msg)
	}
	p.stop(t)
}

// What nobody can be allowed by, and where no list can be written, is told at the start.
func TestServePurgeMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		args, token, want string
	}{
		{"--purge-from localhost", "", `--purge-from "localhost" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"--purge-from 10.0.0.0/33", "", `--purge-from "10.0.0.0/33" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"--purge-from 10.0.0.1,10.0.0.2", "", `--purge-from "10.0.0.1,10.0.0.2" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"--purge-from fe80::1%eth0", "", `--purge-from "fe80::1%eth0" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"--purge-from ::ffff:10.0.0.0/104", "", `--purge-from "::ffff:10.0.0.0/104" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"--purge-from=", "", `--purge-from "" is no address: write it as 127.0.0.1, 10.0.0.0/8 or fd00::/8`},
		{"", "short", "LARDER_PURGE_TOKEN: it can be guessed: give 16 characters or more, as from openssl rand -hex 16"},
		{"", "sixteen or more, with blanks", "LARDER_PURGE_TOKEN: no client can send it: it has a blank in it, or what is not ASCII; take one as from openssl rand -hex 16"},
		{"--hot " + dir + "/none/hot", "", "--hot " + dir + "/none/hot: there is no folder " + dir + "/none: create it, or name a file elsewhere"},
		{"--hot " + dir, "", "--hot " + dir + ": it is there, and no file: name another"},
		{"--hot /dev/null", "", "--hot /dev/null: it is there, and no file: name another"},
	} {
		t.Setenv("LARDER_PURGE_TOKEN", test.token)
		code, out, msg := try(append([]string{"serve", ".", "--listen", "127.0.0.1:0", "--admin", "none"}, strings.Fields(test.args)...)...)
		if code != 2 || out != "" || msg != "larder: "+test.want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", test.args, code, out, msg, test.want)
		}
	}
}

// What was kept is written at SIGTERM, and warms the next one.
func TestServeWritesWhatIsHot(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	asked := make(chan string, 100)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Host + r.URL.RequestURI()
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	hot := filepath.Join(t.TempDir(), "hot")
	p, _ := greeted(t, origin.URL, "--listen", "127.0.0.1:0", "--hot", hot)
	var want []string
	for _, path := range []string{"/a", "/b?c=d", "/e%20f"} {
		get(t, p.url+path)
		want = append(want, <-asked)
	}
	p.stop(t)
	next, _ := greeted(t, origin.URL, "--listen", "127.0.0.1:0", "--admin", "none")
	code, out, msg := try("warm", hot, "--to", next.url)
	if code != 0 || out != "" || !strings.Contains(msg, "3 URLs") || !strings.Contains(msg, "3 fetched") {
		t.Errorf("exit code %d, %q, %q", code, out, msg)
	}
	next.stop(t)
	close(asked)
	var got []string
	for target := range asked {
		got = append(got, target)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("it asks for %q, want %q", got, want)
	}
}

func TestPurgeFromIsOfTheseAlone(t *testing.T) {
	var o daemon.Options
	s := serve{PurgeFrom: []string{"127.0.0.0/8", "fd00::1"}}
	if err := s.control(&o); err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]bool{
		"127.1.2.3:80": true, "[::ffff:127.0.0.1]:80": true, "[fd00::1]:1": true, "[fd00::2]:1": false, "10.0.0.1:80": false, "": false, "/run/socket": false,
	} {
		if got := o.PurgeFrom(peer); got != want {
			t.Errorf("%q may purge: %v", peer, got)
		}
	}
	var none daemon.Options
	if err := (&serve{}).control(&none); err != nil || none.PurgeFrom != nil {
		t.Errorf("nobody is named, and somebody may: %v", err)
	}
}
