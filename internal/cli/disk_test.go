package cli

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDiskPlaces(t *testing.T) {
	for text, want := range map[string]diskPlace{
		"/var/cache/larder:100GiB": {"/var/cache/larder", 100 << 30},
		"cache:16MiB":              {"cache", 16 << 20},
		"a:b:1TB":                  {"a:b", 1e12},
	} {
		var d diskPlace
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want {
			t.Errorf("%s is %+v, %v, want %+v", text, d, err, want)
		}
	}
	for text, want := range map[string]string{
		"/var/cache/larder": "names no size",
		":10GiB":            "names no size",
		"":                  "names no size",
		"/a:":               "is no size",
		"/a:lots":           "is no size",
		"/a:1MiB":           "too little for a disk: give 16MiB or more",
	} {
		var d diskPlace
		if err := d.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What a disk keeps is there after a restart; two larders cannot share it, and
// the second says so and starts nothing.
func TestDiskOverRestarts(t *testing.T) {
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, "page")
	}))
	defer origin.Close()
	disk := t.TempDir() + ":64MiB"
	p := start(t, origin.URL, "--memory", "1MiB", "--disk", disk)
	page := func() (string, string) {
		r, err := http.NewRequest("GET", p.url+"/page", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "shop.example" // the port is another one after a restart
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body), resp.Header.Get("Cache-Status")
	}
	page()
	if code, _, msg := try("serve", origin.URL, "--listen", "127.0.0.1:0", "--disk", disk); code != 2 || !strings.Contains(msg, "another larder uses it") {
		t.Errorf("exit code %d, %q", code, msg)
	}
	p.stop(t)
	p = start(t, origin.URL, "--memory", "1MiB", "--disk", disk)
	if body, status := page(); body != "page" || !strings.Contains(status, "; hit") {
		t.Errorf("%q, %q after a restart", body, status)
	}
	p.stop(t)
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

func TestDiskThatCannotBeHad(t *testing.T) {
	for disk, want := range map[string]string{
		"/proc/larder:16MiB":       "--disk: ",
		t.TempDir() + ":512TB":     "give a smaller size",
		t.TempDir() + ":9000000TB": "--disk: ",
	} {
		if code, out, msg := try("serve", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--disk", disk); code != 2 || out != "" || !strings.Contains(msg, want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", disk, code, out, msg, want)
		}
	}
}

// A disk that was in use before and cannot be read is no reason not to serve: there
// is one line about it.
func TestDiskThatAils(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") }))
	defer origin.Close()
	dir := t.TempDir()
	p := start(t, origin.URL, "--memory", "1MiB", "--disk", dir+":16MiB")
	p.stop(t)
	if err := errors.Join(os.Remove(filepath.Join(dir, "table")), os.Mkdir(filepath.Join(dir, "table"), 0o700)); err != nil {
		t.Fatal(err)
	}
	p = start(t, origin.URL, "--memory", "1MiB", "--disk", dir+":16MiB")
	resp, err := http.Get(p.url + "/page")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	p.stop(t)
	var notes []string
	for line := range p.notes {
		if strings.Contains(line, "disk "+dir) {
			notes = append(notes, line)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "taken out of use") {
		t.Errorf("notes: %q", notes)
	}
}
