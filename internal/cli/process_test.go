package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// larder is the program, built once.
var larder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "larder-test-")
	if err != nil {
		panic(err)
	}
	larder = filepath.Join(dir, "larder")
	build := exec.Command("go", "build", "-o", larder, "../../cmd/larder")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// A process is a larder that runs.
type process struct {
	*exec.Cmd
	url    string
	notes  chan string // lines of stderr but the two that say where it serves
	stdout strings.Builder
	exited chan error
}

// start runs larder serve, and waits until it says where.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startUnder(t, nil, args...)
}

// startUnder is start for larder as the last arguments of another command.
func startUnder(t *testing.T, command []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that no failure hangs
	t.Cleanup(cancel)
	argv := slices.Concat(command, []string{larder, "serve", "--listen", "127.0.0.1:0", "--admin", "none"}, args)
	p := &process{Cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.notes, p.exited = make(chan string, 100), make(chan error, 1)
	p.Stdout = &p.stdout
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for i := 0; i < 2; {
		if !lines.Scan() {
			t.Fatalf("it ended without saying where it serves: %v", p.Wait())
		}
		_, at, ok := strings.Cut(lines.Text(), " at http")
		switch {
		case ok:
			at, _, _ = strings.Cut(at, " ")
			p.url = "http" + at
			i++
		case p.url != "":
			i++
		default:
			p.notes <- lines.Text()
		}
	}
	go func() {
		for lines.Scan() {
			p.notes <- lines.Text()
		}
		close(p.notes)
		p.exited <- p.Wait()
	}()
	t.Cleanup(func() { _ = p.Process.Kill() }) // it has ended, unless the test failed
	return p
}

// stop sends SIGTERM and wants exit code 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t)
	if err := <-p.exited; err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func (p *process) signal(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// lines are those of the access log, which has to be JSON.
func (p *process) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(p.stdout.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		lines = append(lines, v)
	}
	return lines
}

// get asks once, on a connection of its own.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// The main job: the origin is asked once, the log has a line for each request.
func TestServeURL(t *testing.T) {
	asked := make(chan *http.Request, 10)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	p := start(t, origin.URL)
	for i, want := range []string{"larder; fwd=uri-miss", "larder; hit"} {
		resp, body := get(t, p.url+"/a?b")
		if got := resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, want) || body != "hello" {
			t.Errorf("answer %d: %q, Cache-Status %q, want %q", i, body, got, want)
		}
	}
	p.stop(t)
	if len(asked) != 1 {
		t.Errorf("the origin was asked %d times", len(asked))
	}
	r := <-asked
	if via := r.Header.Get("Via"); r.Host != strings.TrimPrefix(p.url, "http://") || !strings.HasPrefix(via, "1.1 larder-") || len(via) != len("1.1 larder-12345678") {
		t.Errorf("the origin was asked for host %q by %q", r.Host, via)
	}
	lines := p.lines(t)
	if len(lines) != 2 || lines[0]["cache"] != "miss" || lines[1]["cache"] != "hit" || lines[1]["target"] != "/a?b" {
		t.Errorf("the log says %v", lines)
	}
}

func TestServeFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.txt"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "--log", "text", "--explain", "--listing")
	if _, body := get(t, p.url); !strings.Contains(body, "page.txt") {
		t.Errorf("the list is %q", body)
	}
	for i, want := range []string{"fwd=uri-miss", "hit"} {
		resp, body := get(t, p.url+"/page.txt")
		if got := resp.Header.Get("Cache-Status"); body != "hello" || !strings.Contains(got, want) || !strings.Contains(got, "; key=\"/page.txt\"") || !strings.Contains(got, "; detail=") {
			t.Errorf("answer %d: %q, Cache-Status %q, want %s", i, body, got, want)
		}
	}
	if resp, _ := get(t, p.url+"//page.txt"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("two slashes: %d", resp.StatusCode)
	}
	p.stop(t)
	log := p.stdout.String()
	if strings.Count(log, "\n") != 4 || !strings.Contains(log, "  200  hit      GET   /page.txt  ") {
		t.Errorf("the log is\n%s", log)
	}
}

// An origin that is down is no error at the start, and a clear one later.
func TestOriginDown(t *testing.T) {
	p := start(t, "http://"+freePort(t), "--log=off")
	resp, body := get(t, p.url)
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(resp.Header.Get("Proxy-Status"), "error=connection_refused") {
		t.Errorf("%d, Proxy-Status %q, %s", resp.StatusCode, resp.Header.Get("Proxy-Status"), body)
	}
	p.stop(t)
	if p.stdout.Len() > 0 {
		t.Errorf("with --log=off the log is\n%s", p.stdout.String())
	}
}

// slow is an origin that answers when it is told to.
func slow(t *testing.T) (url string, asked, answer chan struct{}) {
	t.Helper()
	asked, answer = make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-answer:
			fmt.Fprint(w, "at last")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(origin.Close)
	return origin.URL, asked, answer
}

// result is what came of a request.
type result struct {
	resp *http.Response
	body string
	err  error
}

func ask(url string) chan result {
	done := make(chan result, 1)
	go func() {
		resp, err := http.Get(url)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		done <- result{resp, string(body), err}
	}()
	return done
}

// SIGTERM lets a running request end.
func TestDrain(t *testing.T) {
	url, asked, answer := slow(t)
	p := start(t, url)
	done := ask(p.url)
	<-asked
	p.signal(t)
	if note := <-p.notes; !strings.HasPrefix(note, "larder: stopping; ") {
		t.Errorf("it says %q", note)
	}
	close(answer)
	r := <-done
	if r.err != nil || r.body != "at last" {
		t.Errorf("the request that was running got %q, %v", r.body, r.err)
	}
	if err := <-p.exited; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if lines := p.lines(t); len(lines) != 1 || lines[0]["status"] != 200.0 {
		t.Errorf("the log says %v", lines)
	}
}

// A request that takes too long is cut off, which is no failure of ours.
func TestDrainTakesTooLong(t *testing.T) {
	url, asked, _ := slow(t)
	p := start(t, url, "--drain", "10ms")
	done := ask(p.url)
	<-asked
	p.signal(t)
	if r := <-done; r.err == nil {
		t.Errorf("the request was answered: %q", r.body)
	}
	if err := <-p.exited; err != nil {
		t.Errorf("it ended with %v", err)
	}
	<-p.notes
	if note := <-p.notes; note != "larder: requests that were still running after 10ms were cut off" {
		t.Errorf("it says %q", note)
	}
	if lines := p.lines(t); len(lines) != 1 {
		t.Errorf("the log says %v", lines)
	}
}

// A second signal stops at once.
func TestSecondSignal(t *testing.T) {
	url, asked, _ := slow(t)
	p := start(t, url, "--drain", "1h")
	done := ask(p.url)
	<-asked
	p.signal(t)
	<-p.notes
	p.signal(t)
	<-done
	var exit *exec.ExitError
	if err := <-p.exited; !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
}

// The program passes on what Main returns.
func TestExitCode(t *testing.T) {
	p := start(t, ".")
	defer p.stop(t)
	out, err := exec.Command(larder, "serve", ".", "--listen", strings.TrimPrefix(p.url, "http://")).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "the port is taken") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v, %s", err, out)
	}
}
