package esi

import "fmt"

// tag deals with a whole tag outside of what is removed.
func (s *scan) tag(raw []byte) error {
	e, ok := parseTag(string(raw))
	if e.name == "remove" || e.name == "comment" {
		if s.page.Strict && (!ok || e.end) {
			return s.malformed("tag of " + e.name)
		}
		if !e.end {
			s.removed(token{tag, raw})
		}
		return nil
	}
	if !ok {
		return s.odd(raw, "tag")
	}
	if e.end {
		return s.endTag(e, raw)
	}
	switch e.name {
	case "include":
		return s.include(e, raw)
	case "vars", "choose", "try":
		return s.push(e, frame{live: s.shows()})
	case "when", "otherwise":
		return s.branch(e, raw)
	case "attempt":
		return s.attempt(e, raw)
	case "except":
		return s.except(e, raw)
	}
	return s.odd(raw, "unknown element "+e.name)
}

// push opens the element e, and ends it if it is empty.
func (s *scan) push(e element, f frame) error {
	if len(s.frames) > maxElements {
		return s.malformed("elements lie too deep in each other")
	}
	f.name = e.name
	s.frames = append(s.frames, f)
	switch e.name {
	case "vars":
		s.lexer.vars++
	case "except":
		s.excepts++
	}
	if e.empty {
		return s.pop()
	}
	return nil
}

// pop ends the element that was opened last.
func (s *scan) pop() error {
	f := *s.top()
	s.frames = s.frames[:len(s.frames)-1]
	switch f.name {
	case "vars":
		s.lexer.vars--
	case "except":
		s.excepts--
	case "attempt":
		if f.live {
			return s.mark(attemptEnd)
		}
	case "try":
		if f.live && f.done {
			err := s.mark(tryEnd)
			s.tries--
			return err
		}
	}
	return nil
}

func (s *scan) mark(m mark) error {
	return s.to.put(s.ctx, part{mark: m, level: s.tries})
}

// endTag ends the element opened last. Anything else is malformed: to end those
// in between would show what a when that does not hold was to hide.
func (s *scan) endTag(e element, raw []byte) error {
	switch {
	case e.name == s.top().name:
		return s.pop()
	case e.name == "include":
		return nil // an include written as a pair of tags
	}
	return s.odd(raw, "end of "+e.name+", which is not open")
}

// branch opens a when or otherwise: the first that holds is live.
func (s *scan) branch(e element, raw []byte) error {
	choose := s.top()
	if choose.name != "choose" {
		return s.odd(raw, e.name+" outside of choose")
	}
	holding := true
	if e.name == "when" {
		var err error
		test, _ := e.attribute("test")
		if holding, err = holds(test, s.variables()); err != nil && s.page.Strict {
			return s.malformed(fmt.Sprintf("test %q", test))
		}
	}
	live := choose.live && holding && !choose.done
	choose.done = choose.done || holding
	return s.push(e, frame{live: live})
}

func (s *scan) attempt(e element, raw []byte) error {
	try := s.top()
	if try.name != "try" {
		return s.odd(raw, "attempt outside of try")
	}
	if try.done && s.page.Strict {
		return s.malformed("a second attempt")
	}
	live := try.live && !try.done
	try.done = true
	if live {
		s.tries++
		if err := s.mark(attempt); err != nil {
			return err
		}
	}
	return s.push(e, frame{live: live})
}

func (s *scan) except(e element, raw []byte) error {
	try := s.top()
	if try.name != "try" {
		return s.odd(raw, "except outside of try")
	}
	if s.page.Strict && (!try.done || try.over) {
		return s.malformed("except before attempt, or a second one")
	}
	live := try.live && try.done && !try.over
	try.over = true
	return s.push(e, frame{live: live})
}

// include puts an include into the queue, and starts it.
func (s *scan) include(e element, raw []byte) error {
	src, ok := e.attribute("src")
	if !ok {
		return s.odd(raw, "include without src")
	}
	if !s.shows() {
		return nil
	}
	sources := []string{src}
	if alt, ok := e.attribute("alt"); ok {
		sources = append(sources, alt)
	}
	onerror, _ := e.attribute("onerror")
	// Whether an except is needed is known when its turn comes.
	i := newInclude(s.doc, sources, onerror == "continue", s.excepts > 0)
	if err := s.to.put(s.ctx, part{include: i}); err != nil {
		return err
	}
	if !i.late {
		s.start(i)
	}
	return nil
}
