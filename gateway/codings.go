package gateway

import (
	"cmp"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// endings are what the names of precompressed copies end with, by coding.
var endings = map[string]string{"br": ".br", "zstd": ".zst", "gzip": ".gz"}

// Codings are those of which there can be precompressed copies, best first.
func Codings() []string { return []string{"br", "zstd", "gzip"} }

// pick opens what is to be sent for name: the object, or a copy of it in a coding
// that the client takes.
func (x *exchange) pick(name string, c conditions) (Object, error) {
	if len(x.opt.Precompressed) == 0 || slices.Contains([]string{".br", ".zst", ".gz"}, path.Ext(name)) {
		return x.openObject(name, c.want(x.r))
	}
	// Each copy is looked for whatever the client takes, for the answer that has
	// none depends on what the client takes as well, if there is one.
	o, err := x.openObject(name, Want{})
	if err != nil {
		return nil, err
	}
	plain := o.Info()
	if plain.Fields.Get("Content-Encoding") != "" || plain.Fields.Get("Content-Type") == "" && typeByName(name) == "" {
		return o, nil // it is coded already, or only its own octets tell its type
	}
	best, bestQ := o, 0.0
	field := strings.Join(x.r.Header.Values("Accept-Encoding"), ",")
	uncoded := quality(field, "identity")
	for _, coding := range x.opt.Precompressed {
		other, err := x.openObject(name+endings[coding], Want{})
		if err != nil {
			continue // what cannot be had is not needed
		}
		outdated := other.Info().Modified.Before(plain.Modified)
		if !outdated {
			x.w.Header().Set("Vary", "Accept-Encoding")
		}
		if q := quality(field, coding); !outdated && q > bestQ && q >= uncoded {
			other, best, bestQ = best, &coded{other, coding, plain.Fields}, q
		}
		_ = other.Close() // opened for reading
	}
	return best, nil
}

// Negotiate returns the fields of a GET or HEAD as the Handler understands them: what
// clients accept said in one of few ways, so that a cache keeps one answer for each,
// and not one for each wording. It does not change h, and returns it if it is so already.
func (h *Handler) Negotiate(fields http.Header) http.Header {
	encoding, accept := "", ""
	if len(h.opt.Precompressed) > 0 {
		encoding = h.bestCodings(strings.Join(fields.Values("Accept-Encoding"), ","))
	}
	if h.opt.Listing && prefersJSON(fields) {
		accept = "application/json"
	}
	return with(with(fields, "Accept-Encoding", encoding), "Accept", accept)
}

// bestCodings are those that are better than none to a client, the most wanted first.
func (h *Handler) bestCodings(field string) string {
	type wanted struct {
		coding string
		q      float64
	}
	var all []wanted
	uncoded := quality(field, "identity")
	for _, coding := range h.opt.Precompressed {
		if q := quality(field, coding); q > 0 && q >= uncoded {
			all = append(all, wanted{coding, q})
		}
	}
	slices.SortStableFunc(all, func(a, b wanted) int { return cmp.Compare(b.q, a.q) })
	var list []string
	for i, w := range all {
		list = append(list, w.coding)
		if i > 0 {
			list[i] += ";q=0." + strconv.Itoa(9-i)
		}
	}
	return strings.Join(list, ", ")
}

// with returns fields in which name has one value, or none if that is "".
func with(fields http.Header, name, value string) http.Header {
	if now := fields.Values(name); len(now) == 0 && value == "" || len(now) == 1 && now[0] == value {
		return fields
	}
	fields = maps.Clone(fields)
	fields.Del(name)
	if value != "" {
		fields.Set(name, value)
	}
	return fields
}

// A coded object is a copy in a coding, described as that of which it is one.
type coded struct {
	Object
	coding string
	fields http.Header
}

func (c *coded) Info() Info {
	i := c.Object.Info()
	i.Fields = http.Header{"Content-Encoding": {c.coding}}
	for field, v := range c.fields {
		i.Fields[field] = v
	}
	if i.Version != "" {
		i.Version += "-" + c.coding // where versions are made of sizes and times, two can be the same
	}
	return i
}

// quality is how much an Accept-Encoding or Accept wants something, 0 to 1; nothing said is
// 0. What is asked for by name goes before a wildcard (RFC 9110 §§12.4.2, 12.5.3).
func quality(field, name string) float64 {
	kind, _, _ := strings.Cut(name, "/")
	found, q := 0, 0.0
	for member := range strings.SplitSeq(field, ",") {
		token, params, _ := strings.Cut(member, ";")
		by := 0
		switch strings.ToLower(strings.TrimSpace(token)) {
		case name:
			by = 3
		case kind + "/*":
			by = 2
		case "*", "*/*":
			by = 1
		}
		if by > 0 && by >= found {
			found, q = by, weight(params)
		}
	}
	return q
}

// weight reads the q of parameters. What cannot be read wants nothing.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "q") {
			q, err := strconv.ParseFloat(v, 64)
			if err != nil || q < 0 || q > 1 {
				return 0
			}
			return q
		}
	}
	return 1
}

// prefersJSON tells whether a program asks, and not a browser.
func prefersJSON(h http.Header) bool {
	accept := strings.Join(h.Values("Accept"), ",")
	return quality(accept, "application/json") > quality(accept, "text/html")
}
