package esi

import (
	"maps"
	"net/http"
	"reflect"
	"testing"
)

func TestESI01_Asks(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{`content="ESI/1.0"`}, true},
		{[]string{`content=ESI/1.0`}, true},
		{[]string{`max-age=60`, `content="ESI/1.0"`}, true},
		{[]string{`no-store, content="ESI/1.0 ESI-INV/1.0"`}, true},
		{[]string{`content="ORAESI/9.0.2, ESI/1.0"`}, true},
		{[]string{`content="ESI/1.0";us`}, true},
		{[]string{`content="ESI/1.0";them`}, false},
		{[]string{`content="ESI/2.0"`}, false},
		{[]string{`content="XESI/1.0"`}, false},
		{[]string{`content="esi/1.0"`}, false},
		{[]string{`x="content=ESI/1.0"`}, false},
		{[]string{`content="ESI/1.0`}, false},
	} {
		if got := Asks(http.Header{"Surrogate-Control": c.lines}, "us"); got != c.want {
			t.Errorf("%q: %v", c.lines, got)
		}
	}
	if Asks(nil, "") || Asks(http.Header{"Surrogate-Control": {`content="ESI/1.0";us`}}, "") {
		t.Error("asks nobody in particular")
	}
}

func TestESI13_Strip(t *testing.T) {
	h := http.Header{}
	kept := http.Header{"Content-Type": {"text/html"}, "Cache-Control": {"max-age=5"}, "Surrogate-Control": {"max-age=60"}, "Want-Repr-Digest": {"sha-256=1"}}
	maps.Copy(h, kept)
	for _, name := range []string{
		"ETag", "Last-Modified", "Content-Length", "Accept-Ranges", "Content-MD5", "Digest", "Repr-Digest", "Content-Digest", "Unencoded-Digest",
	} {
		h.Set(name, "x")
	}
	Strip(h, "us")
	if !reflect.DeepEqual(h, kept) {
		t.Errorf("%v", h)
	}
	Strip(nil, "")
}

func TestESI13_SurrogateControl(t *testing.T) {
	for _, c := range []struct{ lines, want []string }{
		{[]string{`content="ESI/1.0"`}, nil},
		{[]string{`content="ESI/1.0";us`}, nil},
		{[]string{`content="ESI/1.0", content="ESI/1.0";us`}, nil},
		{[]string{`content="ESI/1.0";them`}, []string{`content="ESI/1.0";them`}},
		{[]string{`max-age=60+5`, `content="ESI/1.0"`, `no-store;them`}, []string{`max-age=60+5, no-store;them`}},
		{[]string{`content="ESI/1.0 X/2 Y"`}, []string{`content="X/2 Y"`}},
		{[]string{`content="X\"\\ ESI/1.0" ; us, max-age=1`}, []string{`content="X\"\\";us, max-age=1`}},
		{[]string{`content="X"`}, []string{`content="X"`}},
		{[]string{`content="X", content="ESI/1.0"`}, []string{`content="X"`}},
	} {
		h := http.Header{"Surrogate-Control": c.lines}
		Strip(h, "us")
		if got := h["Surrogate-Control"]; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
		if Asks(h, "us") {
			t.Errorf("%q still asks", c.lines)
		}
	}
}
