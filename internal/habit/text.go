package habit

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"unicode"
)

// text is re, a tree of plain's, as an expression that others can be put beside. It is
// written as a person would, who finds it in the list of purges.
func text(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		var b strings.Builder
		for _, r := range re.Rune {
			b.WriteString(letter(r, `\.+*?()|[]{}^$`))
		}
		if re.Flags&syntax.FoldCase != 0 {
			return "(?i:" + b.String() + ")"
		}
		return b.String()
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpAnyCharNotNL:
		return "."
	case syntax.OpEndText:
		return "$"
	case syntax.OpConcat:
		return texts(re.Sub, "")
	case syntax.OpAlternate:
		return "(?:" + texts(re.Sub, "|") + ")"
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		return atom(re.Sub[0]) + count(re)
	}
	return "(?:)" // nothing
}

func texts(subs []*syntax.Regexp, between string) string {
	all := make([]string, len(subs))
	for i, sub := range subs {
		all[i] = text(sub)
	}
	return strings.Join(all, between)
}

// atom is re as what a repetition can be put behind.
func atom(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpCharClass, syntax.OpAnyCharNotNL, syntax.OpAlternate:
		return text(re)
	case syntax.OpLiteral:
		if len(re.Rune) == 1 {
			return text(re)
		}
	}
	return "(?:" + text(re) + ")"
}

func count(re *syntax.Regexp) string {
	switch least, most := times(re); {
	case re.Op == syntax.OpStar:
		return "*"
	case re.Op == syntax.OpPlus:
		return "+"
	case re.Op == syntax.OpQuest:
		return "?"
	case most == least:
		return fmt.Sprintf("{%d}", least)
	case most < 0:
		return fmt.Sprintf("{%d,}", least)
	default:
		return fmt.Sprintf("{%d,%d}", least, most)
	}
}

// class is written by what it lacks if it has the last letter of all.
func class(ranges []rune) string {
	open := "["
	if ranges[len(ranges)-1] == unicode.MaxRune {
		lacking := []rune{}
		low := rune(0)
		for i := 0; i < len(ranges); i += 2 {
			if low < ranges[i] {
				lacking = append(lacking, low, ranges[i]-1)
			}
			low = ranges[i+1] + 1
		}
		if len(lacking) == 0 {
			return "."
		}
		open, ranges = "[^", lacking
	}
	var b strings.Builder
	b.WriteString(open)
	for i := 0; i < len(ranges); i += 2 {
		b.WriteString(letter(ranges[i], `\]^-[`))
		if ranges[i]+1 < ranges[i+1] {
			b.WriteByte('-')
		}
		if ranges[i] < ranges[i+1] {
			b.WriteString(letter(ranges[i+1], `\]^-[`))
		}
	}
	return b.String() + "]"
}

// letter is r, written so that it is none of those that mean something.
func letter(r rune, special string) string {
	switch {
	case r < ' ' || r > '~':
		return fmt.Sprintf(`\x{%x}`, r)
	case strings.ContainsRune(special, r):
		return `\` + string(r)
	}
	return string(r)
}
