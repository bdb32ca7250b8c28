package engine_test

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// parameters reads one member of Cache-Status or Proxy-Status with a reader of
// its own (RFC 9651 §4.2), which takes nothing that is not valid. A parameter
// without a value is "?1"; strings keep their quotes.
func parameters(t *testing.T, member string) (name string, params map[string]string) {
	t.Helper()
	rest := member
	item := func() string {
		if rest == "" {
			t.Fatalf("%q ends where a value is due", member)
		}
		if rest[0] == '"' {
			for i := 1; i < len(rest); i++ {
				switch c := rest[i]; {
				case c == '"':
					v := rest[:i+1]
					rest = rest[i+1:]
					return v
				case c == '\\':
					if i++; i == len(rest) || rest[i] != '"' && rest[i] != '\\' {
						t.Fatalf("bad escape in %q", member)
					}
				case c < ' ' || c > '~':
					t.Fatalf("octet %#x in a string of %q", c, member)
				}
			}
			t.Fatalf("a string of %q has no end", member)
		}
		n := strings.IndexByte(rest+";", ';')
		v := rest[:n]
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			for i, c := range []byte(v) {
				letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '*'
				if !letter && (i == 0 || !strings.ContainsRune("0123456789!#$%&'+-.^_`|~:/", rune(c))) {
					t.Fatalf("%q in %q is neither token nor integer", v, member)
				}
			}
		}
		rest = rest[n:]
		return v
	}
	name, params = item(), map[string]string{}
	for rest != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, ";"); !ok {
			t.Fatalf("%q where a parameter is due in %q", rest, member)
		}
		rest = strings.TrimLeft(rest, " ")
		n := strings.IndexAny(rest+";", ";=")
		key := rest[:n]
		if key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.*") != "" {
			t.Fatalf("key %q in %q", key, member)
		}
		if _, twice := params[key]; twice {
			t.Fatalf("%s twice in %q", key, member)
		}
		params[key] = "?1"
		if rest = rest[n:]; strings.HasPrefix(rest, "=") {
			rest = rest[1:]
			params[key] = item()
		}
	}
	return name, params
}

// wantParams fails the test unless our member of Cache-Status has these
// parameters and no others. "?" is any value.
func wantParams(t *testing.T, a *sim.Answer, want ...string) {
	t.Helper()
	_, got := parameters(t, a.CacheStatus())
	for _, w := range want {
		key, value, valued := strings.Cut(w, "=")
		if !valued {
			value = "?1"
		}
		if v, ok := got[key]; !ok || value != "?" && v != value {
			t.Fatalf("%s is %q (present %v), want %q in %q", key, v, ok, value, a.CacheStatus())
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Fatalf("%v should not be in %q", got, a.CacheStatus())
	}
}

func TestSTS01_OneMemberOfOursAfterOthers(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Name = "edge-1" }, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Cache-Status: inner; hit, x; fwd=miss", "Cache-Status: nearer; fwd=uri-miss"}})
		for _, a := range []*sim.Answer{w.Get("/a"), w.Get("/a"), w.Do("HEAD", "/a", ""), w.Do("POST", "/b", "x"), w.Get("/c", "If-Match: *")} {
			lines := a.Header["Cache-Status"]
			if len(lines) != 3 || lines[0] != "inner; hit, x; fwd=miss" || lines[1] != "nearer; fwd=uri-miss" {
				t.Errorf("Cache-Status %q", lines)
			}
			if name, _ := parameters(t, a.CacheStatus()); name != "edge-1" {
				t.Errorf("named %q in %q", name, a.CacheStatus())
			}
		}
	})
}

