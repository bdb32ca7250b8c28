package habit

import (
	"regexp/syntax"
	"slices"
	"unicode"
)

// Expressions are trees here, made of a few kinds of nodes by plain. A nil tree fits nothing, not
// even the empty text.

var (
	nothing  = &syntax.Regexp{Op: syntax.OpEmptyMatch}
	anything = &syntax.Regexp{Op: syntax.OpStar, Sub: []*syntax.Regexp{{Op: syntax.OpAnyCharNotNL}}}
	notSlash = &syntax.Regexp{Op: syntax.OpCharClass, Rune: []rune{0, '/' - 1, '/' + 1, unicode.MaxRune}}
)

// plain is re without groups, and with one kind of beginning, end and repetition each: a text
// here has no lines, and which way a repetition prefers does not matter.
func plain(re *syntax.Regexp) *syntax.Regexp {
	subs := make([]*syntax.Regexp, len(re.Sub))
	for i, sub := range re.Sub {
		subs[i] = plain(sub)
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return nil
	case syntax.OpCapture:
		return subs[0]
	case syntax.OpBeginLine:
		return &syntax.Regexp{Op: syntax.OpBeginText}
	case syntax.OpEndLine, syntax.OpEndText:
		return &syntax.Regexp{Op: syntax.OpEndText}
	case syntax.OpAnyChar:
		return anything.Sub[0]
	case syntax.OpConcat:
		return join(subs...)
	case syntax.OpAlternate:
		return either(subs...)
	case syntax.OpStar:
		return repeat(subs[0], 0, -1)
	case syntax.OpPlus:
		return repeat(subs[0], 1, -1)
	case syntax.OpQuest:
		return repeat(subs[0], 0, 1)
	case syntax.OpRepeat:
		return repeat(subs[0], re.Min, re.Max)
	}
	return re
}

// join is one after the other.
func join(subs ...*syntax.Regexp) *syntax.Regexp {
	var all []*syntax.Regexp
	for _, sub := range subs {
		switch {
		case sub == nil:
			return nil
		case sub.Op == syntax.OpConcat:
			all = append(all, sub.Sub...)
		case sub.Op == syntax.OpEmptyMatch, sub.Op == syntax.OpStar && len(all) > 0 && sub.Equal(all[len(all)-1]):
		default:
			all = append(all, sub)
		}
	}
	switch len(all) {
	case 0:
		return nothing
	case 1:
		return all[0]
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: all}
}

// either is any of them.
func either(subs ...*syntax.Regexp) *syntax.Regexp {
	var all []*syntax.Regexp
	for _, sub := range subs {
		switch {
		case sub == nil || slices.ContainsFunc(all, sub.Equal):
		case sub.Op == syntax.OpAlternate:
			all = append(all, sub.Sub...)
		default:
			all = append(all, sub)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return &syntax.Regexp{Op: syntax.OpAlternate, Sub: all}
}

// repeat is sub from least to most times; -1: any number.
func repeat(sub *syntax.Regexp, least, most int) *syntax.Regexp {
	switch {
	case most == 0, sub == nil && least == 0, sub != nil && sub.Op == syntax.OpEmptyMatch:
		return nothing
	case sub == nil:
		return nil
	case least == 1 && most == 1:
		return sub
	}
	re := &syntax.Regexp{Op: syntax.OpRepeat, Sub: []*syntax.Regexp{sub}, Min: least, Max: most}
	switch {
	case least == 0 && most == 1:
		re.Op = syntax.OpQuest
	case least == 0 && most < 0:
		re.Op = syntax.OpStar
	case least == 1 && most < 0:
		re.Op = syntax.OpPlus
	}
	return re
}

// times is what repeat made re of.
func times(re *syntax.Regexp) (least, most int) {
	switch re.Op {
	case syntax.OpQuest:
		return 0, 1
	case syntax.OpStar:
		return 0, -1
	case syntax.OpPlus:
		return 1, -1
	}
	return re.Min, re.Max
}

// has tells whether a node of re is of that kind.
func has(re *syntax.Regexp, op syntax.Op) bool {
	return re.Op == op || slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return has(sub, op) })
}

// tail is re without what it need not find at its end, since whatever may follow.
func tail(re *syntax.Regexp) *syntax.Regexp {
	if re == nil {
		return nil
	}
	switch re.Op {
	case syntax.OpStar, syntax.OpQuest:
		return nothing
	case syntax.OpAlternate:
		subs := make([]*syntax.Regexp, len(re.Sub))
		for i, sub := range re.Sub {
			subs[i] = tail(sub)
		}
		return either(subs...)
	case syntax.OpConcat:
		last := len(re.Sub) - 1
		if end := tail(re.Sub[last]); end.Op != syntax.OpEmptyMatch {
			return join(append(slices.Clone(re.Sub[:last]), end)...)
		}
		return tail(join(re.Sub[:last]...))
	}
	return re
}

// reverse is re for those who read backwards.
func reverse(re *syntax.Regexp) *syntax.Regexp {
	if re == nil {
		return nil
	}
	back := *re
	back.Sub = nil
	for _, sub := range re.Sub {
		back.Sub = append(back.Sub, reverse(sub))
	}
	switch re.Op {
	case syntax.OpConcat:
		slices.Reverse(back.Sub)
	case syntax.OpLiteral:
		back.Rune = slices.Clone(re.Rune)
		slices.Reverse(back.Rune)
	case syntax.OpBeginText:
		back.Op = syntax.OpEndText
	case syntax.OpEndText:
		back.Op = syntax.OpBeginText
	}
	return &back
}

