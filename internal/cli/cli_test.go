package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// try runs a command line, and returns what it wrote.
func try(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Main(args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

// freePort is an address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A mistake costs one line that says what is wrong and what to do, exit code 2,
// and nothing is started.
func TestMistakes(t *testing.T) {
	defer goleak.VerifyNone(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		args string // blanks between; ADDR is where nobody listens
		want string
	}{
		{"", "larder: nothing to do: try larder serve http://127.0.0.1:8080, or larder --help"},
		{"srve .", `larder: unexpected argument srve, did you mean "serve"?`},
		{"frobnicate", `larder: "frobnicate" is no command: larder --help lists what there is`},
		{"http://127.0.0.1:1", `larder: "http://127.0.0.1:1" is no command: did you mean larder serve http://127.0.0.1:1?`},
		{"--verbose", "larder: unknown flag --verbose: larder --help lists what there is"},
		{"serve", "larder: serve needs an origin: name a web server, as in larder serve http://127.0.0.1:8080, or a folder, as in larder serve ."},
		{"serve --log", "larder: serve needs an origin: name a web server, as in larder serve http://127.0.0.1:8080, or a folder, as in larder serve ."},
		{"serve . --listen ADDR extra", "larder: unexpected argument extra: leave it out; larder serve --help says what goes there"},
		{"serve . --memry 1GiB", `larder: unknown flag --memry, did you mean "--memory"?`},
		{"serve . --frobnicate", "larder: unknown flag --frobnicate: larder serve --help lists what there is"},
		{"serve . --memory", "larder: --memory: no value, or one that begins with a dash: larder serve --help says what it takes"},
		{"serve . --listen ADDR --memory lots", `larder: --memory: "lots" is no size: write a whole number and a unit (KiB, MiB, GiB, TiB; kB, MB, GB, TB), such as 256MiB or 1GiB`},
		{"serve . --listen ADDR --memory 1.5GiB", `larder: --memory: "1.5GiB" is no size: write a whole number and a unit (KiB, MiB, GiB, TiB; kB, MB, GB, TB), such as 256MiB or 1GiB`},
		{"serve . --listen ADDR --memory -1", "larder: --memory: no value, or one that begins with a dash: larder serve --help says what it takes"},
		{"serve . --listen ADDR --memory 1023KiB", "larder: --memory: 1023KiB is too little to keep anything in: give 1MiB or more"},
		{"serve . --listen ADDR --memory 9999999TiB", "larder: --memory: 9999999TiB is more than there can be: give less"},
		{"serve . --listen ADDR --drain 10", `larder: --drain: "10" is no time: write a number and a unit, such as 10s, 500ms, 1h30m or 7d`},
		{"serve . --listen ADDR --drain=-1s", `larder: --drain: "-1s" is negative: write how long, such as 10s`},
		{"serve . --listen ADDR --log xml", "larder: --log xml: give one of auto, text, json, off"},
		{"serve . --listen ADDR --http3", "larder: --http3 needs https: give a certificate too, with --cert FILE,KEY"},
		{"serve . --listen ADDR --redirect", "larder: --redirect leads to https: give a certificate too, with --cert FILE,KEY"},
		{"serve . --listen ADDR --hsts 1d", "larder: --hsts is about https: give a certificate too, with --cert FILE,KEY"},
		{"serve . --listen ADDR --clients ca.pem", "larder: --clients is about https: give a certificate too, with --cert FILE,KEY"},
		{"serve . --listen ADDR --cert c.pem --hsts 0s", "larder: --hsts 0s: give a second or more, or leave it out"},
		{"serve . --listen ADDR --cert ,k.pem", `larder: --cert ",k.pem": name the file of a certificate and that of its key, as in cert.pem,key.pem`},
		{"serve . --listen ADDR --cert /no/cert.pem,/no/key.pem", "larder: --cert: open /no/cert.pem: no such file or directory"},
		{"serve . --listen ADDR --set soft-ttl", "larder: --set soft-ttl: no value: write --set soft-ttl=VALUE with one of 0s | TIME"},
		{"serve . --listen ADDR --set softttl=1s", `larder: --set softttl=1s: there is no switch "softttl": did you mean soft-ttl?`},
		{"serve . --listen ADDR --set vary=x", `larder: --set vary=x: there is no switch "vary": did you mean vary-headers or vary-cookies or vary-ignore?`},
		{"serve . --listen ADDR --set xyzzy=1", `larder: --set xyzzy=1: there is no switch "xyzzy": larder switches lists them`},
		{"serve . --listen ADDR --limit xyzzy=1", `larder: --limit xyzzy=1: there is no limit "xyzzy": larder limits lists them`},
		{"serve . --listen ADDR --limit head=1", `larder: --limit head=1: "1" is not for head: give a size from 8KiB to 1MiB`},
		{"serve . --listen ADDR --set emit-age=no", `larder: --set emit-age=no: "no" is not for emit-age: give one of on | off`},
		{"serve . --listen ADDR --set soft-ttl=1", `larder: --set soft-ttl=1: "1" is not for soft-ttl: give a time with its unit, such as 10s, 500ms or 24h`},
		{"serve . --listen ADDR --set collapse-timeout=0s", `larder: --set collapse-timeout=0s: "0s" is not for collapse-timeout: give a time above zero; what you mean may be collapse=off`},
		{"serve . --listen ADDR --set max-ranges=0", `larder: --set max-ranges=0: "0" is not for max-ranges: give a number from 1 to 1000`},
		{"serve . --listen ADDR --set vary-ignore=a,,b", `larder: --set vary-ignore=a,,b: "a,,b" is not for vary-ignore: give field names with commas between them, or none`},
		{"serve . --listen ADDR --set trusted-proxies=me", `larder: --set trusted-proxies=me: "me" is not for trusted-proxies: give addresses or networks with commas between them, such as 10.0.0.0/8,2001:db8::/32, or none`},
		{"serve . --listen ADDR --set upgrade=a=b", `larder: --set upgrade=a=b: "a=b" is not for upgrade: give protocols, such as websocket, with commas between them, or none`},
		{"serve . --listen ADDR --set cdn-loop-id=;", `larder: --set cdn-loop-id=;: ";" is not for cdn-loop-id: give a host name, such as cache.example.org, or none`},
		{"serve . --listen ADDR --set collapse=on --set collapse=off", "larder: --set collapse=off: collapse is set twice: leave one out"},
		{"serve . --listen ADDR --host example.org", "larder: --host example.org: storage knows no hosts; leave it out"},
		{"serve http://127.0.0.1:1 --listen ADDR --host a/b", `larder: --host "a/b" is no host: write it as example.org or example.org:8080`},
		{"serve nowhere --listen ADDR", `larder: folder "nowhere" does not exist; create it or name another`},
		{"serve " + file + " --listen ADDR", fmt.Sprintf("larder: %q is a file, not a folder; name the folder that it is in", file)},
		{"serve localhost:8080 --listen ADDR", `larder: "localhost:8080" is neither a URL nor a folder: for a web server write http://localhost:8080`},
		{"serve gopher://example.org --listen ADDR", `larder: gopher: is no kind of storage; there are file, ftp, ftpes, ftps, hdfs, s3, sftp, tar, webdav, webdavs, zip, and http and https for a web server`},
		{"serve http://127.0.0.1:1 --write", "larder: --write is for storage; http://127.0.0.1:1 is a web server, which decides by itself"},
		{"serve . --listen ADDR --disk ./cache:1GiB", "larder: --disk ./cache: it is inside the folder that is served, and would be served with it; name one outside of ."},
		{"gateway http://me:secret@127.0.0.1:1", "larder: http://me@127.0.0.1:1 is a web server already; larder serve caches what it answers"},
		{"serve file:/nope", `larder: folder "/nope" does not exist; create it or name another`},
		{"serve zip:nosuch.zip", `larder: archive "nosuch.zip" does not exist; name another`},
		{"serve nosuch.zip", `larder: archive "nosuch.zip" does not exist; name another`},
		{"serve example.org", `larder: folder "example.org" does not exist; create it, or for a web server write http://example.org`},
		{"gateway", "larder: gateway needs storage: name a folder, as in larder gateway ., or another kind, as in larder gateway s3://bucket"},
		{"gateway http://127.0.0.1:1", "larder: http://127.0.0.1:1 is a web server already; larder serve caches what it answers"},
		{"gateway . --fresh 1h", `larder: --fresh: "1h" has no time: write it as *.css=1h`},
		{"gateway . --fresh [=1h", `larder: --fresh: "[" is no pattern: write it as *.css, assets/** or **`},
		{"gateway . --fresh a=b", `larder: --fresh: "b" is no time: write a number and a unit, such as 10s, 500ms, 1h30m or 7d`},
		{"gateway . --download [", `larder: --download: "[" is no pattern: write it as *.css, assets/** or **`},
		{"gateway . --precompressed maybe", "larder: --precompressed maybe: give one of on, off, auto"},
		{"gateway rclone:x:y", "larder: rclone is not built into this program: larder-rclone has it (cd gateway/rclone && go build -o ../../bin/ ./cmd/larder-rclone)"},
		{"serve http:// --listen ADDR", `larder: origin "http:": no host; write it as http://host:port`},
		{"serve http://[ --listen ADDR", `larder: "http://[" is no URL: write it as http://host:port`},
		{"serve . --listen 8000", `larder: --listen "8000" is no address: write host:port, such as 127.0.0.1:8000 or :8000`},
		{"serve . --listen 127.0.0.1:99999", `larder: --listen "127.0.0.1:99999" is no address: write host:port, such as 127.0.0.1:8000 or :8000`},
		{"serve . --listen 192.0.2.1:8000", "larder: --listen 192.0.2.1:8000: this machine does not have the address: take 127.0.0.1:8000, or :8000 for all it has"},
		{"serve . --listen " + taken.Addr().String(), "larder: --listen " + taken.Addr().String() + ": the port is taken: stop what has it, or name another, such as 127.0.0.1:8001 (port 0 is any free one)"},
	} {
		t.Run(test.args, func(t *testing.T) {
			addr := freePort(t)
			code, out, msg := try(strings.Fields(strings.ReplaceAll(test.args, "ADDR", addr))...)
			if code != 2 || out != "" || msg != test.want+"\n" {
				t.Errorf("exit code %d, stdout %q, stderr\n%s\nwant\n%s", code, out, msg, test.want)
			}
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatalf("something listens: %v", err)
			}
			l.Close()
		})
	}
}

// Help names every command, every flag and every switch, fits a terminal, and
// is not told on stderr.
func TestHelp(t *testing.T) {
	for args, wants := range map[string][]string{
		"--help":         {"larder serve http://127.0.0.1:8080", "switches", "version", "--version"},
		"-h":             {"larder serve ."},
		"serve --help":   {"larder serve ORIGIN [flags]", "--listen ADDR", "--memory SIZE", "--log FORM", "--set SWITCH=VALUE", "--host NAME", "--explain", "--drain TIME", "--help"},
		"switches -h":    {"larder switches"},
		"limits":         {"head = 32KiB | SIZE", "connections = 10000 | NUMBER"},
		"switches":       {"surrogate-control = off | on", "request-directives = load-safe | ignore | honor"},
		"version --help": {"larder version"},
	} {
		code, out, msg := try(strings.Fields(args)...)
		if code != 0 || msg != "" {
			t.Errorf("%s: exit code %d, stderr %q", args, code, msg)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q:\n%s", args, want, out)
			}
		}
		for line := range strings.Lines(out) {
			if len(line) > 121 || strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("%s: a line is too long, or ends in blanks: %q", args, line)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"--version", "version"} {
		if code, out, msg := try(args); code != 0 || msg != "" || !strings.HasPrefix(out, "larder "+release+" (") && !strings.HasPrefix(out, "larder "+release+" ") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, out, msg)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]string{
		"1048576": "1MiB", "1048577": "1048577B", "64MiB": "64MiB", "1GiB": "1GiB", "512MB": "512MB", "2048KiB": "2MiB", "1TB": "1TB",
		"5MB": "5MB", "3000kB": "3MB",
	} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != want {
			t.Errorf("%s is %v, %v, want %s", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "1 MiB", "1mib", "1MiBi", "0x100000", "1e9", "+1MiB", "9223372036854775808", "8589934592GiB"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("64MiB")
	f.Fuzz(func(t *testing.T, text string) {
		var s, again size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s || s < minMemory {
			t.Errorf("%q is %v, which is %v, %v", text, s, again, err)
		}
	})
}

func TestBareLog(t *testing.T) {
	for args, want := range map[string]string{
		"serve . --log":             "serve . --log=auto",
		"serve --log http://h":      "serve --log=auto http://h",
		"serve . --log --explain":   "serve . --log=auto --explain",
		"serve . --log json":        "serve . --log json",
		"serve . --log=text":        "serve . --log=text",
		"serve . --log xml":         "serve . --log xml",
		"serve -- --log":            "serve -- --log",
		"serve . --set a=b --log -": "serve . --set a=b --log=auto -",
	} {
		if got := strings.Join(bareLog(strings.Fields(args)), " "); got != want {
			t.Errorf("%s becomes %s, want %s", args, got, want)
		}
	}
}
