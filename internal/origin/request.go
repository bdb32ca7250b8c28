package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/larderhq/larder/internal/field"
)

// An outgoing is a request as it is sent.
type outgoing struct {
	*http.Request
	content io.ReadCloser // nil: there is none
	ahead   []byte        // what was read of it already
	method  string
	target  string
	host    string
	length  int64 // of the content; negative: nobody knows, and it goes in chunks
	upgrade bool  // it asks for one
	last    bool  // it asks for the end of the connection
	patient bool  // it waits with its content for a 100 (RFC 9110 §10.1.1)
}

// outgoing makes one of req, or says why it cannot be sent.
func (u *Upstream) outgoing(req *http.Request) (out outgoing, err error) {
	out = outgoing{Request: req, content: req.Body, method: req.Method, length: req.ContentLength}
	if out.method == "" {
		out.method = http.MethodGet
	}
	switch {
	case req.URL == nil:
		return out, errors.New("the request has no URL")
	case out.method == http.MethodConnect:
		return out, errors.New("CONNECT is not for origins, RFC 9110 §9.3.6")
	case !field.IsToken(out.method):
		return out, fmt.Errorf("the method %q is no token, RFC 9110 §9.1", out.method)
	}
	if out.target, err = u.target(req.URL); err != nil {
		return out, err
	}
	if out.host, err = u.host(req.Host); err != nil {
		return out, err
	}
	for name, lines := range req.Header {
		if !field.IsToken(name) {
			return out, fmt.Errorf("the field name %q is no token, RFC 9110 §5.1", name)
		}
		for _, value := range lines {
			if !httpguts.ValidHeaderFieldValue(value) {
				return out, fmt.Errorf("a control character in a line of %s, RFC 9110 §5.5", name)
			}
		}
	}
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		if out.length > 0 {
			return out, errors.New("content is declared, and there is none")
		}
		out.length = 0
	case out.length == 0:
		out.length = -1
	}
	out.upgrade = len(req.Header["Upgrade"]) > 0
	out.last = req.Close || field.HasToken(req.Header["Connection"], "close")
	out.patient = out.length != 0 && field.HasToken(req.Header["Expect"], "100-continue")
	return out, nil
}

// host returns the value of Host for a request that asks for asked, or nothing.
func (u *Upstream) host(asked string) (string, error) {
	host := u.opt.Host
	if host == "" {
		host = asked
	}
	if host == "" {
		host = u.opt.URL.Host
	}
	host, err := httpguts.PunycodeHostPort(host)
	if err == nil && (badTarget(host) || !httpguts.ValidHostHeader(host)) {
		err = fmt.Errorf("the host %q is none, RFC 9110 §7.2", host)
	}
	if i := strings.LastIndexByte(host, '%'); i > 0 && host[0] == '[' && err == nil {
		if end := strings.LastIndexByte(host, ']'); i < end {
			host = host[:i] + host[end:] // a zone has no meaning there, RFC 9844 §5
		}
	}
	return host, err
}

// look finds out whether there is content, where nobody knows how much: many servers
// take offence at a GET with none, in chunks. It waits for the beginning. An error is
// the reader's.
func (out *outgoing) look() error {
	if out.length >= 0 || out.patient || !slices.Contains(seldom, out.method) {
		return nil
	}
	first := make([]byte, 1)
	for {
		n, err := out.content.Read(first)
		switch {
		case n > 0:
			out.ahead = first // an error comes again
			return nil
		case err == io.EOF:
			out.length = 0
			return out.close()
		case err != nil:
			return err
		}
	}
}

// seldom are the methods whose requests mostly have no content.
var seldom = []string{"GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "SEARCH"}

// close closes the content.
func (out *outgoing) close() error {
	if out.content == nil {
		return nil
	}
	return out.content.Close()
}

// appendHead appends the head of the request to b.
func (out *outgoing) appendHead(b []byte) []byte {
	b = append(append(append(append(b, out.method...), ' '), out.target...), " HTTP/1.1\r\n"...)
	b = appendLine(b, "Host", out.host)
	if lines := out.Header["User-Agent"]; len(lines) > 0 && lines[0] != "" {
		b = appendLine(b, "User-Agent", lines[0])
	}
	if out.Close && !field.HasToken(out.Header["Connection"], "close") {
		b = appendLine(b, "Connection", "close")
	}
	switch {
	case out.length < 0:
		b = appendLine(b, "Transfer-Encoding", "chunked")
	case out.length > 0, out.method == http.MethodPost, out.method == http.MethodPut, out.method == http.MethodPatch:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, out.length, 10), "\r\n"...)
	}
	var room [32]string
	names := room[:0]
	for name := range out.Header {
		if !ours(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that equal requests look equal
	for _, name := range names {
		for _, value := range out.Header[name] {
			b = appendLine(b, name, value)
		}
	}
	return append(b, "\r\n"...)
}

// ours tells the fields that are not taken from the header of a request, in
// whatever letters: they say where it goes and where it ends.
func ours(name string) bool {
	switch len(name) {
	case len("Host"):
		return field.EqualFold(name, "host")
	case len("Trailer"):
		return field.EqualFold(name, "trailer")
	case len("User-Agent"):
		return name == "User-Agent"
	case len("Content-Length"):
		return field.EqualFold(name, "content-length")
	case len("Transfer-Encoding"):
		return field.EqualFold(name, "transfer-encoding")
	}
	return false
}

func appendLine(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, strings.Trim(value, " \t")...), "\r\n"...)
}

// again returns the request to be sent once more, if it may be (RFC 9110 §9.2.2).
func (out outgoing) again() (outgoing, bool) {
	switch out.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
	default:
		return out, false
	}
	if out.length == 0 {
		return out, true
	}
	if out.GetBody == nil {
		return out, false
	}
	var err error
	out.content, err = out.GetBody()
	return out, err == nil
}

// target returns the request-target for u (RFC 9112 §3.2.1).
func (u *Upstream) target(in *url.URL) (string, error) {
	path := in.Opaque
	if path == "" {
		path = in.EscapedPath()
		if in.RawPath != "" {
			if p, err := url.PathUnescape(in.RawPath); err == nil && p == in.Path {
				path = in.RawPath // as written, where EscapedPath would mend it
			}
		}
	}
	switch {
	case path == "*" && in.Opaque == "" && in.RawQuery == "" && !in.ForceQuery:
		return path, nil // RFC 9112 §3.2.4
	case path == "" && u.base == "":
		path = "/"
	case path != "" && path[0] != '/':
		return "", errors.New("the path does not begin with a slash")
	}
	path = u.base + path
	if in.RawQuery != "" || in.ForceQuery {
		path += "?" + in.RawQuery
	}
	if badTarget(path) {
		return "", errors.New("a blank or control character in the request target")
	}
	return path, nil
}

// badTarget reports whether s would end the request-target, or the line. Any
// other octet passes.
func badTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
