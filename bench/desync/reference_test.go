//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func lines(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// The reference decides what is a desynchronisation, so it is held to the rows
// of the threat list by itself.
func TestReference(t *testing.T) {
	for octets, want := range map[string]string{
		lines("GET /a HTTP/1.1\nHost: H:80\n\nPOST http://x.y/b HTTP/1.1\nHost: z\nContent-Length: 2\n\n") + "ab": `whole GET /a h ""; whole POST /b x.y "ab"`,
		lines("\nPOST /a HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n2;x=\"y\"\nab\n1\nc\n0\nT: u\n\n\n"):    `whole POST /a h "abc"`,
		lines("GET http://x/a HTTP/1.1\nHost: [\n\n"):                                                             `whole GET /a x ""`,
		lines("GET /a HTTP/1.0\n\n"):                                                          `whole GET /a  ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length: 3\n\n") + "ab":                      `partial POST /a h "ab" short`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nab0\n\n"):          `partial POST /a h "ab"`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2 \nab\n0\n\n"):       `partial POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nT : u\n\n"):        `partial POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n-1\nab\n0\n\n"):       `partial POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length: 1\nTransfer-Encoding: chunked\n\n"): `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length: 1\nContent-Length: 1\n\na"):         `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length: +1\n\na"):                           `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length: 01\n\na"):                           `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nContent-Length : 1\n\na"):                           `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, chunked\n\n0\n\n"):         `unsound POST /a h ""`,
		lines("POST /a HTTP/1.1\nHost: h\nTransfer-Encoding: \x0bchunked\n\n0\n\n"):           `unsound POST /a h ""`,
		lines("POST /a HTTP/1.0\nHost: h\nTransfer-Encoding: chunked\n\n0\n\n"):               `unsound POST /a h ""`,
		lines("GET /a HTTP/1.1\nHost: h\nX: a\n b\n\n"):                                       `unsound GET /a h ""`,
		lines("GET /a HTTP/1.1\nHost: h\nHost: h\n\n"):                                        `unsound GET /a h ""`,
		lines("GET /a HTTP/1.1\n\n"):                                                          `unsound GET /a  ""`,
		lines("GET /a HTTP/1.1\nHost: h\nExpect: x\n\n"):                                      `unsound GET /a h ""`,
		lines("GET  /a HTTP/1.1\nHost: h\n\n"):                                                `unsound    ""`,
		lines("GET /a#b HTTP/1.1\nHost: h\n\n"):                                               `unsound GET /a#b  ""`,
		lines("GET /a HTTP/1.1\nHost: h\nX: a\x00\n\n"):                                       `unsound GET /a h ""`,
		"GET /a HTTP/1.1\nHost: h\r\n\r\n":                                                    `unsound    ""`,
		"GET /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n":                                       `unsound GET /a h ""`,
		lines("GET /a HTTP/1.1\nHost: h\n\nGET /b HTTP/1.1\nHost"):                            `whole GET /a h ""; unsound GET /b  "" short`,
	} {
		var got []string
		for _, m := range messages([]byte(octets)) {
			s := fmt.Sprintf("%s %s %s %s %q", stateNames[m.state], m.method, m.target, m.host, m.body)
			if m.short {
				s += " short"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("%q\nis   %s\nwant %s", octets, s, want)
		}
	}
}

// Streams are the same for the same seed, cut or not, and no marker is where the
// reference sees a request.
func TestStreams(t *testing.T) {
	states := map[state]int{}
	for n := range 3000 {
		s, again := newStream(1, n), newStream(1, n)
		if string(s.octets) != string(again.octets) {
			t.Fatalf("stream %d differs from time to time", n)
		}
		for _, m := range s.messages {
			states[m.state]++
			if strings.Contains(m.target, smuggled) {
				t.Errorf("stream %d has a marker at a boundary: %q", n, s.octets)
			}
		}
		at := 0
		for _, cut := range s.cuts {
			if cut <= at || cut >= len(s.octets) {
				t.Fatalf("stream %d is cut at %v of %d", n, s.cuts, len(s.octets))
			}
			at = cut
		}
	}
	if states[whole] < 2000 || states[partial] < 100 || states[unsound] < 500 {
		t.Errorf("%v", states)
	}
}

// Every attempt can be applied to any request.
func TestAttempts(t *testing.T) {
	for i := range attempts {
		for n := range 50 {
			g := generator{Rand: rand.New(rand.NewPCG(uint64(i), uint64(n)))}
			q := g.request()
			attempts[i](&g, q)
			_ = q.octets()
		}
	}
}
