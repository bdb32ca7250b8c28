package front

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/standing"
)

// plains are heads that are plain requests, and others that look like it.
var plains = []struct {
	head string
	is   shape
}{
	{"GET / HTTP/1.1\nHost: h\n\n", entire},
	{"HEAD /a?b HTTP/1.1\nhost: h:80\nUser-Agent: x\nAccept:*/*\nCookie:  a=b \t\n\n", entire},
	{"GET /a HTTP/1.1\nX:\nHost: h\nX:\xff\nConnection: keep-alive\n\n", entire},
	{"GET /a HTTP/1.1\nHost: h\nconnection: Close\nIf-None-Match: \"1\"\nRange: bytes=0-\n\n", entire},
	{"", begun},
	{"G", begun},
	{"HEAD", begun},
	{"GET ", begun},
	{"GET /", begun},
	{"GET / HTTP/1.", begun},
	{"GET / HTTP/1.1\nHost: h\n", begun},
	{"GET / HTTP/1.1\nHost: h\nX: " + strings.Repeat("x", maxPlain), other},
	{"GET /" + strings.Repeat("x", maxPlain), other},
	{"GETS / HTTP/1.1\nHost: h\n\n", other},
	{"get / HTTP/1.1\nHost: h\n\n", other},
	{"POST / HTTP/1.1\nHost: h\n\n", other},
	{"\nGET / HTTP/1.1\nHost: h\n\n", other},
	{" GET / HTTP/1.1\nHost: h\n\n", other},
	{"GET  / HTTP/1.1\nHost: h\n\n", other},
	{"GET / HTTP/1.0\nHost: h\n\n", other},
	{"GET / HTTP/1.1 \nHost: h\n\n", other},
	{"GET http://h/ HTTP/1.1\nHost: h\n\n", other},
	{"GET * HTTP/1.1\nHost: h\n\n", other},
	{"GET /# HTTP/1.1\nHost: h\n\n", other},
	{"GET /\\ HTTP/1.1\nHost: h\n\n", other},
	{"GET /\x7f HTTP/1.1\nHost: h\n\n", other},
	{"GET / HTTP/1.1\n\n", other},
	{"GET / HTTP/1.1\nHost:\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nHost: h\n\n", other},
	{"GET / HTTP/1.1\nHost : h\n\n", other},
	{"GET / HTTP/1.1\nHost: h\n X: a\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nX: a\n b\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nX\n\n", other},
	{"GET / HTTP/1.1\nHost: h\n: x\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nX: a\x00\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nX: a\rb\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nContent-Length: 0\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nCache-Control: no-cache\nAuthorization: x\nX_Y: 1\n\n", entire},
	{"GET / HTTP/1.1\nHost: h\nTE: trailers\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nExpect: 100-continue\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nConnection: close, x\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nConnection: close\nConnection: keep-alive\n\n", other},
	{"GET / HTTP/1.1\nHost: h\nUpgrade: x\n\n", other},
}

func TestPlain(t *testing.T) {
	table := standing.New(nil)
	for _, test := range plains {
		in := []byte(crlf(test.head))
		var p plain
		if n, is := p.read(table, in); is != test.is || is == entire && n != len(in) {
			t.Errorf("%.60q is %d of %d octets, want %d", test.head, is, n, test.is)
		}
		checkPlain(t, table, in)
		in = bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
		if _, is := p.read(table, in); is == entire {
			t.Errorf("%.60q is plain with LF alone", test.head)
		}
	}
}

// checkPlain holds a plain request against what net/http makes of the same octets,
// and against the guard of what net/http gets: it is that request and nothing else,
// and it is not known to be one before its last octet.
func checkPlain(t *testing.T, table *standing.Table, in []byte) {
	var p plain
	n, is := p.read(table, in)
	if is != entire {
		return
	}
	for cut := range n {
		var q plain
		if m, is := q.read(table, in[:cut]); is != begun {
			t.Errorf("%q is %d of %d octets before its end", in[:cut], is, m)
		}
	}
	guard := scanner{maxHead: 1 << 20, single: true}
	ok, _, do := guard.accept(in[:n])
	if !canon.Host(string(p.Host)) { // for one that is none, nothing stands: the guard gets it
		if do == pass {
			t.Errorf("the guard lets %q pass", in[:n])
		}
		return
	}
	if ok != n || do != pass || guard.state != between {
		t.Errorf("the guard lets %d octets of %q pass and does %d: %s", ok, in[:n], do, guard.why)
	}
	buffered := bufio.NewReader(bytes.NewReader(in[:n]))
	r, err := http.ReadRequest(buffered)
	if err != nil {
		// For the target or the host: for those that are none, nothing stands.
		tame := []byte("GET / HTTP/1.1\r\nHost: h\r\n")
		for _, f := range p.Fields {
			tame = fmt.Appendf(tame, "%s: %s\r\n", f.Name, f.Value)
		}
		if _, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(append(tame, "\r\n"...)))); err == nil {
			return
		}
		t.Fatalf("net/http refuses %q: %v", in[:n], err)
	}
	if left, _ := io.ReadAll(buffered); len(left) > 0 || r.ContentLength != 0 || r.Close != p.close || r.ProtoMinor != 1 {
		t.Errorf("net/http leaves %q of %q, length %d, close %t", left, in[:n], r.ContentLength, r.Close)
	}
	if r.Host != string(p.Host) || r.RequestURI != string(p.Target) || (r.Method == "HEAD") != p.Head || r.Method != "HEAD" && r.Method != "GET" {
		t.Errorf("net/http reads %q as %s %s at %s", in[:n], r.Method, r.RequestURI, r.Host)
	}
	h := http.Header{}
	for _, f := range p.Fields {
		h.Add(string(f.Name), string(f.Value))
	}
	for name, lines := range r.Header {
		if strings.Join(h[name], "\n") != strings.Join(lines, "\n") {
			t.Errorf("%s of %q is %q, net/http reads %q", name, in[:n], h[name], lines)
		}
	}
	if len(h) != len(r.Header) && !(len(h) == len(r.Header)+1 && r.Close) { // which takes out Connection: close
		t.Errorf("%q has fields %v, net/http reads %v", in[:n], h, r.Header)
	}
}

func FuzzPlain(f *testing.F) {
	for _, test := range plains {
		f.Add([]byte(crlf(test.head)))
	}
	table := standing.New(nil)
	f.Fuzz(func(t *testing.T, in []byte) { checkPlain(t, table, in) })
}
