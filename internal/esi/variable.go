package esi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/larderhq/larder/internal/field"
)

// A reference is a use of a variable: $(NAME), $(NAME{key}) or either of them
// with |default behind it (W3C ESI, 4.1 and 4.2).
type reference struct {
	name, key, standard string
}

// parseReference reads the reference at the beginning of s and returns its
// length. Keys are free of ( ) { } < and defaults of $( so that no octet
// belongs to two references, whatever their ends are.
func parseReference(s string) (r reference, n int, ok bool) {
	rest, ok := strings.CutPrefix(s, "$(")
	if !ok {
		return r, 0, false
	}
	end := 0
	for end < len(rest) && (rest[end] == '_' || 'A' <= rest[end] && rest[end] <= 'Z') {
		end++
	}
	r.name, rest = rest[:end], rest[end:]
	if key, found := strings.CutPrefix(rest, "{"); found {
		end = strings.IndexAny(key, "(){}<")
		if end < 1 || key[end] != '}' {
			return r, 0, false
		}
		r.key, rest = key[:end], key[end+1:]
	}
	if standard, found := strings.CutPrefix(rest, "|"); found {
		if r.standard, rest, ok = cutDefault(standard); !ok {
			return r, 0, false
		}
	}
	rest, ok = strings.CutPrefix(rest, ")")
	return r, len(s) - len(rest), ok && r.name != ""
}

// cutDefault takes a default off the beginning of s: 'quoted', or a word.
func cutDefault(s string) (standard, rest string, ok bool) {
	if quoted, found := strings.CutPrefix(s, "'"); found {
		standard, rest, ok = strings.Cut(quoted, "'")
		return standard, rest, ok && !strings.Contains(standard, "$(")
	}
	end := max(strings.IndexAny(s, "() \t\r\n'<"), 0)
	return s[:end], s[end:], true
}

// variables are those of a request. They are read by many goroutines.
type variables struct {
	host, agent, referer, query, languages, cookies string
	keys                                            map[string]map[string]string // by name
}

// newVariables reads r, which may be nil, as far as pages may see it.
func newVariables(r *http.Request, cookies []string) *variables {
	if r == nil {
		return new(variables)
	}
	v := &variables{host: r.Host, agent: r.UserAgent(), referer: r.Referer(), languages: strings.Join(r.Header["Accept-Language"], ", ")}
	v.keys = map[string]map[string]string{
		"HTTP_ACCEPT_LANGUAGE": languages(r.Header["Accept-Language"]),
		"HTTP_COOKIE":          {},
		"HTTP_USER_AGENT":      agent(v.agent),
		"QUERY_STRING":         {},
	}
	for _, c := range r.Cookies() {
		known := v.keys["HTTP_COOKIE"]
		if _, twice := known[c.Name]; !twice && slices.Contains(cookies, c.Name) {
			known[c.Name] = c.Value
			v.cookies += "; " + c.Name + "=" + c.Value
		}
	}
	v.cookies = strings.TrimPrefix(v.cookies, "; ")
	if r.URL != nil {
		v.query = r.URL.RawQuery
		for key, values := range r.URL.Query() {
			v.keys["QUERY_STRING"][key] = values[0]
		}
	}
	return v
}

// languages returns the members of Accept-Language in lower case: of that list
// a key tells whether it is there (W3C ESI, 4.1.2).
func languages(lines []string) map[string]string {
	all := map[string]string{}
	for member := range field.Members(lines) {
		language, weight, _ := strings.Cut(member, ";")
		if _, q, found := strings.Cut(weight, "="); found && strings.Trim(q, " \t0.") == "" {
			continue // of weight 0: not acceptable
		}
		all[strings.ToLower(strings.Trim(language, " \t"))] = "true"
	}
	return all
}

// agent returns the keys of HTTP_USER_AGENT (W3C ESI, 4).
func agent(s string) map[string]string {
	if s == "" {
		return nil
	}
	keys := map[string]string{"browser": "OTHER", "os": "OTHER"}
	for _, b := range [][2]string{{"MSIE ", "MSIE"}, {"Mozilla/", "MOZILLA"}} {
		if _, version, found := strings.Cut(s, b[0]); found {
			keys["browser"] = b[1]
			keys["version"] = version[:len(version)-len(strings.TrimLeft(version, "0123456789."))]
			break
		}
	}
	for _, o := range [][2]string{{"Windows", "WIN"}, {"Mac", "MAC"}, {"X11", "UNIX"}, {"Linux", "UNIX"}} {
		if strings.Contains(s, o[0]) {
			keys["os"] = o[1]
			break
		}
	}
	return keys
}

// value returns what r stands for; ours is set if that is its default, which
// the author of the page wrote. Unset and empty are the same (W3C ESI, 4.2).
func (v *variables) value(r reference) (text string, ours bool) {
	switch {
	case r.key != "":
		if r.name == "HTTP_ACCEPT_LANGUAGE" {
			r.key = strings.ToLower(r.key)
		}
		text = v.keys[r.name][r.key]
	case r.name == "HTTP_HOST":
		text = v.host
	case r.name == "HTTP_COOKIE":
		text = v.cookies
	case r.name == "HTTP_ACCEPT_LANGUAGE":
		text = v.languages
	case r.name == "HTTP_USER_AGENT":
		text = v.agent
	case r.name == "HTTP_REFERER":
		text = v.referer
	case r.name == "QUERY_STRING":
		text = v.query
	}
	if text == "" {
		return r.standard, true
	}
	return text, false
}