func TestSTS02_ValidWhateverTheNameAndTheKey(t *testing.T) {
	for name, want := range map[string]string{
		"edge":              "edge",
		"edge.example:443":  "edge.example:443",
		"1 edge":            `"1 edge"`,
		`say "hi" \ o/`:     `"say \"hi\" \\ o/"`,
		"br\u00fccke\n\x00": `"br%C3%BCcke%0A%00"`,
		"a,b;c=d":           `"a,b;c=d"`,
	} {
		t.Run(name, func(t *testing.T) {
			configure := func(c *engine.Config) { c.Name, c.Explain = name, true }
			sim.RunWith(t, configure, func(w *sim.World) {
				w.Origin(minute)
				for _, target := range []string{"/", `/"q"`, `/a?b=%22;fwd=c,d="`, "/a;b=c?", "/'"} {
					for _, a := range []*sim.Answer{w.Get(target), w.Get(target), w.Do("DELETE", target, "")} {
						got, params := parameters(t, a.CacheStatus())
						if got != want {
							t.Errorf("identifier %q, want %q", got, want)
						}
						key := `"http://` + sim.Host + strings.NewReplacer(`"`, `\"`).Replace(target) + `"`
						if params["key"] != key {
							t.Errorf("key %s, want %s", params["key"], key)
						}
					}
				}
				w.Origin(sim.Reply{Err: errors.New("down")})
				if got, params := parameters(t, w.Get("/x").Header.Get("Proxy-Status")); got != want || params["error"] == "" {
					t.Errorf("Proxy-Status of %q with %v", got, params)
				}
			})
		})
	}
}

func TestSTS03_HitOrForwarded(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		page := sim.Reply{Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=10", `ETag: "1"`, "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"}, Body: "page"}
		w.Origin(page)
		hit := map[string]*sim.Answer{}
		forwarded := map[string]*sim.Answer{"miss": w.Get("/a")}
		hit["fresh"] = w.Get("/a")
		hit["head"] = w.Do("HEAD", "/a", "")
		hit["304"] = w.Get("/a", `If-None-Match: "1"`)
		hit["206"] = w.Get("/a", "Range: bytes=1-2")
		hit["several ranges"] = w.Get("/a", "Range: bytes=0-0,3-3")
		hit["416"] = w.Get("/a", "Range: bytes=9-")
		hit["max-stale"] = w.Get("/a", "Cache-Control: max-stale")
		forwarded["method"] = w.Do("OPTIONS", "/a", "")
		forwarded["guarded"] = w.Get("/a", `If-Match: "1"`)
		w.Advance(65 * time.Second)
		hit["while validating"] = w.Get("/a")
		w.Settle()
		w.Advance(80 * time.Second)
		w.Origin(sim.Reply{Err: errors.New("down")})
		forwarded["stale for an error"] = w.Get("/a").Want(200, "page")
		w.Origin(sim.Reply{Status: 304})
		forwarded["validated"] = w.Get("/a").Want(200, "page")
		for name, a := range hit {
			_, params := parameters(t, a.CacheStatus())
			if _, fwd := params["fwd"]; fwd || params["hit"] != "?1" {
				t.Errorf("%s: %d, %q", name, a.Status, a.CacheStatus())
			}
		}
		for name, a := range forwarded {
			_, params := parameters(t, a.CacheStatus())
			if _, hit := params["hit"]; hit || params["fwd"] == "" {
				t.Errorf("%s: %d, %q", name, a.Status, a.CacheStatus())
			}
		}
	})
}

