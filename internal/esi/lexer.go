package esi

import (
	"bytes"
	"io"
)

// A kind is what a token is.
type kind uint8

const (
	plain    kind = iota // text
	tag                  // <esi:name ...>, <esi:name .../> or </esi:name>
	variable             // $(...)
	opening              // <!--esi
	closing              // -->
	broken               // the beginning of a tag or variable that is malformed
)

// A token is a piece of a document.
type token struct {
	kind kind
	raw  []byte // its octets, valid until the next call of next
}

// readAhead is how much is read at a time.
const readAhead = 16 << 10

// A lexer cuts a document into tokens. How the document comes in pieces makes no
// difference, but for the pieces that text is cut into.
//
// No tag or variable reaches past the beginning of another tag, so that what
// turns out to be malformed is looked at once more as text and not again: the
// time is linear in the length of the document.
type lexer struct {
	in     io.Reader
	limit  int // the longest tag or variable
	buf    []byte
	r, w   int // what is read and not yet passed on is buf[r:w]
	eof    bool
	offset int64 // of buf[r] in the document
	start  int64 // of the last token, or of the end

	// Set by who reads the tokens: variables and the end of comments are told
	// from text only while these are above 0.
	vars, comments int

	// How far the tag or variable at buf[r] was searched for its end, and the
	// quote that was open there.
	at    int
	quote byte
}

func newLexer(in io.Reader, limit int) *lexer {
	return &lexer{in: in, limit: limit, buf: make([]byte, readAhead+limit)}
}

// next returns the next token, or io.EOF at the end of the document.
func (l *lexer) next() (token, error) {
	for {
		b := l.buf[l.r:l.w]
		if n := l.text(b); n > 0 {
			return l.pass(plain, n), nil
		}
		if len(b) > 0 {
			if k, v := l.begins(b); v == yes {
				switch n, v := l.extent(k, b); v {
				case yes:
					return l.pass(k, n), nil
				case no:
					return l.pass(broken, head(b)), nil
				}
			}
		}
		if l.eof {
			l.start = l.offset
			return token{}, io.EOF
		}
		if err := l.fill(); err != nil {
			return token{}, err
		}
	}
}

// pass hands on the next n octets.
func (l *lexer) pass(k kind, n int) token {
	t := token{k, l.buf[l.r : l.r+n]}
	l.r += n
	l.start = l.offset
	l.offset += int64(n)
	l.at, l.quote = 0, 0
	return t
}

// fill reads more. The end of the document is not an error.
func (l *lexer) fill() error {
	if l.r == l.w || l.w == len(l.buf) {
		l.w = copy(l.buf, l.buf[l.r:l.w])
		l.r = 0
	}
	for range 100 {
		n, err := l.in.Read(l.buf[l.w:])
		l.w += n
		if err == io.EOF {
			l.eof = true
			return nil
		}
		if n > 0 || err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// text returns how many octets of b precede what is markup or may become it.
func (l *lexer) text(b []byte) int {
	for i := 0; i < len(b); i++ {
		n := 0
		if l.vars > 0 || l.comments > 0 {
			n = bytes.IndexAny(b[i:], "<$-")
		} else {
			n = bytes.IndexByte(b[i:], '<')
		}
		if n < 0 {
			break
		}
		i += n
		if _, v := l.begins(b[i:]); v != no {
			return i
		}
	}
	return len(b)
}

// A verdict is what can be said of octets of which more may come.
type verdict uint8

const (
	no verdict = iota
	maybe
	yes
)

// begins tells what markup b, which is not empty, begins with.
func (l *lexer) begins(b []byte) (kind, verdict) {
	k, v := plain, no
	switch b[0] {
	case '<':
		k, v = beginsMarkup(b)
	case '$':
		if l.vars > 0 {
			k, v = variable, prefix(b, "$(")
		}
	case '-':
		if l.comments > 0 {
			k, v = closing, prefix(b, "-->")
		}
	}
	if v == maybe && l.eof {
		v = no
	}
	return k, v
}

// beginsMarkup is begins for tags and comments, which begin with `<`.
func beginsMarkup(b []byte) (kind, verdict) {
	if len(b) > 1 && b[1] != 'e' && b[1] != '/' && b[1] != '!' {
		return plain, no // as most tags of HTML
	}
	if v := max(prefix(b, "<esi:"), prefix(b, "</esi:")); v != no {
		return tag, v
	}
	v := prefix(b, "<!--esi")
	switch {
	case v == yes && len(b) == len("<!--esi"):
		v = maybe // it depends on what follows
	case v == yes && isName(b[len("<!--esi")]) && b[len("<!--esi")] != '-':
		v = no // <!--esiX; but <!--esi--> is an empty one
	}
	return opening, v
}

func prefix(b []byte, want string) verdict {
	switch n := min(len(b), len(want)); {
	case string(b[:n]) != want[:n]:
		return no
	case n < len(want):
		return maybe
	}
	return yes
}

// extent returns how long the markup is that b begins with. no means that it
// is malformed, maybe that its end is not there yet.
func (l *lexer) extent(k kind, b []byte) (int, verdict) {
	switch k {
	case opening:
		return len("<!--esi"), yes
	case closing:
		return len("-->"), yes
	}
	l.at = max(l.at, 1)
	for ; l.at < len(b) && l.at < l.limit; l.at++ {
		switch v, done := l.step(k, b); {
		case v == yes:
			return l.at + 1, yes
		case done:
			return 0, v
		}
	}
	if l.at >= l.limit || l.eof {
		return 0, no
	}
	return 0, maybe
}

// step looks at the octet b[l.at] of a tag or variable. yes means that it is
// the last; otherwise done is set if it is malformed or cannot be told yet.
func (l *lexer) step(k kind, b []byte) (v verdict, done bool) {
	c := b[l.at]
	if l.quote == c {
		l.quote = 0
		return no, false
	}
	switch c {
	case '<':
		if k == tag && l.quote == 0 {
			return no, true
		}
		_, v := l.begins(b[l.at:])
		return stops(v)
	case '$':
		if k == variable {
			_, v := l.begins(b[l.at:])
			return stops(v)
		}
	case '"':
		if k == tag && l.quote == 0 {
			l.quote = c
		}
	case '\'':
		if l.quote == 0 {
			l.quote = c
		}
	case '>':
		if k == tag && l.quote == 0 {
			return yes, true
		}
	case ')':
		if k == variable && l.quote == 0 {
			return yes, true
		}
	}
	return no, false
}

// stops tells what follows if other markup begins within a tag or variable.
func stops(begins verdict) (v verdict, done bool) {
	switch begins {
	case yes:
		return no, true
	case maybe:
		return maybe, true
	}
	return no, false
}

// head returns the length of what names the malformed tag or variable at the
// beginning of b: text that holds no other markup.
func head(b []byte) int {
	if b[0] == '$' {
		return len("$(")
	}
	n := bytes.IndexByte(b, ':') + 1
	for n < len(b) && isName(b[n]) {
		n++
	}
	return n
}

// isName tells the octets of names of elements and attributes.
func isName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == ':' || c >= 0x80
}
