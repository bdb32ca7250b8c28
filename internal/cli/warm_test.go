package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/warm"
)

// A mistake costs one line that says what is wrong and what to do; exit code 2
// says that nothing was read, 1 that what was read is of no use, or nobody there.
func TestWarmMistakes(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, nobody := t.TempDir(), freePort(t)
	urls, bad := write(t, "urls", "http://example.org/\n"), write(t, "bad", "http://example.org/\n/page\n")
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "warm needs URLs: name a list or a sitemap, as in larder warm https://example.org/sitemap.xml, or - for stdin"},
		{"nowhere.txt", 2, "nowhere.txt cannot be opened: no such file or directory: name a list or a sitemap, or - for stdin"},
		{dir, 2, dir + " is a folder: name the lists and sitemaps in it"},
		{"- URLS -", 2, "-: stdin can be read once only: leave one out"},
		{"BAD", 1, bad + `: line 2: "/page" is no URL: write it as https://example.org/page`},
		{"http://" + nobody + "/sitemap.xml", 1, "http://" + nobody + "/sitemap.xml: dial tcp " + nobody + ": connect: connection refused"},
		{"URLS --to http://" + nobody, 1, "nothing answers at http://" + nobody + ": dial tcp " + nobody + ": connect: connection refused: start larder serve, or name with --to where it is"},
		{"URLS --to 127.0.0.1:8000", 2, `--to "127.0.0.1:8000" is no place of a Larder: write it as http://127.0.0.1:8000`},
		{"URLS --to http://127.0.0.1:8000/path", 2, `--to "http://127.0.0.1:8000/path" is no place of a Larder: write it as http://127.0.0.1:8000`},
		{"URLS --ca /none/ca.pem", 2, "--ca and --cert are for an address that begins with https://; leave them out, or write it so"},
		{"URLS --to https://127.0.0.1:1 --ca /none/ca.pem", 2, "--ca: open /none/ca.pem: no such file or directory"},
		{"URLS --concurrency 0", 2, `--concurrency: "0" is not for it: give a number from 1 to 1000`},
		{"URLS --rate 0", 2, `--rate: "0" is not for it: give a number above 0, such as 50 or 0.5`},
		{"URLS --rate NaN", 2, `--rate: "NaN" is not for it: give a number above 0, such as 50 or 0.5`},
		{"URLS --timeout 0s", 2, "--timeout 0s: nothing answers in no time: give more, such as 30s"},
		{"URLS --header Accept", 2, `--header "Accept" is no field: write it as 'Accept-Encoding: gzip'`},
		{"URLS --header a:b\x1b", 2, `--header "a:b\x1b" is no field: write it as 'Accept-Encoding: gzip'`},
		{"URLS --header host:example.org", 2, "--header host:example.org: each URL names its host: leave it out"},
		{"URLS --header content-length:1", 2, "--header content-length:1: the requests have no body: leave it out"},
	} {
		args := strings.NewReplacer("URLS", urls, "BAD", bad).Replace(test.args)
		code, out, msg := try(append([]string{"warm"}, strings.Fields(args)...)...)
		if code != test.code || out != "" || msg != "larder: "+test.want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s\nwant %d\n%s", args, code, out, msg, test.code, test.want)
		}
	}
}

// A counter is an origin that counts what it is asked for.
type counter struct {
	mu    sync.Mutex
	asked map[string]int // guarded by mu
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Host + r.URL.Path + " " + r.Header.Get("Accept-Encoding")
	c.mu.Lock()
	c.asked[name]++
	c.mu.Unlock()
	switch r.URL.Path {
	case "/gone":
		http.Error(w, "gone", http.StatusGone)
		return
	case "/live":
		w.Header().Set("Cache-Control", "no-store")
	default:
		w.Header().Set("Cache-Control", "max-age=600")
	}
	w.Header().Set("Vary", "Accept-Encoding")
	fmt.Fprintf(w, "%100s", name)
}

// serveInProcess starts a Larder before handler, and returns its URL.
func serveInProcess(t *testing.T, handler http.Handler) string {
	t.Helper()
	percent := debug.SetGCPercent(100)
	origin := httptest.NewServer(handler)
	d, err := daemon.New(daemon.Options{
		Origin: origin.URL, Listen: "127.0.0.1:0", Memory: 4 << 20, Drain: time.Minute, Notes: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		origin.Close()
		debug.SetGCPercent(percent)
	})
	return d.URL()
}