func TestSTS04_EachReason(t *testing.T) {
	for reason, c := range map[string]struct {
		terms rules.Terms
		ask   func(w *sim.World) *sim.Answer
	}{
		"bypass": {ask: func(w *sim.World) *sim.Answer { return w.Do("GET", "/a", "content") }},
		"bypass (range-mode)": {rules.Terms{Ranges: rules.RangesPass}, func(w *sim.World) *sim.Answer {
			return w.Get("/a", "Range: bytes=0-0")
		}},
		"bypass (conditional-mode)": {rules.Terms{PassConditionals: true}, func(w *sim.World) *sim.Answer {
			return w.Get("/a", `If-None-Match: "1"`)
		}},
		"method":    {ask: func(w *sim.World) *sim.Answer { return w.Do("PUT", "/a", "content") }},
		"uri-miss":  {ask: func(w *sim.World) *sim.Answer { return w.Get("/other") }},
		"vary-miss": {ask: func(w *sim.World) *sim.Answer { return w.Get("/a", "X: 2") }},
		"request":   {ask: func(w *sim.World) *sim.Answer { return w.Get("/a", "X: 1", `If-Match: "1"`) }},
		"request (honor)": {rules.Terms{Requests: rules.HonorRequests}, func(w *sim.World) *sim.Answer {
			return w.Get("/a", "X: 1", "Cache-Control: no-cache")
		}},
		"request (reload)": {rules.Terms{ClientReload: true}, func(w *sim.World) *sim.Answer {
			return w.Get("/a", "X: 1", "Pragma: no-cache")
		}},
		"stale": {ask: func(w *sim.World) *sim.Answer {
			w.Advance(time.Hour)
			return w.Get("/a", "X: 1")
		}},
		"partial": {ask: func(w *sim.World) *sim.Answer {
			part := sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 0-1/4"}, Body: "pa"}
			w.Origin(part)
			w.Get("/part", "Range: bytes=0-1").Want(206, "pa")
			w.Origin(sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 2-3/4"}, Body: "ge"})
			return w.Get("/part")
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			sim.RunWith(t, func(cfg *engine.Config) { cfg.Terms = c.terms }, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Vary: X", `ETag: "1"`}, Body: "page"})
				w.Get("/a", "X: 1").WantMiss("uri-miss")
				w.Get("/a", "X: 1").WantHit()
				fwd, _, _ := strings.Cut(reason, " ")
				c.ask(w).WantMiss(fwd)
			})
		})
	}
}

func TestSTS05_OriginsStatusWhereItDiffers(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}, sim.Reply{Status: 304})
		wantParams(t, w.Get("/a"), "fwd=uri-miss", "ttl=60", "stored")
		w.Advance(time.Hour)
		_, params := parameters(t, w.Get("/a").Want(200, "page").CacheStatus())
		if params["fwd-status"] != "304" {
			t.Errorf("validated: %v", params)
		}
		w.Advance(time.Hour)
		a := w.Get("/a", `If-None-Match: "1"`).Want(304, "")
		if _, params = parameters(t, a.CacheStatus()); params["fwd-status"] != "" {
			t.Errorf("a 304 of the origin and one of ours: %v", params)
		}
		w.Advance(time.Hour)
		w.Origin(sim.Reply{Status: 503})
		if _, params = parameters(t, w.Get("/a").Want(200, "page").CacheStatus()); params["fwd-status"] != "503" {
			t.Errorf("stale for an error: %v", params)
		}
		w.Origin(sim.Reply{Status: 404})
		wantParams(t, w.Get("/b").Want(404, ""), "fwd=uri-miss")
		w.Origin(sim.Reply{Status: 503, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}}, sim.Reply{Status: 503})
		w.Get("/c")
		w.Advance(65 * time.Second)
		wantParams(t, w.Get("/c").Want(503, ""), "fwd=stale", "ttl=-5")
		w.Origin(
			sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 0-1/4"}, Body: "pa"},
			sim.Reply{Status: 206, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Content-Range: bytes 2-3/4"}, Body: "ge"},
		)
		w.Get("/p", "Range: bytes=0-1").Want(206, "pa")
		wantParams(t, w.Get("/p").Want(200, "page"), "fwd=partial", "fwd-status=206", "ttl=60", "stored")
		w.Origin(minute)
		w.Get("/r")
		w.Advance(time.Hour)
		wantParams(t, w.Get("/r", "Range: bytes=0-1").Want(206, "pa"), "fwd=stale", "fwd-status=200", "ttl=60", "stored")
	})
}

