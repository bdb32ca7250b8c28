package habit

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// Others look for tags with an expression that says where a tag begins and ends, such as
// (^|,)(a|b)(,|$). Such a one fits finitely many texts, but for what is beyond the tag: each is
// a word, and without its ends it is a tag.

// Letters of a word that are no octets.
const (
	edge rune = -1 - iota // ^ or $
	more                  // .* or .+
)

// maxLetters is how many letters all words of a pattern may have, those on the way to them
// included.
const maxLetters = 1 << 20

var (
	errNoList = errors.New("the expression is no list of tags: write (^|,)(a|b)(,|$), or the tags themselves")
	errLarge  = errors.New("the expression stands for too much: name fewer tags at once")
)

// listed are the tags that the expression looks for in a field where separators stand between
// them.
func listed(expression, separators string) ([]string, error) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quoted(expression), err)
	}
	s := spelling{left: maxLetters}
	words, err := s.words(re)
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, word := range words {
		tag, ok := inner(word, separators)
		if !ok {
			return nil, errNoList
		}
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// inner is a word without its ends. ok is false if it is more, or less, than one tag.
func inner(word []rune, separators string) (tag string, ok bool) {
	between := func(r rune) bool { return r >= 0 && strings.ContainsRune(separators+" \t\n\f\r,", r) }
	end := func(r rune) bool { return r < 0 || between(r) }
	from, to := 0, len(word)
	for from < to && end(word[from]) {
		from++
	}
	for from < to && end(word[to-1]) {
		to--
	}
	switch {
	case from == to,
		from > 0 && word[from-1] == more, // which is part of the tag
		to < len(word) && word[to] == more:
		return "", false
	}
	tag = string(word[from:to])
	return tag, !slices.ContainsFunc(word[from:to], func(r rune) bool { return r < 0 }) && !strings.ContainsAny(tag, separators+",")
}

// A spelling counts the letters that are left.
type spelling struct{ left int }

func (s *spelling) spend(letters int) error {
	if s.left -= letters + 1; s.left < 0 {
		return errLarge
	}
	return nil
}

// words are all texts that re fits.
func (s *spelling) words(re *syntax.Regexp) ([][]rune, error) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return [][]rune{nil}, s.spend(0)
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return nil, errNoList // tags are told by the letter
		}
		return [][]rune{re.Rune}, s.spend(len(re.Rune))
	case syntax.OpCharClass:
		return s.class(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL: // of a tag that has a point, unescaped
		return [][]rune{{'.'}}, s.spend(1)
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText:
		return [][]rune{{edge}}, s.spend(1)
	case syntax.OpStar, syntax.OpPlus:
		if op := re.Sub[0].Op; op == syntax.OpAnyChar || op == syntax.OpAnyCharNotNL {
			return [][]rune{{more}}, s.spend(1)
		}
	case syntax.OpCapture:
		return s.words(re.Sub[0])
	case syntax.OpQuest:
		words, err := s.words(re.Sub[0])
		return append(words, nil), err
	case syntax.OpAlternate:
		var words [][]rune
		for _, sub := range re.Sub {
			others, err := s.words(sub)
			if err != nil {
				return nil, err
			}
			words = append(words, others...)
		}
		return words, nil
	case syntax.OpConcat:
		return s.concat(re.Sub)
	}
	return nil, errNoList
}

func (s *spelling) class(ranges []rune) (words [][]rune, err error) {
	for i := 0; i < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if err := s.spend(1); err != nil {
				return nil, err
			}
			words = append(words, []rune{r})
		}
	}
	return words, nil
}

func (s *spelling) concat(subs []*syntax.Regexp) ([][]rune, error) {
	words := [][]rune{nil}
	for _, sub := range subs {
		ends, err := s.words(sub)
		if err != nil {
			return nil, err
		}
		longer := make([][]rune, 0, min(len(words)*len(ends), s.left))
		for _, word := range words {
			for _, end := range ends {
				if err := s.spend(len(word) + len(end)); err != nil {
					return nil, err
				}
				longer = append(longer, slices.Concat(word, end))
			}
		}
		words = longer
	}
	return words, nil
}
