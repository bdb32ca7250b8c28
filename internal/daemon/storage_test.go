package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/file"
	"github.com/larderhq/larder/internal/observe"
)

// running is a Daemon over a folder, until the test ends.
type running struct {
	t   *testing.T
	dir string
	d   *Daemon
}

func runOver(t *testing.T, source func(*file.Source) gateway.Source, o Options) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir()}
	src, err := file.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Storage, o.Listen, o.Memory, o.Drain, o.Notes = src, "127.0.0.1:0", 1<<20, time.Minute, slog.New(slog.DiscardHandler)
	if source != nil {
		o.Storage = source(src)
	}
	if r.d, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

func (r *running) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

// do asks, and returns status, body, and what Cache-Status says.
func (r *running) do(method, path, content string) (int, string, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.d.URL()+path, strings.NewReader(content))
	if err != nil {
		r.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header.Get("Cache-Status")
}

func (r *running) want(path, text, status string) {
	r.t.Helper()
	if code, body, cs := r.do("GET", path, ""); body != text || !strings.Contains(cs, status) {
		r.t.Errorf("%s: %d %q, Cache-Status %q; want %q, %s", path, code, body, cs, text, status)
	}
}

// until asks until the answer is text. The event that brings it about is the only one.
func (r *running) until(path, text string) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		_, body, _ := r.do("GET", path, "")
		if body == text {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s is still %q", path, body)
		}
	}
}

var hour = gateway.Options{Default: time.Hour, Write: true}

// Changes that others make in a folder are seen at once, however long answers are fresh.
func TestChangesInTheFolderAreForgotten(t *testing.T) {
	r := runOver(t, nil, Options{Gateway: hour})
	r.write("f", "one")
	r.until("/f", "one")
	r.want("/f", "one", "; hit")
	r.write("f", "two")
	r.until("/f", "two")
	r.write("sub/g", "three")
	r.until("/sub/g", "three")
	if err := os.Rename(filepath.Join(r.dir, "sub"), filepath.Join(r.dir, "other")); err != nil {
		t.Fatal(err)
	}
	r.until("/sub/g", "Not Found: there is nothing of this name\n")
	r.until("/other/g", "three")
}

// still is a folder that tells of no change by itself, but can post notifications.
type still struct{ gateway.Writer }

func (still) Changes(b []byte) ([]gateway.Change, error) {
	var names []string
	err := json.Unmarshal(b, &names)
	var changes []gateway.Change
	for _, n := range names {
		changes = append(changes, gateway.Change{Name: n})
	}
	return changes, err
}

func quiet(s *file.Source) gateway.Source { return still{s} }

// Who writes through Larder reads what was written, in each of its forms.
func TestWritesAreForgottenAtOnce(t *testing.T) {
	o := hour
	o.Listing, o.Precompressed = true, gateway.Codings()
	r := runOver(t, quiet, Options{Gateway: o})
	for i, text := range []string{"one", "two"} {
		if code, _, _ := r.do("PUT", "/dir/f%20g", text); code != []int{201, 204}[i] {
			t.Errorf("PUT: %d", code)
		}
		r.want("/dir/f%20g", text, "fwd=")
		r.want("/dir/%66%20g?x", text, "; hit")
	}
	_, before, _ := r.do("GET", "/dir/", "")
	r.want("/dir/", before, "; hit")
	if code, _, _ := r.do("PUT", "/dir/h", ""); code != 201 {
		t.Errorf("PUT: %d", code)
	}
	if _, after, _ := r.do("GET", "/dir/", ""); after == before || !strings.Contains(after, ">h<") {
		t.Errorf("the folder is shown as before")
	}
	if code, _, _ := r.do("DELETE", "/dir/f%20g", ""); code != 204 {
		t.Errorf("DELETE: %d", code)
	}
	r.want("/dir/f%20g", "Not Found: there is nothing of this name\n", "fwd=")
}

// post sends a notification to the admin API and returns the status.
func post(t *testing.T, c *http.Client, url, token, kind, body string, more ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(more); i += 2 {
		req.Header.Set(more[i], more[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// Notifications that the storage posts have what they name forgotten; nobody else can
// post them.
func TestNotificationsAreTaken(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	for _, where := range []string{socket, "127.0.0.1:0"} {
		t.Run(where, func(t *testing.T) {
			r := runOver(t, quiet, Options{Gateway: hour, Admin: where, AdminToken: "secret-secret-secret"})
			client, url, token := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+r.d.adminListener.Addr().String(), "secret-secret-secret"
			if where == socket {
				dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", socket)
				}
				client.Transport = &http.Transport{DialContext: dial, DisableKeepAlives: true}
				url, token = "http://larder", ""
				if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%v %v", info, err)
				}
			}
			url += "/v1/events"
			r.write("f", "one")
			r.write("g", "one")
			r.want("/f", "one", "fwd=")
			r.want("/g", "one", "fwd=")
			r.write("f", "two")
			r.write("g", "two")
			for _, c := range []struct {
				token, kind, body string
				more              []string
				want              int
			}{
				{token, "text/plain", `["f"]`, nil, 415},
				{token, "application/x-www-form-urlencoded", `["f"]`, nil, 415},
				{token, "application/json", `no json`, nil, 400},
				{token, "application/json", `["` + strings.Repeat("x", 1<<20) + `"]`, nil, 413},
				{token, "application/json", `["f"]`, []string{"Origin", "http://evil.example"}, 401},
				{token, "application/json", `["f"]`, []string{"Sec-Fetch-Site", "cross-site"}, 401},
			} {
				if got := post(t, client, url, c.token, c.kind, c.body, c.more...); got != c.want {
					t.Errorf("%.40v: %d, want %d", c, got, c.want)
				}
			}
			if where != socket {
				for _, wrong := range []string{"", "wrong", "secret-secret-secret2"} {
					if got := post(t, client, url, wrong, "application/json", `["f"]`); got != 401 {
						t.Errorf("with token %q: %d", wrong, got)
					}
				}
			}
			r.want("/f", "one", "; hit")
			if got := post(t, client, url, token, "application/json; charset=utf-8", `["f","none"]`); got != 200 {
				t.Errorf("got %d", got)
			}
			r.want("/f", "two", "fwd=")
			r.want("/g", "one", "; hit")
		})
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket was left behind: %v", err)
	}
}

func TestAdminNeedsAToken(t *testing.T) {
	src, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Storage: src, Listen: "127.0.0.1:0", Memory: 1 << 20, Admin: "127.0.0.1:0", Notes: slog.Default()})
	if e := (*Error)(nil); !errors.As(err, &e) || e.Option != "Admin" || !strings.Contains(err.Error(), "LARDER_ADMIN_TOKEN") {
		t.Errorf("%v", err)
	}
}