func TestSTS06_RemainingFreshnessAgreesWithAge(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60, stale-while-revalidate=30", "Age: 10"}, Body: "page"})
		wantParams(t, w.Get("/a"), "fwd=uri-miss", "ttl=50", "stored")
		w.Advance(5 * time.Second)
		wantParams(t, w.Get("/a").WantField("Age", "15"), "hit", "ttl=45")
		wantParams(t, w.Get("/a").WantField("Age", "15"), "hit", "ttl=45")
		w.Advance(49 * time.Second)
		wantParams(t, w.Get("/a", `If-None-Match: *`).WantField("Age", "64"), "hit", "ttl=-4")
		w.Settle()

		// A stale answer in place of an error.
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "page"}, sim.Reply{Err: errors.New("down")})
		w.Get("/b")
		w.Advance(100 * time.Second)
		wantParams(t, w.Get("/b").WantField("Age", "100"), "fwd=stale", "ttl=-40")

		// What has just been confirmed is as fresh as can be.
		w.Origin(sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=30"}})
		wantParams(t, w.Get("/b"), "fwd=stale", "fwd-status=304", "ttl=30")
	})
}

// One who joins while the body arrives gets a response that has aged.
func TestSTS06_JoinedLate(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		arrive := make(chan string)
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Stream: chanReader(arrive), Length: 4})
		first := w.Start("GET", "/a", "")
		arrive <- "pa"
		w.Advance(20 * time.Second)
		second := w.Start("GET", "/a", "")
		w.Settle()
		arrive <- "ge"
		close(arrive)
		first.Wait()
		second.Wait()
		wantParams(t, first.Want(200, "page"), "fwd=uri-miss", "ttl=60", "stored")
		wantParams(t, second.Want(200, "page").WantField("Age", "20"), "fwd=uri-miss", "ttl=40", "collapsed")
	})
}

// A chanReader is a body that arrives in pieces.
type chanReader <-chan string

func (c chanReader) Read(p []byte) (int, error) {
	s, ok := <-c
	if !ok {
		return 0, io.EOF
	}
	if len(s) > len(p) {
		return 0, fmt.Errorf("a piece of %d octets for a buffer of %d", len(s), len(p))
	}
	return copy(p, s), nil
}

func TestSTS07_StoredAndCollapsedAreTrue(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		slow := minute
		slow.Delay = time.Second
		w.Origin(slow)
		first := w.Start("GET", "/a", "")
		w.Settle()
		second := w.Start("GET", "/a", "")
		first.Wait()
		second.Wait()
		wantParams(t, first, "fwd=uri-miss", "ttl=59", "stored") // the wait counts as age
		wantParams(t, second, "fwd=uri-miss", "ttl=59", "collapsed")
		wantParams(t, w.Get("/a"), "hit", "ttl=59")
		w.WantCount(1)

		// Waited in vain: what was not shared does not say so.
		w.Origin(sim.Reply{Header: []string{"Cache-Control: no-store"}, Delay: time.Second})
		first = w.Start("GET", "/own", "")
		w.Settle()
		second = w.Start("GET", "/own", "")
		first.Wait()
		second.Wait()
		wantParams(t, first, "fwd=uri-miss")
		wantParams(t, second, "fwd=uri-miss")

		// Too large for the store, and said so by its length.
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: strings.Repeat("x", 17<<20)})
		_, params := parameters(t, w.Get("/huge").CacheStatus())
		if params["stored"] != "" {
			t.Errorf("a body larger than the store: %v", params)
		}
		if w.Get("/huge").Hit() {
			t.Error("a body larger than the store was stored")
		}

		// A POST that answers later GETs.
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Location: /p"}, Body: "page"})
		wantParams(t, w.Do("POST", "/p", "x"), "fwd=method", "ttl=60", "stored")
		w.Get("/p").WantHit()
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page"})
		wantParams(t, w.Do("POST", "/q", "x"), "fwd=method")
	})
}

