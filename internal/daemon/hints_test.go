package daemon

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// askHinted asks for u, and calls hinted with each interim answer as it comes.
func (s *secured) askHinted(c *http.Client, u string, hinted func(status int, h http.Header)) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		hinted(status, http.Header(h))
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return answer{broken: err}
	}
	return heard(c, r)
}

// What the origin says before its answer is at the client before the answer is made, in each
// version; of a hit there is nothing, and nothing of it is in an answer (INT-01, INT-02).
func TestINT01_ThroughTheDoor(t *testing.T) {
	heard := make(chan struct{})
	s := startHTTPS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</b.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-heard
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "page")
	}, HTTPS{HSTS: time.Hour})
	for name, c := range map[string]struct {
		client *http.Client
		scheme string
	}{
		"http":            {s.client(false, true), "http://"},
		"https, HTTP/1.1": {s.client(false, true), "https://"},
		"https, HTTP/2":   {s.client(true, true), "https://"},
	} {
		u := c.scheme + shop + "/" + strings.ReplaceAll(name, " ", "")
		var links []string
		a := s.askHinted(c.client, u, func(status int, h http.Header) {
			if status != http.StatusEarlyHints || len(h) != 1 {
				t.Errorf("%s: %d with %v", name, status, h)
			}
			if links = append(links, h.Get("Link")); len(links) == 2 {
				heard <- struct{}{}
			}
		})
		s.want(a, 200, "page", false)
		if got := strings.Join(links, " | "); got != "</a.css>; rel=preload | </b.css>; rel=preload" || a.header.Get("Link") != "" {
			t.Errorf("%s: hints %q, and the answer has Link %q", name, got, a.header.Get("Link"))
		}
		s.want(s.askHinted(c.client, u, func(status int, _ http.Header) { t.Errorf("%s: a hit comes with %d", name, status) }), 200, "page", true)
	}
}

// With early-hints on the links of what is stale are there before the origin has said
// anything (INT-05).
func TestINT05_ThroughTheDoor(t *testing.T) {
	const style = "</a.css>; rel=preload; as=style"
	heard, asked := make(chan struct{}), new(counts)
	s := startHTTPSWith(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.next(r.URL.Path) > 1 {
			<-heard
		}
		h := w.Header()
		h.Set("Cache-Control", "max-age=0, must-revalidate")
		h.Set("ETag", `"1"`)
		h.Set("Link", style+", </p2>; rel=next")
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "page")
	}, HTTPS{HSTS: time.Hour}, func(o *Options) { o.Engine.Terms.EarlyHints = true })
	for _, second := range []bool{false, true} {
		c, u := s.client(second, true), "https://"+shop+map[bool]string{false: "/1", true: "/2"}[second]
		s.want(s.ask(c, u), 200, "page", false)
		hints := 0
		a := s.askHinted(c, u, func(status int, h http.Header) {
			if hints++; status != http.StatusEarlyHints || len(h) != 1 || h.Get("Link") != style {
				t.Errorf("%d with %v", status, h)
			}
			heard <- struct{}{}
		})
		s.want(a, 200, "page", false)
		if got := a.header.Values("Link"); hints != 1 || len(got) != 1 || got[0] != style+", </p2>; rel=next" {
			t.Errorf("%d hints, and the answer has Link %q", hints, got)
		}
	}
}
