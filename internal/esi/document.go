package esi

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/url"
)

// A document is a template or a fragment.
type document struct {
	url    *url.URL
	name   string // the URL as text
	key    string // the same for all forms of the URL
	parent *document
	depth  int
	ctx    context.Context // of the fragments in it
}

// maxElements is how many elements of a document may lie in each other.
const maxElements = 64

// A frame is an element that is open.
type frame struct {
	name string
	live bool // its text goes to the page, as far as the frame is no choose or try
	done bool // choose: a branch was taken; try: there was an attempt
	over bool // try: there was an except
}

// shows tells whether text directly in f goes to the page.
func (f *frame) shows() bool { return f.live && f.name != "choose" && f.name != "try" }

// A scan reads a document and puts its parts into a queue.
type scan struct {
	*assembly
	doc    *document
	ctx    context.Context
	lexer  *lexer
	to     *queue
	frames []frame // open elements, the first for the document itself

	tries   int // attempts whose try is open
	excepts int // open except elements

	// What is removed is never shown, whatever else is wrong: these count the
	// remove and comment elements that are open.
	removing, commenting int
}

// scan reads the parts of doc out of in into q, until the end, an error, or ctx
// is done.
func (a *assembly) scan(ctx context.Context, doc *document, in io.Reader, q *queue) error {
	s := &scan{assembly: a, doc: doc, ctx: ctx, lexer: newLexer(in, a.limits.Markup), to: q, frames: []frame{{live: true}}}
	for {
		t, err := s.lexer.next()
		if err == io.EOF {
			return s.close()
		}
		if err != nil {
			return fmt.Errorf("esi: read %q: %w", doc.name, err)
		}
		if err := s.token(t); err != nil {
			return err
		}
	}
}

// close ends what is open at the end of the document.
func (s *scan) close() error {
	if s.page.Strict && (len(s.frames) > 1 || s.removing+s.commenting+s.lexer.comments > 0) {
		return s.malformed("it ends within an element or a comment")
	}
	for len(s.frames) > 1 {
		if err := s.pop(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) malformed(what string) error {
	return fmt.Errorf("esi: %w: %q near octet %d: %s", ErrMarkup, s.doc.name, s.lexer.start, what)
}

// odd deals with malformed markup.
func (s *scan) odd(raw []byte, what string) error {
	if s.page.Strict {
		return s.malformed(what)
	}
	return s.text(raw)
}

func (s *scan) top() *frame { return &s.frames[len(s.frames)-1] }

func (s *scan) shows() bool { return s.removing+s.commenting == 0 && s.top().shows() }

func (s *scan) text(b []byte) error {
	if len(b) == 0 || !s.shows() {
		return nil
	}
	return s.to.put(s.ctx, part{text: b})
}

func (s *scan) token(t token) error {
	if s.removing+s.commenting > 0 {
		s.removed(t)
		return nil
	}
	switch t.kind {
	case opening:
		s.lexer.comments++
	case closing:
		s.lexer.comments--
	case variable:
		r, n, ok := parseReference(string(t.raw))
		if !ok || n != len(t.raw) {
			return s.odd(t.raw, "no such form of variable")
		}
		text, ours := s.variables().value(r)
		if !ours {
			text = html.EscapeString(text)
		}
		return s.text([]byte(text))
	case broken:
		if e, _ := parseTag(string(t.raw)); e.name != "remove" || e.end {
			return s.odd(t.raw, "a tag or variable that does not end, or is too long")
		}
		if s.page.Strict {
			return s.malformed("a tag of remove that does not end")
		}
		s.removed(t)
	case tag:
		return s.tag(t.raw)
	default:
		return s.text(t.raw)
	}
	return nil
}

// removed counts the remove and comment elements that are open. While one is,
// nothing else counts. A malformed tag may begin a remove, and ends nothing.
func (s *scan) removed(t token) {
	if t.kind != tag && t.kind != broken {
		return
	}
	e, ok := parseTag(string(t.raw))
	ok = ok && t.kind == tag
	switch {
	case e.name == "remove" && !e.end && !(ok && e.empty):
		s.removing++
	case e.name == "remove" && e.end && ok && s.removing > 0:
		s.removing--
	case e.name == "comment" && s.removing == 0 && t.kind == tag:
		if e.end && ok {
			s.commenting--
		} else if !e.end && !e.empty {
			s.commenting++
		}
	}
}