func TestSTS08_KeyAndDetailOnlyWhereConfigured(t *testing.T) {
	for _, explain := range []bool{false, true} {
		sim.RunWith(t, func(c *engine.Config) { c.Explain = explain }, func(w *sim.World) {
			w.Origin(minute)
			for _, a := range []*sim.Answer{w.Get("/secret?t=1"), w.Get("/secret?t=1"), w.Do("POST", "/secret?t=1", "")} {
				_, params := parameters(t, a.CacheStatus())
				if _, ok := params["key"]; ok != explain {
					t.Errorf("explain %v: key %q", explain, params["key"])
				}
				if _, ok := params["detail"]; ok != explain {
					t.Errorf("explain %v: detail %q", explain, params["detail"])
				}
				if explain && params["key"] != `"http://shop.example/secret?t=1"` {
					t.Errorf("key %s", params["key"])
				}
			}
		})
	}
}

func TestSTS09_AnswersOfOursHaveNoCacheStatus(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		for status, a := range map[int]*sim.Answer{
			400: w.Get("/a#b"),
			414: w.Get("/" + strings.Repeat("x", 20<<10)),
			504: w.Get("/none", "Cache-Control: only-if-cached"),
			405: w.Do("TRACE", "/a", ""),
			200: w.Do("OPTIONS", "/a", "", "Max-Forwards: 0"),
			502: w.Get("/a", "Via: 1.1 sim"),
		} {
			if a.Status != status {
				t.Errorf("status %d, want %d", a.Status, status)
			}
			a.WantField("Cache-Status")
		}
		w.WantCount(0)
		w.Get("/a").Want(200, "page")
		w.Get("/a", `If-None-Match: "1"`).Want(304, "").WantHit()
		w.Get("/a", "Range: bytes=1-2").Want(206, "ag").WantHit()
		w.Origin(sim.Reply{Err: errors.New("down")})
		if a := w.Get("/b").WantField("Cache-Status"); a.Status != 502 {
			t.Errorf("status %d", a.Status)
		}
	})
}

func TestSTS10_UpstreamsMembersStayAndOursIsOfThisRequest(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "Cache-Status: inner; fwd=uri-miss; stored"}, Body: "page"},
			sim.Reply{Status: 304, Header: []string{"Cache-Status: inner; hit"}},
		)
		w.Get("/a").WantField("Cache-Status", "inner; fwd=uri-miss; stored", "larder; fwd=uri-miss; ttl=60; stored")
		for age := range 3 {
			w.Get("/a").WantField("Cache-Status", "inner; fwd=uri-miss; stored", fmt.Sprintf("larder; hit; ttl=%d", 60-age))
			w.Advance(time.Second)
		}
		w.Advance(time.Minute)
		w.Get("/a").WantField("Cache-Status", "inner; hit", "larder; fwd=stale; fwd-status=304; ttl=60")
		w.Get("/a").WantField("Cache-Status", "inner; hit", "larder; hit; ttl=60")
	})
}

// A saying is an error that knows what it means, as those of package origin.
type saying struct {
	token       string
	status      int
	unreachable bool
}

func (s saying) Error() string      { return "told: " + s.token }
func (s saying) ProxyError() string { return s.token }
func (s saying) Status() int        { return s.status }
func (s saying) Unreachable() bool  { return s.unreachable }

