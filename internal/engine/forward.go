package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
)

// view is what the rules see of a request's fields: exactly what the origin
// will see, so that a variant is chosen by what made it. It is the request's
// own map where nothing has to be changed.
func (e *Engine) view(r *http.Request, target *canon.Target) rules.Header {
	trusted := e.Trusts != nil && e.Trusts(r.RemoteAddr)
	said := r.Header
	if e.Negotiate != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		said = e.Negotiate(said)
	}
	if e.Forwarded == ForwardNothing && !e.special(said, trusted) {
		return said
	}
	h := message.EndToEnd(said)
	for name := range h {
		if e.spoken.drops(name, trusted) {
			delete(h, name)
		}
	}
	e.speakFor(r, target, h)
	return rules.Header(h)
}

// spokenFor are the fields by which a client could name another host, scheme,
// path, method or address than its own (RFC 9111 §7.1), and all that begin with
// spokenPrefix. They are believed only from trusted peers.
var spokenFor = []string{
	// The host.
	"Forwarded", "X-Backend-Host", "X-Envoy-Original-Host", "X-Host", "X-Http-Host", "X-Http-Host-Override",
	"X-Original-Host", "X-Proxy-Host", "X-Real-Host", "X-Server-Name",
	// The scheme and the port.
	"Front-End-Https", "X-Original-Port", "X-Original-Proto", "X-Original-Scheme", "X-Port", "X-Proto", "X-Real-Port", "X-Scheme",
	"X-Url-Scheme",
	// The path.
	"X-Envoy-Original-Path", "X-Http-Destinationurl", "X-Http-Path-Override", "X-Original-Path", "X-Original-Uri", "X-Original-Url",
	"X-Override-Url", "X-Proxy-Url", "X-Replaced-Path", "X-Request-Uri", "X-Rewrite-Uri", "X-Rewrite-Url", "X-Script-Name",
	"X-Waws-Unencoded-Url",
	// The method.
	"X-Http-Method", "X-Http-Method-Override", "X-Method", "X-Method-Override", "X-Original-Method",
	// The client.
	"X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Originating-Ip", "X-Proxyuser-Ip", "X-Real-Ip",
	"X-Remote-Addr", "X-Remote-Ip",
}

const spokenPrefix = "X-Forwarded"

// spoken are the names of fields that only trusted peers are believed.
type spoken struct {
	names map[string]bool
	first [256]bool // first octets of the names
}

// learn takes up names in canonical form.
func (s *spoken) learn(names []string) {
	if s.names == nil {
		s.names = make(map[string]bool)
	}
	for _, name := range names {
		s.names[name], s.first[name[0]] = true, true
	}
}

