package field

import (
	"time"

	"github.com/dunglas/httpsfv"
)

// ParseTargeted reads a targeted cache control field such as CDN-Cache-Control
// (RFC 9213, 2.1), which is a structured dictionary (RFC 9651). ok is false if
// the field is absent, empty or void because of a syntax error anywhere in it;
// then the next source of directives counts. A valid field without any known
// member is ok.
//
// Members of a type their directive does not have are not used, nor are
// negative integers; parameters are ignored; of repeated keys the last counts.
// Only directives of responses are known.
//
// no-cache and private are qualified if their value is a string with
// comma-separated field names, a token, or an inner list of strings or tokens.
// As in Cache-Control, a list that is empty or holds something else than names
// counts as the unqualified form.
func ParseTargeted(lines []string) (d Directives, ok bool) {
	if len(lines) == 0 {
		return Directives{}, false
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return Directives{}, false
	}
	t := targeted{dict}
	d = Directives{
		Public:          t.flag("public"),
		NoStore:         t.flag("no-store"),
		NoTransform:     t.flag("no-transform"),
		Immutable:       t.flag("immutable"),
		MustRevalidate:  t.flag("must-revalidate"),
		ProxyRevalidate: t.flag("proxy-revalidate"),
		MustUnderstand:  t.flag("must-understand"),

		MaxAge:               t.seconds("max-age"),
		SMaxAge:              t.seconds("s-maxage"),
		StaleWhileRevalidate: t.seconds("stale-while-revalidate"),
		StaleIfError:         t.seconds("stale-if-error"),
	}
	d.NoCache, d.NoCacheFields = t.names("no-cache")
	d.Private, d.PrivateFields = t.names("private")
	return d, true
}

type targeted struct{ dict *httpsfv.Dictionary }

// value returns the bare value of an item, nil if there is none of that name.
func (t targeted) value(name string) any {
	member, _ := t.dict.Get(name)
	if item, ok := member.(httpsfv.Item); ok {
		return item.Value
	}
	return nil
}

func (t targeted) flag(name string) bool {
	return t.value(name) == true
}

func (t targeted) seconds(name string) Delta {
	n, ok := t.value(name).(int64)
	if !ok || n < 0 {
		return Delta{}
	}
	n = min(n, int64(MaxDelta/time.Second))
	return Delta{time.Duration(n) * time.Second, true}
}

func (t targeted) names(name string) (all bool, fields []string) {
	member, _ := t.dict.Get(name)
	if list, ok := member.(httpsfv.InnerList); ok {
		for _, item := range list.Items {
			if text, ok := text(item.Value); !ok || !appendFieldName(&fields, text) {
				return true, nil
			}
		}
		return len(fields) == 0, fields
	}
	value := t.value(name)
	if text, ok := text(value); ok {
		if !appendFieldNames(&fields, text) {
			return true, nil
		}
		return false, fields
	}
	return value == true, nil
}

// text returns the content of a string or token.
func text(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case httpsfv.Token:
		return string(v), true
	}
	return "", false
}