// ofHost is what of re can be within a host, which has no slash and no capitals.
func ofHost(re *syntax.Regexp) *syntax.Regexp {
	if re == nil {
		return nil
	}
	switch re.Op {
	case syntax.OpAnyCharNotNL:
		return notSlash
	case syntax.OpCharClass:
		return without(re, '/')
	case syntax.OpLiteral:
		if slices.Contains(re.Rune, '/') {
			return nil
		}
		low := *re
		low.Rune = slices.Clone(re.Rune)
		for i, r := range low.Rune {
			low.Rune[i] = unicode.ToLower(r)
		}
		return &low
	case syntax.OpConcat, syntax.OpAlternate:
		subs := make([]*syntax.Regexp, len(re.Sub))
		for i, sub := range re.Sub {
			subs[i] = ofHost(sub)
		}
		if re.Op == syntax.OpConcat {
			return join(subs...)
		}
		return either(subs...)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := times(re)
		return repeat(ofHost(re.Sub[0]), least, most)
	}
	return re
}

// without is a class that lacks r.
func without(class *syntax.Regexp, r rune) *syntax.Regexp {
	less := &syntax.Regexp{Op: syntax.OpCharClass}
	for i := 0; i < len(class.Rune); i += 2 {
		low, high := class.Rune[i], class.Rune[i+1]
		if low <= r && r <= high {
			if low < r {
				less.Rune = append(less.Rune, low, r-1)
			}
			low = r + 1
		}
		if low <= high {
			less.Rune = append(less.Rune, low, high)
		}
	}
	if len(less.Rune) == 0 {
		return nil
	}
	return less
}

// maxNodes is how many nodes a rewriting makes at most: one for each octet that the outcome may
// have, and as many for what comes to nothing.
const maxNodes = 4 << 10

// A rewrite takes the ^ out of expressions: each is settled by whether it stands at the
// beginning of the text.
type rewrite struct {
	left int // nodes
	// slash says that the text is a path, which begins with a slash, and takes it off.
	slash bool
}

// afterSlash is what follows the slash if node, which fits one octet or more, is to begin
// with it; nil: it cannot.
func afterSlash(node *syntax.Regexp) *syntax.Regexp {
	switch node.Op {
	case syntax.OpLiteral:
		if node.Rune[0] != '/' {
			return nil
		}
		if len(node.Rune) == 1 {
			return nothing
		}
		rest := *node
		rest.Rune = node.Rune[1:]
		return &rest
	case syntax.OpCharClass:
		for i := 0; i < len(node.Rune); i += 2 {
			if node.Rune[i] <= '/' && '/' <= node.Rune[i+1] {
				return nothing
			}
		}
		return nil
	}
	return nothing
}

// empty tells whether re fits nothing at the beginning of a text that is not empty.
func (w *rewrite) empty(re *syntax.Regexp) bool {
	if re == nil {
		return false
	}
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpStar, syntax.OpQuest:
		return true
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !w.empty(sub) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, w.empty)
	case syntax.OpPlus, syntax.OpRepeat:
		return re.Op == syntax.OpRepeat && re.Min == 0 || w.empty(re.Sub[0])
	}
	return false
}

// begin is what re fits at the beginning of a text, but for nothing, which is left to empty.
func (w *rewrite) begin(re *syntax.Regexp) *syntax.Regexp {
	if w.left--; re == nil || w.left < 0 {
		return nil
	}
	if !w.slash && !has(re, syntax.OpBeginText) {
		return re
	}
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText:
		return nil
	case syntax.OpAlternate:
		var all []*syntax.Regexp
		for _, sub := range re.Sub {
			all = append(all, w.begin(sub))
		}
		return either(all...)
	case syntax.OpConcat:
		var all []*syntax.Regexp
		for i, sub := range re.Sub { // the first that fits more than nothing
			if from := join(re.Sub[i:]...); !w.slash && !has(from, syntax.OpBeginText) {
				all = append(all, from)
				break
			}
			rest := []*syntax.Regexp{w.begin(sub)}
			for _, next := range re.Sub[i+1:] {
				rest = append(rest, w.later(next))
			}
			all = append(all, join(rest...))
			if !w.empty(sub) {
				break
			}
		}
		return either(all...)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := times(re)
		if least > 0 {
			least--
		}
		if w.empty(re.Sub[0]) { // which some of the times may have been
			least = 0
		}
		if most > 0 {
			most--
		}
		return join(w.begin(re.Sub[0]), repeat(w.later(re.Sub[0]), least, most))
	}
	return afterSlash(re)
}

// later is what re fits further on.
func (w *rewrite) later(re *syntax.Regexp) *syntax.Regexp {
	if w.left--; re == nil || w.left < 0 {
		return nil
	}
	switch re.Op {
	case syntax.OpBeginText:
		return nil
	case syntax.OpConcat, syntax.OpAlternate:
		subs := make([]*syntax.Regexp, len(re.Sub))
		for i, sub := range re.Sub {
			subs[i] = w.later(sub)
		}
		if re.Op == syntax.OpConcat {
			return join(subs...)
		}
		return either(subs...)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := times(re)
		return repeat(w.later(re.Sub[0]), least, most)
	}
	return re
}
