package cli

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// accessLog is a log of n requests, the Combined way, for some objects.
func accessLog(n, objects int) string {
	var b strings.Builder
	for i := range n {
		o := i * i % objects
		fmt.Fprintf(&b, `192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] "GET /%d HTTP/1.1" 200 %d "-" "curl"`+"\n", o, 1000+o*100)
	}
	return b.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A mistake costs one line that says what is wrong and what to do; exit code 2
// says that nothing was read, 1 that what was read is of no use.
func TestSimulateMistakes(t *testing.T) {
	log, prose, dir := write(t, "access.log", accessLog(10, 3)), write(t, "prose", "Dear reader,\n"), t.TempDir()
	posts := write(t, "posts", `{"target":"/","method":"POST"}`)
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "simulate needs a log: name one, as in larder simulate access.log"},
		{"nowhere.log", 2, "nowhere.log cannot be opened: no such file or directory: name an access log, or - for stdin"},
		{dir, 2, dir + " is a folder: name the logs in it, the oldest first"},
		{"- -", 2, "-: stdin can be read once only: leave one out"},
		{"LOG --policy shd,fifo", 2, "--policy fifo: there is no such policy: give some of shd, lru, sieve, s3-fifo"},
		{"LOG --format xml", 2, "--format xml: give one of combined, json, text, u32x3"},
		{"LOG --share 3", 2, `--share: "3" is no share: write a number up to 100 and a percent sign, such as 0.3%`},
		{"LOG --share 0%", 2, `--share: "0%" is no share: write a number up to 100 and a percent sign, such as 0.3%`},
		{"LOG --share 101%", 2, `--share: "101%" is no share: write a number up to 100 and a percent sign, such as 0.3%`},
		{"LOG --share NaN%", 2, `--share: "NaN%" is no share: write a number up to 100 and a percent sign, such as 0.3%`},
		{"LOG --memory 64MiB,1kB", 2, "--memory: 1kB is too little to keep anything in: give 1MiB or more"},
		{"LOG --overhead 0B", 2, "--overhead: 0 is too little: give 1B or more"},
		{"LOG --alpha 2", 2, `--alpha: "2" is not for it: give a number from 0 to 1`},
		{"LOG --alpha NaN", 2, `--alpha: "NaN" is not for it: give a number from 0 to 1`},
		{"LOG --field uri", 2, "--field uri: no name: write it as --field target=NAME"},
		{"LOG --field size=n", 2, `--field size=n: "size" is not needed: give one of host, method, target, status, bytes`},
		{"LOG --chart x.svg --share 1%", 2, "--chart x.svg: one size makes no curve: name two or more, as in --memory 256MiB,1GiB, or none"},
		{"LOG --chart " + dir + "/no/x.svg", 1, "--chart: open " + dir + "/no/x.svg: no such file or directory: name a file in a folder that you may write to"},
		{"LOG --frobnicate", 2, "unknown flag --frobnicate: larder simulate --help lists what there is"},
		{prose, 1, prose + ": it looks like no log that is known here: name its form with --format (combined, json, text or u32x3)"},
		{"LOG --format json", 1, log + ": nothing of it can be read as json, from the first on (" + log + ":1: no object in JSON): name another form with --format"},
		{posts, 1, "there is no request that a cache could answer: of 1 lines 1 have another method than GET or HEAD, 0 a status that is not kept, 0 passed the cache by, 0 cannot be read"},
	} {
		code, out, msg := try(append([]string{"simulate"}, strings.Fields(strings.ReplaceAll(test.args, "LOG", log))...)...)
		if code != test.code || out != "" || msg != "larder: "+test.want+"\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%swant %d\n%s", test.args, code, out, msg, test.code, test.want)
		}
	}
}

// Logs in, figures out: those of all files together, at the sizes that were
// asked for.
func TestSimulate(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := io.WriteString(w, accessLog(3000, 500)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	older, newer := write(t, "access.log.1.gz", z.String()), write(t, "access.log", accessLog(2000, 500))
	chart := filepath.Join(t.TempDir(), "hits.svg")

	code, out, msg := try("simulate", older, newer, "--chart", chart)
	if code != 0 || msg != "" {
		t.Fatalf("exit code %d, stderr %q", code, msg)
	}
	for _, want := range []string{"access.log.1.gz and 1 more (combined)\n", "requests   5,000,", " shd ", " lru ", " sieve ", " s3-fifo\n", " 0.1 % ", " 10 % ", "Object hit ratio, %", "ns per request"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if svg, err := os.ReadFile(chart); err != nil || !bytes.HasPrefix(svg, []byte("<svg ")) || !bytes.HasSuffix(svg, []byte("</svg>\n")) {
		t.Errorf("the drawing is %q, %v", svg, err)
	}

	code, out, msg = try("simulate", newer, "--json", "--memory", "2MiB,1MiB,2MiB", "--share", "1%", "--policy", "lru,shd,lru", "--overhead", "100B", "--max-object", "1MiB", "--alpha", "0")
	var got struct {
		Trace struct{ Requests, Footprint int64 }
		Alpha float64
		Max   int64 `json:"max_object"`
		Over  int64 `json:"overhead"`

		Results []struct {
			Policy string
			Memory int64
			Hits   int64
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || msg != "" {
		t.Fatalf("exit code %d, stderr %q, %v:\n%s", code, msg, err, out)
	}
	if got.Trace.Requests != 2000 || got.Alpha != 0 || got.Max != 1<<20 || got.Over != 100 || len(got.Results) != 6 {
		t.Errorf("%+v", got)
	}
	for i, want := range []string{"lru", "shd"} {
		if r := got.Results[i]; r.Policy != want || r.Memory != (got.Trace.Footprint+50)/100 {
			t.Errorf("result %d is %+v", i, r)
		}
		if r := got.Results[4+i]; r.Policy != want || r.Memory != 2<<20 {
			t.Errorf("result %d is %+v", 4+i, r)
		}
	}
}

// What comes through a pipe is a log like others.
func TestSimulateStdin(t *testing.T) {
	var out, msg bytes.Buffer
	code := Main([]string{"simulate", "-", "--share=5%", "--field", "target=p.q"}, strings.NewReader(`{"p":{"q":"/a"}}`+"\n"+`{"p":{"q":"/a"}}`), &out, &msg)
	if code != 0 || msg.Len() != 0 || !strings.HasPrefix(out.String(), "stdin (json)\n") || !strings.Contains(out.String(), "objects    1, of 10 KiB together") {
		t.Errorf("exit code %d, stderr %q:\n%s", code, msg.String(), out.String())
	}
}

// Help fits a terminal and names every flag.
func TestSimulateHelp(t *testing.T) {
	code, out, msg := try("simulate", "--help")
	if code != 0 || msg != "" || !strings.HasPrefix(out, "larder simulate TRACE [flags]\n") {
		t.Errorf("exit code %d, stderr %q:\n%s", code, msg, out)
	}
	for _, flag := range []string{"memory SIZE,...", "share PERCENT,...", "policy NAME,...", "overhead SIZE", "max-object SIZE", "alpha NUMBER", "unknown-size SIZE", "format FORM", "field WHAT=NAME", "chart FILE.svg", "json"} {
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

// Who waits is told what goes on, and who does not wait is not.
func TestPatience(t *testing.T) {
	var b bytes.Buffer
	p := patience{w: &b, last: time.Now()}
	p.say("%d requests are read", 1)
	p.last = p.last.Add(-patienceSpan)
	p.say("%d requests are read", 2)
	p.say("%d requests are read", 3)
	if b.String() != "larder: 2 requests are read\n" {
		t.Errorf("%q", b.String())
	}
}
