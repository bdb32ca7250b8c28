package admin

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A try is one way to ask for a route.
type try struct {
	name    string
	change  func(raw) raw
	network string // empty: both
}

func lines(name, network string, lines ...string) try {
	return try{name + " " + strings.Join(lines, ", "), func(r raw) raw { return r.with(lines...) }, network}
}

// target has the target be something else, and the head as it was but for some lines.
func target(name, network string, change func(string) string, more ...string) try {
	return try{name, func(r raw) raw {
		r.target = change(r.target)
		return r.with(more...)
	}, network}
}

// refused are ways to ask for any route that nobody may ask in.
func refused(port string) []try {
	all := []try{
		lines("no token", "tcp", "Authorization:"),
		lines("empty", "tcp", "Authorization: Bearer"),
		lines("blank", "tcp", "Authorization: Bearer  "),
		lines("wrong", "tcp", "Authorization: Bearer "+strings.Repeat("x", len(token))),
		lines("prefix", "tcp", "Authorization: Bearer "+token[:len(token)-1]),
		lines("longer", "tcp", "Authorization: Bearer "+token+"x"),
		lines("other case", "tcp", "Authorization: Bearer "+strings.ToUpper(token)),
		lines("two words", "tcp", "Authorization: Bearer "+token+" "+token),
		lines("parameter", "tcp", "Authorization: Bearer token="+token),
		lines("no scheme", "tcp", "Authorization: "+token),
		lines("other scheme", "tcp", "Authorization: Token "+token),
		lines("basic", "tcp", "Authorization: Basic OmEtdG9rZW4tb2YtZW5vdWdoLW9jdGV0cw=="),
		lines("two, the right one first", "tcp", "Authorization: Bearer "+token, "Authorization: Bearer x"),
		lines("two, the right one last", "tcp", "Authorization: Bearer x", "Authorization: Bearer "+token),
		lines("elsewhere", "tcp", "Authorization:", "Proxy-Authorization: Bearer "+token),
		lines("elsewhere", "tcp", "Authorization:", "X-Api-Key: "+token, "X-Auth-Token: "+token, "Cookie: token="+token),
		target("token in the query", "tcp", func(s string) string { return s + "?token=" + token }, "Authorization:"),
		target("token in the query", "tcp", func(s string) string { return s + "?access_token=" + token }, "Authorization:"),
		target("token in the target", "tcp", func(s string) string { return "http://x:" + token + "@127.0.0.1" + s }, "Authorization:"),

		lines("method override", "tcp", "Authorization:", "X-HTTP-Method-Override: GET", "X-Method-Override: GET"),
		lines("forwarded", "tcp", "Authorization:", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"),
		lines("forwarded", "tcp", "Host: evil.example", "X-Forwarded-Host: localhost"),

		{"HTTP/1.0 without a host", func(r raw) raw {
			r.version = "HTTP/1.0"
			return r.with("Host:")
		}, "tcp"},
		lines("single name", "tcp", "Host: evil"),
		lines("a number", "tcp", "Host: 2130706433"),
		lines("port alone", "tcp", "Host: :"+port),
		target("absolute", "", func(s string) string { return "http://evil.example" + s }),
		target("absolute, port", "", func(s string) string { return "http://evil.example:" + port + s }, "Host: localhost"),
	}
	for _, host := range []string{
		"evil.com", "evil.com:" + port, "localhost.evil.com", "127.0.0.1.evil.com", "127.0.0.1.evil.com:" + port, "admin.example.evil.com", "evil.admin.example",
		"localhost.", "admin.example.", "127.0.0.1.", "127.1", "0x7f.0.0.1", "[::1].evil.com", "[::1]evil.com", "localhost@evil.com", "localhost:80@evil.com", "127.0.0.1,evil.com", "localhost, evil.com",
	} {
		all = append(all, lines("rebinding", "", "Host: "+host))
	}
	for _, origin := range []string{"null", "http://evil.com", "http://127.0.0.1:" + port, "http://localhost", "", "file://"} {
		all = append(all, lines("from a page", "", "Origin: "+origin))
	}
	for _, site := range []string{"cross-site", "same-site", "same-origin", "none", "", "whatever"} {
		all = append(all, lines("from a page", "", "Sec-Fetch-Site: "+site))
	}
	return append(all, try{"preflight", func(r raw) raw {
		r.method, r.body = http.MethodOptions, ""
		return r.with("Authorization:", "Content-Type:", "Origin: http://evil.com", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, content-type")
	}, ""})
}

// accepted are ways to ask that are right.
func accepted(port string) []try {
	return []try{
		lines("as it should be", "tcp"),
		lines("no token", "unix", "Authorization:"),
		lines("a token that nobody needs", "unix"),
		lines("lower case", "tcp", "Authorization: bearer "+token),
		lines("upper case", "tcp", "Authorization: BEARER  "+token),
		lines("localhost", "", "Host: localhost"),
		lines("localhost", "", "Host: LocalHost:"+port),
		lines("address", "", "Host: 127.0.0.1"),
		lines("address", "", "Host: [::1]:"+port),
		lines("address", "", "Host: [::1]"),
		lines("name", "tcp", "Host: Admin.Example:"+port),
		lines("single name", "unix", "Host: larder"),
		lines("no host", "unix", "Host: "),
		target("absolute", "", func(s string) string { return "http://localhost" + s }),
	}
}

// posted are the ways to say what a body is that a page of another site can have a browser
// send, or that nobody says.
func posted() []try {
	return []try{
		lines("no type", "", "Content-Type:"),
		lines("empty type", "", "Content-Type: "),
		lines("type", "", "Content-Type: text/plain"),
		lines("type", "", "Content-Type: text/plain; application/json"),
		lines("type", "", "Content-Type: application/x-www-form-urlencoded"),
		lines("type", "", "Content-Type: multipart/form-data; boundary=application/json"),
		lines("type", "", "Content-Type: text/json"),
		lines("type", "", "Content-Type: application/jsonp"),
		lines("two types", "", "Content-Type: application/json", "Content-Type: text/plain"),
		lines("two types in one", "", "Content-Type: application/json, text/plain"),
	}
}

// each calls do with every try, over what it is for.
func each(tries []try, do func(network string, t try)) {
	for _, network := range []string{"tcp", "unix"} {
		for _, t := range tries {
			if t.network == "" || t.network == network {
				do(network, t)
			}
		}
	}
}

// R-32, SS-08: who is not allowed to, a page of another site, and a name that leads here by a
// trick, get nothing done.
func TestR32_NobodyElseIsAccepted(t *testing.T) {
	a := newAPI(t)
	_, port, _ := net.SplitHostPort(a.tcp)
	asked := 0
	refuse := func(pattern string) func(network string, try try) {
		was := a.good(pattern)
		before := a.state()
		return func(network string, try try) {
			got := a.send(network, try.change(was))
			asked++
			if got.status < 400 || got.status > 499 {
				t.Errorf("%s over %s, %s: %d %s", pattern, network, try.name, got.status, got.body)
			}
			for name := range got.header {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("%s over %s, %s: it has %s", pattern, network, try.name, name)
				}
			}
			var p Problem
			if err := json.Unmarshal(got.body, &p); got.status != http.StatusBadRequest && (err != nil || p.Status != got.status || p.Detail == "" || got.header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s over %s, %s: %v %s", pattern, network, try.name, err, got.body)
			}
			if after := a.state(); after != before {
				t.Errorf("%s over %s, %s: before\n%s\nafter\n%s", pattern, network, try.name, before, after)
			}
		}
	}
	for _, pattern := range patterns() {
		each(refused(port), refuse(pattern))
		if strings.HasPrefix(pattern, http.MethodPost) {
			tries := posted()
			if strings.Contains(pattern, "{id}") {
				tries = tries[1:] // there is no body to be of any type
			}
			each(tries, refuse(pattern))
		}
	}
	if routes := len(patterns()); routes < 9 || asked < 80*routes {
		t.Errorf("%d requests for %d routes", asked, routes)
	}
}

// The same requests are accepted if nothing is wrong with them: else the matrix would show
// nothing.
func TestR32_TheRightOnesAre(t *testing.T) {
	a := newAPI(t)
	_, port, _ := net.SplitHostPort(a.tcp)
	for _, pattern := range patterns() {
		each(accepted(port), func(network string, try try) {
			was := a.good(pattern)
			before := a.state()
			got := a.send(network, try.change(was))
			if got.status/100 != 2 {
				t.Errorf("%s over %s, %s: %d %s", pattern, network, try.name, got.status, got.body)
			}
			changes := !strings.HasPrefix(pattern, http.MethodGet) && !strings.Contains(pattern, "preview")
			if after := a.state(); (after != before) != changes {
				t.Errorf("%s over %s, %s: before\n%s\nafter\n%s", pattern, network, try.name, before, after)
			}
		})
	}
}

// A method is what the request line says, whatever else names one; and there is no other than
// those of the routes.
func TestR32_MethodsAreNotOverridden(t *testing.T) {
	a := newAPI(t)
	methods := map[string][]string{} // of each path
	for _, pattern := range patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		methods[path] = append(methods[path], method)
	}
	for path, routed := range methods {
		was := a.good(routed[0] + " " + path)
		before := a.state()
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "QUERY", "get", "post"} {
			for _, other := range []string{"GET", "POST", "DELETE"} {
				r := was.with("X-HTTP-Method-Override: "+other, "X-Method-Override: "+other, "X-HTTP-Method: "+other)
				r.method = method
				want := http.StatusMethodNotAllowed
				if slices.Contains(routed, method) {
					if want = http.StatusOK; method != http.MethodGet {
						continue // it does what it is there for
					}
				}
				got := a.send("tcp", r)
				allowed := strings.Split(got.header.Get("Allow"), ", ")
				if slices.Sort(allowed); got.status != want || want != http.StatusOK && !slices.Equal(allowed, routed) {
					t.Errorf("%s %s for %s: %d, Allow %s, %s", method, r.target, other, got.status, got.header.Get("Allow"), got.body)
				}
				r.target += "?_method=" + other
				if got := a.send("tcp", r); got.status != http.StatusMethodNotAllowed && got.status != http.StatusBadRequest {
					t.Errorf("%s %s for %s: %d %s", method, r.target, other, got.status, got.body)
				}
			}
		}
		if after := a.state(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", path, before, after)
		}
	}
}

// There is nothing but the routes, nor are they behind other spellings of their paths.
func TestR32_ThereIsNothingElse(t *testing.T) {
	a := newAPI(t)
	was := a.good("POST /v1/purge")
	before := a.state()
	for _, path := range []string{"/", "/v1", "/v1/", "/v2/purge", "//v1/purge", "/v1//purge", "/v1/./purge", "/v1/x/../purge", "/v1/purge/", "/V1/purge", "/v1/Purge", "/debug/pprof/", "/metrics", "/v1/purges/1-1/x", "*"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			r := was
			r.method, r.target = method, path
			got := a.send("tcp", r)
			if got.status != http.StatusNotFound && (path != "*" || got.status != http.StatusBadRequest) {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	if after := a.state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
