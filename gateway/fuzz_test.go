package gateway_test

import (
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
)

// FuzzHandler asks for anything in any way. Whatever that is, no answer says what is
// not so, and the storage is asked for no name that there cannot be.
func FuzzHandler(f *testing.F) {
	for _, fields := range []string{
		"", "Range: bytes=0-0", "Range: bytes=-5", "Range: bytes=3-\nIf-Range: \"v1\"", "Range: bytes=0-1,4-5,-2", "Range: bytes=0-9223372036854775807", "Range: bytes=1-,99999999999999999999-",
		"If-None-Match: \"v1\"", "If-None-Match: W/\"v1\", *", "If-Match: \"v1", "If-Modified-Since: " + date, "If-Unmodified-Since: " + dayEarly,
		"Accept-Encoding: gzip;q=0.5, br", "Accept: application/json", "Origin: http://evil.example", "Content-Range: bytes 0-0/1",
	} {
		for i, target := range []string{"/f.txt", "/sniffed", "/dir", "/dir/", "/empty.txt", "/", "//", "/a/../f.txt", "/%2e%2e%2fsecret", "/.git/config", "/x%0d%0ay", "/uncertain.txt", "/b%5Cc"} {
			f.Add(uint8(i), target, fields)
		}
	}
	methods := []string{"GET", "HEAD", "GET", "PUT", "DELETE", "OPTIONS", "POST"}
	f.Fuzz(func(t *testing.T, way uint8, target, fields string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers it
		}
		texts := map[string]string{
			"f.txt": pattern(1000), "f.txt.gz": pattern(100), "sniffed": pattern(700), "empty.txt": "", "dir/index.html": "<p>", "dir/.x": secretWord, ".git/config": secretWord, "b\\c": "odd",
		}
		src := holding(gateway.Traits{Flat: way&8 != 0, Remote: way&16 != 0}, texts).with("uncertain.txt", pattern(10), gateway.Info{Version: "u", Modified: past})
		texts["uncertain.txt"] = pattern(10)
		o := gateway.Options{Listing: way&32 != 0, Write: true, Default: 1e9}
		if way&64 != 0 {
			o.Precompressed = gateway.Codings()
		}
		h := gateway.New(&fakeWriter{fake: src}, o)
		req := &http.Request{Method: methods[int(way)%len(methods)], URL: u, Host: "example.com", Header: http.Header{}, Body: http.NoBody}
		for line := range strings.Lines(fields) {
			name, v, _ := strings.Cut(line, ":")
			req.Header.Add(name, textproto.TrimString(v))
		}
		sent := req.Header.Clone()
		a := run(h, req.WithContext(t.Context()))

		if a.aborted != nil {
			t.Fatalf("panic: %v", a.aborted) // this storage breaks nothing off
		}
		for _, name := range src.names {
			hidden := strings.HasPrefix(name, ".") && name != ".well-known" && !strings.HasPrefix(name, ".well-known/") || strings.Contains(name, "/.")
			if hidden || !gateway.ValidName(name, src.traits.Flat) {
				t.Errorf("the storage was asked for %q", name)
			}
		}
		body, head := a.Body.String(), a.Header()
		if strings.Contains(body, secretWord) {
			t.Errorf("what is hidden: %q", body)
		}
		for name, values := range head {
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%s: %q", name, v)
				}
			}
		}
		length := head.Get("Content-Length")
		switch a.Code {
		case 200:
			if req.Method == "GET" && length != strconv.Itoa(len(body)) || length == "" {
				t.Errorf("Content-Length %s of %d octets", length, len(body))
			}
		case 206:
			size := head.Get("Content-Range")
			ok := false
			for _, text := range texts {
				kind, params, _ := mime.ParseMediaType(head.Get("Content-Type"))
				if kind != "multipart/byteranges" {
					ok = ok || isPart(size, body, text)
					continue
				}
				all := len(multi(t, body, params["boundary"])) > 1
				for _, p := range multi(t, body, params["boundary"]) {
					all = all && isPart(p.field, p.text, text)
				}
				ok = ok || all && size == ""
			}
			if !ok || req.Method != "GET" || sent.Get("Range") == "" || length != strconv.Itoa(len(body)) {
				t.Errorf("%v: %v, %d octets", sent, head, len(body))
			}
		case 301:
			if l := head.Get("Location"); !strings.HasPrefix(l, "./") || !strings.HasSuffix(l, "/") || strings.Count(l, "/") != 2 {
				t.Errorf("Location %q", l)
			}
		case 304:
			if length != "" || body != "" || head.Get("ETag") == "" && !strings.Contains(strings.Join(sent.Values("If-None-Match"), ","), "*") || sent.Get("If-None-Match") == "" && sent.Get("If-Modified-Since") == "" {
				t.Errorf("%v: %v %q", sent, head, body)
			}
		case 416:
			if !strings.HasPrefix(head.Get("Content-Range"), "bytes */") || sent.Get("Range") == "" {
				t.Errorf("%v: %v", sent, head)
			}
		case 201, 204, 400, 403, 404, 405, 409, 412:
		default:
			t.Errorf("%s %s %v: %d", req.Method, target, sent, a.Code)
		}
		if a.Code == 206 != (head.Get("Content-Range") != "" || strings.HasPrefix(head.Get("Content-Type"), "multipart/byteranges")) && a.Code != 416 {
			t.Errorf("%d: %v", a.Code, head)
		}
	})
}