// drops tells whether the field name is kept from the origin. A name that some
// servers mistake for one of ours is nobody's to speak.
func (s *spoken) drops(name string, trusted bool) bool {
	switch {
	case name == "" || !s.first[name[0]]:
		return false
	case s.names[name]:
		return !trusted
	case !strings.ContainsAny(name, "_."):
		return !trusted && strings.HasPrefix(name, spokenPrefix)
	}
	plain := http.CanonicalHeaderKey(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	return s.names[plain] || strings.HasPrefix(plain, spokenPrefix)
}

// special tells whether a request has fields that the origin must not see.
func (e *Engine) special(h http.Header, trusted bool) bool {
	for name, lines := range h {
		if name == "Connection" {
			if len(lines) != 1 || !strings.EqualFold(lines[0], "keep-alive") && !strings.EqualFold(lines[0], "close") {
				return true
			}
		} else if e.spoken.drops(name, trusted) {
			return true
		}
	}
	return false
}

// SpeaksFor tells whether h, of a request, has fields by which a client speaks for
// others, which the origin does not get to see.
func (e *Engine) SpeaksFor(h http.Header) bool {
	for name := range h {
		if e.spoken.drops(http.CanonicalHeaderKey(name), false) {
			return true
		}
	}
	return false
}

// speakFor tells the origin about the client, after what trusted peers said
// (RFC 7239 §4).
func (e *Engine) speakFor(r *http.Request, target *canon.Target, h http.Header) {
	switch e.Forwarded {
	case ForwardStandard:
		b := field.AppendForwardedNode([]byte("for="), r.RemoteAddr)
		b = append(append(b, ";host="...), forwardedValue(target.Host)...)
		b = append(append(b, ";proto="...), target.Scheme...)
		h["Forwarded"] = append(slices.Clip(h["Forwarded"]), string(b))
	case ForwardX:
		client := r.RemoteAddr
		if i := strings.LastIndexByte(client, ':'); i >= 0 {
			client = strings.Trim(client[:i], "[]")
		}
		before := strings.Join(h["X-Forwarded-For"], ", ")
		if before != "" {
			client = before + ", " + client
		}
		h["X-Forwarded-For"] = []string{client}
		for name, value := range map[string]string{"X-Forwarded-Host": target.Host, "X-Forwarded-Proto": target.Scheme} {
			if len(h[name]) == 0 {
				h[name] = []string{value}
			}
		}
	}
}

// forwardedValue quotes a host that is no token, such as one with a port. The
// octets of a host (RFC 3986 §3.2.2) need no escapes.
func forwardedValue(s string) string {
	if strings.ContainsAny(s, ":[](),;=") {
		return `"` + s + `"`
	}
	return s
}

// announced tells whether a surrogate before us has taken token already: it is to name
// one of them (Edge Architecture 2.1).
func announced(lines []string, token string) bool {
	for member := range field.Members(lines) {
		if name, _, _ := strings.Cut(member, "="); strings.TrimSpace(name) == token {
			return true
		}
	}
	return false
}

// outbound is the header section of a request of ours, made from the client's:
// end-to-end fields, and what we say of ourselves after them.
func (e *Engine) outbound(p *Policy, view rules.Header, r *http.Request) http.Header {
	h := message.EndToEnd(http.Header(view))
	if e.Pseudonym != "" {
		h["Via"] = append(slices.Clip(h["Via"]), e.viaMember(r.ProtoMajor, r.ProtoMinor))
	}
	if e.LoopID != "" {
		h["Cdn-Loop"] = append(slices.Clip(h["Cdn-Loop"]), e.LoopID)
	}
	var capable []string
	if p.Terms.Surrogate {
		capable = append(capable, "Surrogate/1.0")
	}
	if p.Assembles {
		capable = append(capable, "ESI/1.0")
	}
	if len(capable) > 0 && !announced(h["Surrogate-Capability"], p.Terms.DeviceToken()) {
		h["Surrogate-Capability"] = append(slices.Clip(h["Surrogate-Capability"]), p.Terms.DeviceToken()+`="`+strings.Join(capable, " ")+`"`)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would add its own
	}
	return h
}

func (e *Engine) viaMember(major, minor int) string {
	version := strconv.Itoa(major)
	if major < 2 {
		version += "." + strconv.Itoa(minor)
	}
	return version + " " + e.Pseudonym
}

// looped tells whether a request has passed here before, more often than it may
// (RFC 9110 §7.6.3, RFC 8586 §2).
func (e *Engine) looped(h http.Header) bool {
	return e.Pseudonym != "" && len(h["Via"]) > 0 && field.CountVia(h["Via"], e.Pseudonym) > e.LoopLimit ||
		e.LoopID != "" && len(h["Cdn-Loop"]) > 0 && field.CountCDNLoop(h["Cdn-Loop"], e.LoopID) > e.LoopLimit
}

// lastHop tells whether Max-Forwards makes us the one to answer (RFC 9110
// §7.6.2); otherwise it counts down.
func (x *exchange) lastHop() bool {
	if x.r.Method != http.MethodOptions {
		return false
	}
	lines := x.r.Header["Max-Forwards"]
	if len(lines) != 1 {
		return false
	}
	n, err := strconv.ParseUint(lines[0], 10, 63)
	if err != nil {
		return false
	}
	if n == 0 {
		return true
	}
	h := http.Header(x.req.Header).Clone()
	h["Max-Forwards"] = []string{strconv.FormatUint(n-1, 10)}
	x.req.Header = rules.Header(h)
	return false
}

// upgrading is the protocol that the client asks to change to, if it is one
// that is tunnelled here (RFC 9110 §7.8).
func (x *exchange) upgrading() string {
	if len(x.e.Upgrades) == 0 || len(x.r.Header["Upgrade"]) != 1 || !field.HasToken(x.r.Header["Connection"], "upgrade") {
		return ""
	}
	protocol := x.r.Header["Upgrade"][0]
	if x.r.Method == http.MethodGet && x.r.ProtoAtLeast(1, 1) && slices.Contains(x.e.Upgrades, strings.ToLower(protocol)) {
		return protocol
	}
	return ""
}
