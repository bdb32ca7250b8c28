package daemon

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"github.com/larderhq/larder/internal/encode"
	"github.com/larderhq/larder/internal/engine"
)

// uncoded is the content of an answer without its one coding.
func uncoded(t *testing.T, a answer) string {
	t.Helper()
	var from io.Reader = strings.NewReader(a.body)
	switch lines := a.header.Values("Content-Encoding"); strings.Join(lines, ",") {
	case "":
	case "br":
		from = brotli.NewReader(from)
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			t.Fatalf("%v: %.40q", err, a.body)
		}
		from = z
	default:
		t.Fatalf("Content-Encoding is %q", lines)
	}
	content, err := io.ReadAll(from)
	if err != nil {
		t.Fatalf("%q: %v", a.header["Content-Encoding"], err)
	}
	return string(content)
}

// Wherever it is compressed, at the edge, at the parent or at either, it is so once, and
// each coding has a tag that both know again.
func TestTiersCompression(t *testing.T) {
	content := contentOf(20000)
	for name, test := range map[string]struct {
		edge, parent bool
		tag          string // of what is coded by br
	}{
		"edge": {true, false, `W/"1-br"`}, "parent": {false, true, `W/"1-br"`}, "both": {true, true, `W/"1-br~identity"`},
	} {
		t.Run(name, func(t *testing.T) {
			origin, seen := serveOrigin(t, (&thing{content: content, tag: `"1"`, modified: documentDate}).serve)
			c := newTiers(t, origin, func(edge, parent *engine.Config) {
				for config, on := range map[*engine.Config]bool{edge: test.edge, parent: test.parent} {
					if on {
						config.Negotiate = encode.Negotiate(nil)
					}
				}
			})
			for _, path := range []string{"/a", "/b"} {
				for round := range 3 {
					for _, accept := range []string{"br", "gzip", "identity", "br, gzip;q=0.5", "compress, *;q=0"} {
						a := c.get(path, "Accept-Encoding: "+accept)
						coding := a.header.Get("Content-Encoding")
						if want, _, _ := strings.Cut(accept, ","); coding != want && !(coding == "" && (want == "identity" || want == "compress")) {
							t.Errorf("%s, round %d, %s: coded %q", path, round, accept, coding)
						}
						if uncoded(t, a) != content || a.broken != nil {
							t.Fatalf("%s, round %d, %s: other content (%v)", path, round, accept, a.broken)
						}
						if vary := a.header.Values("Vary"); strings.Join(vary, ",") != "Accept-Encoding" {
							t.Errorf("%s, round %d, %s: Vary is %q", path, round, accept, vary)
						}
						tag := a.header.Get("ETag")
						if coding == "br" && tag != test.tag || coding == "" && tag != `"1"` {
							t.Errorf("%s, round %d, %s: ETag is %q", path, round, accept, tag)
						}
						c.wantField(c.want(c.get(path, "Accept-Encoding: "+accept, "If-None-Match: "+tag), 304, ""), "ETag", tag)
						c.wantField(c.want(c.ask(c.edge.URL(), "HEAD", path, "", "Accept-Encoding: "+accept), 200, ""), "ETag", tag)
					}
				}
			}
			if name == "both" && seen.count() > 2*3*2 {
				t.Errorf("the origin was asked %d times", seen.count())
			}
		})
	}
}

// What is coded is validated through both: the origin confirms its own tag, and each tier
// the one that it gave.
func TestTiersCompressionValidated(t *testing.T) {
	content := contentOf(20000)
	for name, on := range map[string][2]bool{"edge": {true, false}, "parent": {false, true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			origin, seen := serveOrigin(t, (&thing{content: content, lifetime: "no-cache", tag: `"1"`, modified: documentDate}).serve)
			c := newTiers(t, origin, func(edge, parent *engine.Config) {
				for i, config := range []*engine.Config{edge, parent} {
					if on[i] {
						config.Negotiate = encode.Negotiate(nil)
					}
				}
			})
			var tag string
			for round := range 3 {
				before := seen.count()
				a := c.get("/a", "Accept-Encoding: br")
				if uncoded(t, a) != content || a.header.Get("Content-Encoding") != "br" || round > 0 && a.header.Get("ETag") != tag {
					t.Fatalf("round %d: %q", round, a.header)
				}
				tag = a.header.Get("ETag")
				if asked := seen.last().Header.Get("If-None-Match"); seen.count() != before+1 || round > 0 && asked != `"1"` {
					t.Errorf("round %d: the origin was asked %d times, at last with If-None-Match %q", round, seen.count()-before, asked)
				}
				if round > 0 && !strings.Contains(a.header.Values("Cache-Status")[1], "edge; fwd=stale; fwd-status=304") {
					t.Errorf("round %d: Cache-Status is %q", round, a.header["Cache-Status"])
				}
				c.wantField(c.want(c.get("/a", "Accept-Encoding: br", "If-None-Match: "+tag), 304, ""), "ETag", tag)
			}
		})
	}
}

// What is too short to pay, coded by the origin already, or not to be transformed, passes
// both as it is.
func TestTiersCompressionLeavesAlone(t *testing.T) {
	origin, _ := serveOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain")
		h.Set("ETag", `"1"`)
		h.Set("Cache-Control", "max-age=60")
		switch r.URL.Path {
		case "/coded":
			h.Set("Content-Encoding", "x-own")
			h.Set("Vary", "Accept-Encoding")
		case "/pure":
			h.Set("Cache-Control", "max-age=60, no-transform")
		case "/short":
			io.WriteString(w, "short")
			return
		case "/image":
			h.Set("Content-Type", "image/png")
		}
		io.WriteString(w, contentOf(1000))
	})
	c := newTiers(t, origin, func(edge, parent *engine.Config) {
		edge.Negotiate, parent.Negotiate = encode.Negotiate(nil), encode.Negotiate(nil)
	})
	for path, want := range map[string]string{"/coded": contentOf(1000), "/pure": contentOf(1000), "/short": "short", "/image": contentOf(1000)} {
		for range 2 {
			c.wantField(c.want(c.get(path, "Accept-Encoding: br, gzip"), 200, want), "ETag", `"1"`)
		}
	}
}
