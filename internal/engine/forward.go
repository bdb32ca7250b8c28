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
	if e.Forwarded == ForwardNothing && !special(r.Header, trusted) {
		return r.Header
	}
	h := message.EndToEnd(r.Header)
	if !trusted {
		for _, name := range spokenFor {
			delete(h, name)
		}
	}
	e.speakFor(r, target, h)
	return rules.Header(h)
}

// spokenFor are the fields by which a client could name another host, scheme,
// path, method or address than its own (RFC 9111 §7.1). They are believed only
// from trusted peers.
var spokenFor = []string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Port",
	"X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Path", "X-Host", "X-Real-Ip", "X-Original-Url", "X-Original-Host",
	"X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Http-Host-Override", "X-Url-Scheme", "Front-End-Https",
}

// special tells whether a request has fields that the origin must not see.
func special(h http.Header, trusted bool) bool {
	for name, lines := range h {
		switch name {
		case "Connection":
			if len(lines) != 1 || !strings.EqualFold(lines[0], "keep-alive") && !strings.EqualFold(lines[0], "close") {
				return true
			}
		default:
			if !trusted && (name[0] == 'X' || name[0] == 'F') && (slices.Contains(spokenFor, name) || alias(name)) {
				return true
			}
		}
	}
	return false
}

// alias tells a name that some servers mistake for one of spokenFor.
func alias(name string) bool {
	if !strings.ContainsAny(name, "_.") {
		return false
	}
	plain := http.CanonicalHeaderKey(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	return slices.Contains(spokenFor, plain)
}

// speakFor tells the origin about the client, after what trusted peers said
// (RFC 7239 §4).
func (e *Engine) speakFor(r *http.Request, target *canon.Target, h http.Header) {
	for name := range h {
		if alias(name) {
			delete(h, name)
		}
	}
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

// forwardedValue quotes what is no token, such as a host with a port.
func forwardedValue(s string) string {
	if strings.ContainsAny(s, ":[]") {
		return `"` + s + `"`
	}
	return s
}

// outbound is the header section of a request of ours, made from the client's:
// end-to-end fields, and what we say of ourselves after them.
func (e *Engine) outbound(view rules.Header, r *http.Request) http.Header {
	h := message.EndToEnd(http.Header(view))
	if e.Pseudonym != "" {
		h["Via"] = append(slices.Clip(h["Via"]), e.viaMember(r.ProtoMajor, r.ProtoMinor))
	}
	if e.LoopID != "" {
		h["Cdn-Loop"] = append(slices.Clip(h["Cdn-Loop"]), e.LoopID)
	}
	if e.Terms.Surrogate {
		h["Surrogate-Capability"] = append(slices.Clip(h["Surrogate-Capability"]), e.Terms.DeviceToken()+`="Surrogate/1.0"`)
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

// via adds us to the Via of a response, where that is wished for.
func (x *exchange) via(h http.Header) {
	if x.e.ViaResponse && x.e.Pseudonym != "" {
		h["Via"] = append(slices.Clip(h["Via"]), x.e.viaMember(1, 1))
	}
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
	lines := x.r.Header["Max-Forwards"]
	if x.r.Method != http.MethodOptions || len(lines) != 1 {
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
