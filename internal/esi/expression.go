package esi

import (
	"cmp"
	"errors"
	"strings"
)

// maxParentheses is how deep parentheses of a test may lie in each other.
const maxParentheses = 64

var errExpression = errors.New("malformed expression")

// holds evaluates the test of a when (W3C ESI, 5). Comparisons bind closest,
// then `!`, then `&` (also `&&`, `and`), then `|` (also `||`, `or`). Operands
// are variables, quoted literals, in which variables are replaced, and numbers.
//
// A comparison with an empty or undefined operand is false, whatever its
// operator. An operand on its own holds if it is neither empty nor `false`. A
// malformed expression is an error, and does not hold.
func holds(test string, v *variables) (bool, error) {
	e := expression{rest: test, variables: v}
	result := e.or()
	if e.bad || skipBlanks(e.rest) != "" {
		return false, errExpression
	}
	return result.truth(), nil
}

// An operand is what a part of an expression comes to.
type operand struct {
	text   string
	result bool // it is the outcome of an operator, and compares with nothing
	true   bool // that outcome
}

func outcome(b bool) operand { return operand{result: true, true: b} }

func (o operand) truth() bool {
	if o.result {
		return o.true
	}
	return o.text != "" && o.text != "false"
}

// An expression is read by recursive descent, once from its beginning to its end.
type expression struct {
	rest      string
	variables *variables
	depth     int  // of parentheses
	bad       bool // malformed: what is returned means nothing
}

func (e *expression) or() operand {
	left := e.and()
	for e.word("||", "|", "or") {
		right := e.and()
		left = outcome(left.truth() || right.truth())
	}
	return left
}

func (e *expression) and() operand {
	left := e.not()
	for e.word("&&", "&", "and") {
		right := e.not()
		left = outcome(left.truth() && right.truth())
	}
	return left
}

func (e *expression) not() operand {
	times := 0
	for e.word("!") {
		times++
	}
	o := e.comparison()
	if times == 0 {
		return o
	}
	return outcome(o.truth() == (times%2 == 0))
}

func (e *expression) comparison() operand {
	left := e.operand()
	for _, operator := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if e.word(operator) {
			right := e.operand()
			e.bad = e.bad || left.result || right.result
			return outcome(compares(left.text, operator, right.text))
		}
	}
	return left
}

func (e *expression) operand() operand {
	e.rest = skipBlanks(e.rest)
	if e.bad || e.rest == "" {
		e.bad = true
		return operand{}
	}
	switch c := e.rest[0]; c {
	case '(':
		return e.parentheses()
	case '\'', '"':
		text, rest, ok := strings.Cut(e.rest[1:], e.rest[:1])
		text, err := e.variables.literal(text)
		e.rest, e.bad = rest, !ok || err != nil
		return operand{text: text}
	case '$':
		r, n, ok := parseReference(e.rest)
		e.rest, e.bad = e.rest[n:], !ok
		text, _ := e.variables.value(r)
		return operand{text: text}
	}
	number := e.rest[:len(e.rest)-len(strings.TrimLeft(e.rest, "+-.0123456789"))]
	_, ok := parseDecimal(number)
	e.rest, e.bad = e.rest[len(number):], !ok
	return operand{text: number}
}

func (e *expression) parentheses() operand {
	e.rest = e.rest[1:]
	e.depth++
	if e.depth > maxParentheses {
		e.bad = true
		return operand{}
	}
	o := e.or()
	e.depth--
	e.bad = e.bad || !e.word(")")
	return o
}

// word takes the first of words that is next off the rest.
func (e *expression) word(words ...string) bool {
	e.rest = skipBlanks(e.rest)
	for _, w := range words {
		after, found := strings.CutPrefix(e.rest, w)
		if found && !(isName(w[0]) && after != "" && isName(after[0])) {
			e.rest = after
			return !e.bad
		}
	}
	return false
}

// compares applies a comparison: of numbers if both are, of octets otherwise.
func compares(left, operator, right string) bool {
	if left == "" || right == "" {
		return false
	}
	order := strings.Compare(left, right)
	if l, ok := parseDecimal(left); ok {
		if r, ok := parseDecimal(right); ok {
			order = l.compare(r)
		}
	}
	switch operator {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	}
	return order >= 0
}

// A decimal is a number of any length, exact: identifiers of twenty digits
// must not be equal because a float holds sixteen.
type decimal struct {
	sign     int    // -1, or 0 for zero, or 1
	whole    string // without leading zeros
	fraction string // without trailing zeros
}

// maxDecimal is the longest decimal; what is longer is text.
const maxDecimal = 64

// parseDecimal reads an optional sign, digits, and optionally a point and digits.
func parseDecimal(s string) (d decimal, ok bool) {
	if len(s) > maxDecimal {
		return decimal{}, false
	}
	unsigned := strings.TrimPrefix(s, "-")
	d.sign = 1
	if len(unsigned) < len(s) {
		d.sign = -1
	} else {
		unsigned = strings.TrimPrefix(s, "+")
	}
	whole, fraction, point := strings.Cut(unsigned, ".")
	if !digits(whole) || point && !digits(fraction) {
		return decimal{}, false
	}
	d.whole = strings.TrimLeft(whole, "0")
	d.fraction = strings.TrimRight(fraction, "0")
	if d.whole == "" && d.fraction == "" {
		d.sign = 0
	}
	return d, true
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (d decimal) compare(other decimal) int {
	if d.sign != other.sign {
		return cmp.Compare(d.sign, other.sign)
	}
	return d.sign * cmp.Or(cmp.Compare(len(d.whole), len(other.whole)), cmp.Compare(d.whole, other.whole), cmp.Compare(d.fraction, other.fraction))
}