func TestSTS11_ErrorsSayWhatWentWrong(t *testing.T) {
	configure := func(c *engine.Config) { c.Name, c.LoopID = "shop-edge", "shop" }
	sim.RunWith(t, configure, func(w *sim.World) {
		for _, s := range []saying{
			{"dns_timeout", 504, true},
			{"dns_error", 502, true},
			{"destination_unavailable", 503, true},
			{"connection_refused", 502, true},
			{"connection_terminated", 502, true},
			{"connection_timeout", 504, true},
			{"connection_read_timeout", 504, true},
			{"tls_certificate_error", 502, true},
			{"http_response_incomplete", 502, true},
			{"http_response_transfer_coding", 502, false},
			{"http_response_header_section_size", 502, false},
			{"http_protocol_error", 502, false},
		} {
			w.Origin(sim.Reply{Err: fmt.Errorf("wrapped: %w", s)})
			for _, method := range []string{"GET", "HEAD", "POST"} {
				a := w.Do(method, "/"+s.token, "").WantField("Proxy-Status", "shop-edge; error="+s.token)
				if a.Status != s.status {
					t.Errorf("%s %s: status %d, want %d", method, s.token, a.Status, s.status)
				}
			}
		}
		w.Origin(minute)
		for _, c := range []struct {
			method, target, field, token string
			status                       int
		}{
			{"GET", "/a", "Cdn-Loop: shop", "proxy_loop_detected", 502},
			{"GET", "/a", "Via: 1.1 sim", "proxy_loop_detected", 502},
			{"GET", "/a#b", "", "http_request_error", 400},
			{"GET", "/" + strings.Repeat("x", 20<<10), "", "http_request_error", 414},
			{"CONNECT", "shop.example:443", "", "http_request_error", 405},
			{"TRACE", "/", "", "http_request_error", 405},
		} {
			a := w.Do(c.method, c.target, "", c.field).WantField("Proxy-Status", "shop-edge; error="+c.token)
			if a.Status != c.status {
				t.Errorf("%s %.20s: status %d, want %d", c.method, c.target, a.Status, c.status)
			}
		}
	})
}

// With an entry that must not be served stale, unreachability is 504 (RFC 9111
// §5.2.2.2), whatever the kind.
func TestSTS12_StatusOfTheError(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=1, must-revalidate", `ETag: "1"`}, Body: "page"},
			sim.Reply{Err: saying{"connection_refused", 502, true}},
		)
		w.Get("/a")
		w.Advance(time.Minute)
		if a := w.Get("/a").WantField("Proxy-Status", "larder; error=connection_refused"); a.Status != 504 || strings.Contains(a.Body(), "page") {
			t.Errorf("status %d, body %q", a.Status, a.Body())
		}
		if a := w.Get("/b").WantField("Proxy-Status", "larder; error=connection_refused"); a.Status != 502 {
			t.Errorf("status %d", a.Status)
		}
		w.Origin(sim.Reply{Err: errors.New("something else")})
		if a := w.Get("/c").WantField("Proxy-Status", "larder; error=connection_terminated"); a.Status != 502 {
			t.Errorf("status %d", a.Status)
		}
	})
}

func TestSTS13_ProxyStatusOfOthersStays(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Name = "shop-edge" }, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 502, Header: []string{"Proxy-Status: inner; error=dns_error", "Proxy-Status: \"r 2\"; received-status=502", "Cache-Control: max-age=60"}, Body: "oops"})
		for range 2 {
			w.Get("/a").Want(502, "oops").WantField("Proxy-Status", "inner; error=dns_error", "\"r 2\"; received-status=502")
		}
		w.Do("POST", "/a", "").WantField("Proxy-Status", "inner; error=dns_error", "\"r 2\"; received-status=502")
		w.Origin(sim.Reply{Err: errors.New("down")})
		w.Get("/b").WantField("Proxy-Status", "shop-edge; error=connection_terminated")
	})
}

// An answer that nobody can read is one all the same: stale content would hide
// it for as long as the origin keeps answering so.
func TestGO09_UnreadableAnswersAreNotHiddenByStale(t *testing.T) {
	for _, token := range []string{"http_response_transfer_coding", "http_response_header_section_size"} {
		sim.Run(t, func(w *sim.World) {
			w.Origin(minute, sim.Reply{Err: saying{token, 502, false}})
			w.Get("/a")
			w.Advance(2 * time.Minute)
			if a := w.Get("/a").WantField("Proxy-Status", "larder; error="+token); a.Status != 502 {
				t.Errorf("%s: status %d", token, a.Status)
			}
		})
	}
}