// What was warmed is a hit for those who come after, whatever its host, and only
// the variant that was asked for. One line tells, and nothing else where nobody
// watches.
func TestWarm(t *testing.T) {
	origin := counter{asked: map[string]int{}}
	at := serveInProcess(t, &origin)
	hot := "# the hottest of larder, saved at exit\n# 3 URLs\nhttp://a.example/1\nhttps://b.example/1\nhttp://a.example/2\n"
	sitemap := write(t, "sitemap.xml", "<urlset><url><loc>https://a.example/2</loc></url><url><loc>https://a.example/3</loc></url></urlset>")
	for _, want := range []string{"4 fetched, 0 were there already, 0 failed; 400 B", "0 fetched, 4 were there already, 0 failed; 400 B"} {
		var out, msg bytes.Buffer
		code := Main([]string{"warm", "-", sitemap, "--to", at, "--header", "accept-encoding: br"}, strings.NewReader(hot), &out, &msg)
		line := regexp.MustCompile(`^larder: 4 URLs in [0-9.]+m?s: ` + regexp.QuoteMeta(want) + "\n$")
		if code != 0 || out.Len() > 0 || !line.MatchString(msg.String()) {
			t.Errorf("exit code %d, stdout %q, stderr %q, want %s", code, out.String(), msg.String(), want)
		}
	}
	for url, want := range map[string]bool{"a.example/1 br": true, "a.example/2 br": true, "a.example/3 br": true, "b.example/1 br": true, "a.example/1 zstd": false} {
		host, rest, _ := strings.Cut(url, "/")
		path, coding, _ := strings.Cut(rest, " ")
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Accept-Encoding", coding)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if status := resp.Header.Get("Cache-Status"); strings.HasPrefix(status, "larder; hit") != want {
			t.Errorf("%s: Cache-Status %q", url, status)
		}
	}
	for name, n := range origin.asked {
		if n != 1 {
			t.Errorf("the origin was asked %d times for %s", n, name)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// What fails is named, what is not kept counted, and --quiet silences what went
// well alone.
func TestWarmFailures(t *testing.T) {
	at := serveInProcess(t, &counter{asked: map[string]int{}})
	good, bad := write(t, "good", "http://a.example/1\nhttp://a.example/live"), write(t, "bad", "http://a.example/gone")
	for i := range 6 {
		bad += " " + write(t, "more", fmt.Sprintf("http://a.example/gone?%d", i))
	}
	for args, want := range map[string]string{
		good:              `^larder: 2 URLs in .*: [12] fetched \(1 of them not kept\), [01] were there already, 0 failed; 200 B\n$`,
		good + " --quiet": "^$",
		bad:               `^larder: http://a\.example/gone: answered 410 Gone\n(larder: .*\n){4}larder: and 2 more failed\nlarder: 7 URLs in .* 7 failed; .*\n$`,
		bad + " --quiet":  `^(larder: .*\n){7}$`,
	} {
		code, out, msg := try(append([]string{"warm", "--concurrency=1", "--to", at}, strings.Fields(args)...)...)
		wantCode := 0
		if strings.HasPrefix(args, bad) {
			wantCode = 1
		}
		if code != wantCode || out != "" || !regexp.MustCompile(want).MatchString(msg) {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s", args, code, out, msg)
		}
	}
}

// SIGINT ends it in the middle of an answer, and it says how far it came.
func TestWarmStops(t *testing.T) {
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		if r.URL.Path != "/0" {
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that no failure hangs
	defer cancel()
	warm := exec.CommandContext(ctx, larder, "warm", "-", "--to", server.URL, "--concurrency", "1")
	warm.Stdin = strings.NewReader("http://h/0\nhttp://h/1\nhttp://h/2\n")
	var msg bytes.Buffer
	warm.Stderr = &msg
	if err := warm.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	<-asked
	if err := warm.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = warm.Wait() // its exit code is asked for below
	want := regexp.MustCompile(`^larder: stopped: 1 URL in .*: 1 fetched .* 0 failed; 0 B; 2 were left\n$`)
	if code := warm.ProcessState.ExitCode(); code != 1 || !want.MatchString(msg.String()) {
		t.Errorf("exit code %d, stderr %q", code, msg.String())
	}
}

// The line on a terminal has percent, count, rate and time left, and goes away.
func TestWarmBar(t *testing.T) {
	t.Setenv("TERM", "xterm")
	var b bytes.Buffer
	bar := newWarmBar(&b, 4)
	bar.show(warm.Report{Fetched: 1, Left: 3})
	bar.close()
	line, rest, _ := strings.Cut(b.String(), "(0/4)")
	if !strings.HasPrefix(line, "\r   0% |") || !strings.HasSuffix(rest, "\033[2K\r") {
		t.Errorf("%q", b.String())
	}
	for _, test := range []struct {
		report warm.Report
		took   time.Duration
		want   string
	}{
		{warm.Report{Fetched: 30, Hits: 9, Failed: 1, Left: 80}, 2 * time.Second, "20/s, 4s left, 1 failed"},
		{warm.Report{Fetched: 1, Left: 60}, 2 * time.Second, "0.5/s, 2m0s left"},
		{warm.Report{Fetched: 1, Left: 1}, 0, "1000/s, 0s left"},
	} {
		if got := pace(test.report, test.took); got != test.want {
			t.Errorf("%+v in %v: %q, want %q", test.report, test.took, got, test.want)
		}
	}
}

func TestWarmSizesAndTimes(t *testing.T) {
	for octets, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 19: "1.5 MiB", 5 << 50: "5120.0 TiB"} {
		if got := approximate(octets); got != want {
			t.Errorf("%d is %s, want %s", octets, got, want)
		}
	}
	for took, want := range map[time.Duration]string{1234567: "1ms", 1234 * time.Millisecond: "1.2s", 61499 * time.Millisecond: "1m1s"} {
		if got := took.Round(roundTo(took)).String(); got != want {
			t.Errorf("%v is %s, want %s", took, got, want)
		}
	}
}

// Help fits a terminal and names every flag.
func TestWarmHelp(t *testing.T) {
	code, out, msg := try("warm", "--help")
	if code != 0 || msg != "" || !strings.HasPrefix(out, "larder warm SOURCE [flags]\n") {
		t.Errorf("exit code %d, stderr %q:\n%s", code, msg, out)
	}
	for _, flag := range []string{"to URL", "concurrency NUMBER", "rate NUMBER", "header FIELD", "timeout TIME", "quiet"} {
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
