package rules

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/larderhq/larder/internal/field"
)

// Matches tells whether s was made for a request like req, by the fields that
// Vary names (RFC 9111 §4.1) and by what the operator adds to the key.
func (s *Stored) Matches(req *Request, terms *Terms) bool {
	if s.VaryAny || s.Extra != req.Extra {
		return false
	}
	for i := range s.Selecting {
		if !s.Selecting[i].matches(req, s, terms) {
			return false
		}
	}
	return true
}

func (c *Selecting) matches(req *Request, s *Stored, terms *Terms) bool {
	lines := req.Header[c.Name]
	if len(lines) == 1 && c.Line != "" && lines[0] == c.Line {
		return true
	}
	value, present := req.compare(c.Name, terms)
	if present == c.Present && value == c.Value {
		return true
	}
	return terms.LanguageSelect && c.Name == "Accept-Language" && present && len(value) <= field.ListLimit &&
		field.LanguageSelects(lines, s.Header["Content-Language"])
}

// secret tells the fields whose values are not kept, but hashes of them.
func secret(name string) bool {
	return name == "Cookie" || name == "Authorization" || name == "Proxy-Authorization"
}

// Conceal is a hash of value that tells nothing to who has not the key.
func (t *Terms) Conceal(value string) string {
	mac := hmac.New(sha256.New, t.Secret)
	mac.Write([]byte(value))
	return string(mac.Sum(nil))
}

// A Choice is the outcome of Select: positions among the candidates, or -1.
type Choice struct {
	// Whole is the response to use, the whole representation.
	Whole int
	// Part is the best part that matches, where there is no whole one.
	Part int
	// Miss says why Whole is -1.
	Miss Reason
}

// Select picks the response for req among the candidates of its key (RFC 9111
// §4 and §4.1). The candidates are in the order received, the last first; nil
// ones are passed over.
//
// What has a Vary goes before what has none, then the latest Date, then what
// was received last.
func Select(req *Request, candidates []*Stored, terms *Terms) Choice {
	c := Choice{Whole: -1, Part: -1, Miss: URIMiss}
	for i, s := range candidates {
		if s == nil {
			continue
		}
		if !s.Matches(req, terms) {
			if c.Miss == URIMiss {
				c.Miss = VaryMiss
			}
			continue
		}
		best := &c.Whole
		if !s.Part.IsZero() {
			best = &c.Part
			if !req.Ranged() && s.Part.First != 0 || req.Ranged() && !s.covers(req) {
				c.Miss = Partial // and only a prefix helps who wants the whole
				continue
			}
		}
		if *best < 0 || s.preferredTo(candidates[*best]) {
			*best = i
		}
	}
	if c.Whole < 0 && c.Part >= 0 {
		c.Miss = Partial
	}
	return c
}

func (s *Stored) preferredTo(other *Stored) bool {
	if varies := len(s.Vary) > 0; varies != (len(other.Vary) > 0) {
		return varies
	}
	if !s.Date.Equal(other.Date) {
		return s.Date.After(other.Date)
	}
	return s.Received.After(other.Received) // which need not be the order of the commits
}

// SameVariant tells whether a and b were chosen by the same fields with the
// same values, so that the later takes the place of the earlier.
func SameVariant(a, b *Stored) bool {
	if len(a.Selecting) != len(b.Selecting) || a.Extra != b.Extra {
		return false
	}
	for i := range a.Selecting {
		p, q := &a.Selecting[i], &b.Selecting[i]
		if p.Name != q.Name || p.Value != q.Value || p.Present != q.Present {
			return false
		}
	}
	return true
}
