package encode

import (
	"strings"

	"github.com/larderhq/larder/internal/field"
)

// asIs stands in place of a coding in the tag of what was left alone.
const asIs = "identity"

// What parts the origin's tag from the coding in ours tells whether the origin's
// was strong.
const (
	fromStrong = "-"
	fromWeak   = "~"
)

// variant is our tag for the variant so coded of what the origin calls t:
// W/"x-br" for "x", and W/"x~br" for W/"x".
func variant(t field.ETag, coding string) field.ETag {
	sep := fromStrong
	if t.Weak {
		sep = fromWeak
	}
	return field.ETag{Opaque: strings.TrimSuffix(t.Opaque, `"`) + sep + coding + `"`, Weak: true}
}

// origins is the inverse of variant; ok is false if t is not of our making.
func origins(t field.ETag) (origin field.ETag, coding string, ok bool) {
	if !t.Weak {
		return field.ETag{}, "", false
	}
	opaque := strings.TrimSuffix(t.Opaque, `"`)
	sep := strings.LastIndexAny(opaque, fromStrong+fromWeak)
	coding = opaque[sep+1:]
	if _, known := coders[coding]; sep < 0 || !known && coding != asIs {
		return field.ETag{}, "", false
	}
	return field.ETag{Opaque: opaque[:sep] + `"`, Weak: opaque[sep:sep+1] == fromWeak}, coding, true
}

// escaped is the tag under which what the origin calls t goes on uncoded: t,
// unless that looks like one of ours, as behind another layer of this kind.
func escaped(t field.ETag) field.ETag {
	if _, _, ours := origins(t); ours {
		return variant(t, asIs)
	}
	return t
}

// anyCoding, in place of a coding, is all of them.
const anyCoding = "*"

// asked is what a list of tags means to the origin: those of ours that name the
// coding become the origin's own. changed is false if there are none; then the
// list goes on as it came.
func asked(lines []string, coding string) (line string, changed bool) {
	var b strings.Builder
	for i, t := range field.ParseETags(lines).Tags {
		if origin, c, ok := origins(t); ok && (c == coding || c == asIs || coding == anyCoding) {
			t, changed = origin, true
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text(t))
	}
	return b.String(), changed
}

// confirmed finds the tag of ours in a list that asked made t of, and its coding;
// ok is false if there is none.
func confirmed(lines []string, coding string, t field.ETag) (ours field.ETag, c string, ok bool) {
	for _, ours = range field.ParseETags(lines).Tags {
		origin, c, ok := origins(ours)
		if ok && (c == coding || c == asIs) && origin.WeakEqual(t) {
			return ours, c, true
		}
	}
	return field.ETag{}, "", false
}

func text(t field.ETag) string {
	if t.Weak {
		return "W/" + t.Opaque
	}
	return t.Opaque
}

// parse reads an ETag field. Several lines are as bad as a malformed one.
func parse(lines []string) (t field.ETag, ok bool) {
	if len(lines) != 1 {
		return field.ETag{}, false
	}
	return field.ParseETag(lines[0])
}
