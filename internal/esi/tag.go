package esi

import "strings"

// An element is what a tag says.
type element struct {
	name       string // without `esi:`
	end, empty bool   // </esi:name>, <esi:name/>
	attributes [][2]string
}

// maxAttributes is how many attributes a tag may have. Those of ESI have three.
const maxAttributes = 16

// parseTag reads a whole tag. The name is right even if ok is false: then the
// rest is malformed.
func parseTag(raw string) (e element, ok bool) {
	var rest string
	if rest, e.end = strings.CutPrefix(raw, "</esi:"); !e.end {
		rest = strings.TrimPrefix(raw, "<esi:")
	}
	rest = strings.TrimSuffix(rest, ">")
	e.name, rest = cutName(rest)
	if e.end {
		return e, e.name != "" && skipBlanks(rest) == ""
	}
	rest, e.empty = strings.CutSuffix(rest, "/")
	for e.name != "" {
		after := skipBlanks(rest)
		if after == "" {
			return e, true
		}
		if len(after) == len(rest) {
			break // no blank before the attribute
		}
		var attribute [2]string
		if attribute, rest, ok = cutAttribute(after); !ok {
			break
		}
		if _, twice := e.attribute(attribute[0]); twice || len(e.attributes) == maxAttributes {
			break
		}
		e.attributes = append(e.attributes, attribute)
	}
	return e, false
}

// cutAttribute takes name="value" off the beginning of s.
func cutAttribute(s string) (attribute [2]string, rest string, ok bool) {
	name, rest := cutName(s)
	rest, ok = strings.CutPrefix(skipBlanks(rest), "=")
	rest = skipBlanks(rest)
	if name == "" || !ok || rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return attribute, s, false
	}
	value, rest, ok := strings.Cut(rest[1:], rest[:1])
	if strings.IndexByte(value, '&') >= 0 {
		value = entities.Replace(value)
	}
	return [2]string{name, value}, rest, ok
}

// entities are those of XML. A lone & stays, as it is usual in URLs.
var entities = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'")

func (e *element) attribute(name string) (value string, ok bool) {
	for _, a := range e.attributes {
		if a[0] == name {
			return a[1], true
		}
	}
	return "", false
}

func cutName(s string) (name, rest string) {
	n := 0
	for n < len(s) && isName(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func skipBlanks(s string) string { return strings.TrimLeft(s, " \t\r\n\f") }