// Without a cache each request asks the storage, and is in the log.
func TestUncached(t *testing.T) {
	var log bytes.Buffer
	t.Cleanup(func() { // when Run is over
		if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[2], "404") {
			t.Errorf("the log is\n%s", log.String())
		}
	})
	r := runOver(t, nil, Options{Uncached: true, Gateway: hour, Log: observe.NewLog(&log, observe.JSON)})
	r.write("f", "one")
	r.want("/f", "one", "")
	r.write("f", "two")
	r.want("/f", "two", "")
	if code, _, cs := r.do("GET", "/none", ""); code != 404 || cs != "" {
		t.Errorf("%d %q", code, cs)
	}
}

// What nobody can ask for may change as it likes, and what changes inside a file does not
// touch its folder.
func TestChangesThatShowNowhereForgetNothing(t *testing.T) {
	r := runOver(t, nil, Options{Gateway: hour})
	r.write("index.html", "index")
	r.write("f", "one")
	r.write("log", "")
	r.until("/f", "one")
	r.until("/", "index")
	r.write(".git/objects/ab", "")
	r.write(gateway.Draft+"x", "")
	r.write("log", "line")
	r.until("/log", "line")
	r.want("/f", "one", "; hit")
	r.want("/", "index", "; hit")
}

// However a client words what it accepts, there is one answer for each coding.
func TestWordingsShareAnswers(t *testing.T) {
	o := hour
	o.Precompressed, o.Listing = gateway.Codings(), true
	r := runOver(t, quiet, Options{Gateway: o})
	r.write("f.txt", "plain")
	r.write("f.txt.gz", "gzipped")
	for i, c := range []struct{ encoding, accept, path, text string }{
		{"gzip", "", "/f.txt", "gzipped"},
		{"gzip;q=0.3, x1", "", "/f.txt", "gzipped"},
		{"x2, gzip;q=0.7, deflate", "text/x", "/f.txt", "gzipped"},
		{"", "", "/f.txt", "plain"},
		{"x3", "", "/f.txt", "plain"},
		{"identity, x4;q=1", "", "/f.txt", "plain"},
		{"", "text/html", "/", ""},
		{"x5", "text/x6, */*", "/", ""},
		{"", "application/json", "/", ""},
		{"", "application/*;q=0.5, x/y", "/", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.d.URL()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]string{"Accept-Encoding": c.encoding, "Accept": c.accept} {
			if v != "" {
				req.Header.Set(name, v)
			}
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		first := i == 0 || i == 3 || i == 6 || i == 8
		if hit := strings.Contains(resp.Header.Get("Cache-Status"), "; hit"); err != nil || hit == first || c.text != "" && string(body) != c.text {
			t.Errorf("%+v: %q, %s (%v)", c, body, resp.Header.Get("Cache-Status"), err)
		}
	}
}

// One disk may serve one storage after another: each finds its own.
func TestStorageIsKeptApart(t *testing.T) {
	site := func(name string, change func(*gateway.Options)) string {
		o := Options{StorageName: name}
		if change != nil {
			change(&o.Gateway)
		}
		return (&Daemon{opt: o}).site()
	}
	all := map[string]string{}
	for what, s := range map[string]string{
		"one":     site("s3://one", nil),
		"another": site("s3://another", nil),
		"listed":  site("s3://one", func(o *gateway.Options) { o.Listing = true }),
		"fresh":   site("s3://one", func(o *gateway.Options) { o.Fresh = []gateway.Rule{{Pattern: "**", For: time.Hour}} }),
		"hidden":  site("s3://one", func(o *gateway.Options) { o.Dotfiles = true }),
		"saved":   site("s3://one", func(o *gateway.Options) { o.Download = []string{"*"} }),
		"coded":   site("s3://one", func(o *gateway.Options) { o.Precompressed = []string{"br"} }),
	} {
		if other, ok := all[s]; ok {
			t.Errorf("%s and %s have one site", what, other)
		}
		all[s] = what
	}
	if again := site("s3://one", nil); all[again] != "one" {
		t.Error("it is not found again")
	}
}
