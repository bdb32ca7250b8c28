package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An option is one choice of many that one flag makes, as NAME=VALUE.
type option[C any] struct {
	name   string
	values string // what it takes, the default first
	why    string // what it does, and why the default is what it is
	set    setter[C]
}

// A setter makes the choice. The error says what the option takes.
type setter[C any] func(c *C, value string) error

// options are all that one flag knows: one table for parsing, for people and for
// tests.
type options[C any] struct {
	flag    string
	kind    string // what one of them is called
	command string // that lists them
	all     []option[C]
}

// apply makes the choices of settings, each NAME=VALUE, on top of the defaults.
func (o *options[C]) apply(c *C, settings []string) error {
	seen := map[string]bool{}
	for _, text := range settings {
		name, value, ok := strings.Cut(text, "=")
		i := slices.IndexFunc(o.all, func(s option[C]) bool { return s.name == name })
		switch {
		case i < 0:
			return usagef("--%s %s: there is no %s %q%s", o.flag, text, o.kind, name, o.nearest(name))
		case !ok:
			return usagef("--%s %s: no value: write --%s %s=VALUE with one of %s", o.flag, text, o.flag, name, o.all[i].values)
		case seen[name]:
			return usagef("--%s %s: %s is set twice: leave one out", o.flag, text, name)
		}
		seen[name] = true
		if err := o.all[i].set(c, value); errors.Is(err, errValue) {
			return usagef("--%s %s: %q is not for %s: give one of %s", o.flag, text, value, name, o.all[i].values)
		} else if err != nil {
			return usagef("--%s %s: %q is not for %s: give %v", o.flag, text, value, name, err)
		}
	}
	return nil
}

// nearest names the options that somebody who wrote name may have meant.
func (o *options[C]) nearest(name string) string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for i := range o.all {
		s := o.all[i].name
		d := distance(strings.ToLower(name), s)
		if len(name) > 2 && strings.Contains(s, strings.ToLower(name)) {
			d = 1
		}
		if d <= max(2, len(s)/3) {
			near = append(near, candidate{s, d})
		}
	}
	if len(near) == 0 {
		return fmt.Sprintf(": larder %s lists them", o.command)
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	words := make([]string, 0, 3)
	for _, c := range near[:min(3, len(near))] {
		words = append(words, c.name)
	}
	return ": did you mean " + strings.Join(words, " or ") + "?"
}

// list prints the table.
func (o *options[C]) list(w io.Writer) {
	for _, s := range o.all {
		fmt.Fprintf(w, "\n%s = %s\n    %s\n", s.name, s.values, s.why)
	}
}

// distance is how many letters have to change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := before
			if a[i-1] != b[j-1] {
				cost = 1 + min(before, row[j], row[j-1])
			}
			before, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}

// choice sets a field to one of several values.
func choice[C, T any](at func(*C) *T, values map[string]T) setter[C] {
	return func(c *C, value string) error {
		v, ok := values[value]
		if !ok {
			return errValue
		}
		*at(c) = v
		return nil
	}
}

// errValue stands for "one of those that the table names".
var errValue = errors.New("")

// onOff is for what is off by itself, offOn for a field that means the
// opposite of its switch.
func onOff[C any](at func(*C) *bool) setter[C] {
	return choice(at, map[string]bool{"on": true, "off": false})
}

func offOn[C any](at func(*C) *bool) setter[C] {
	return choice(at, map[string]bool{"on": false, "off": true})
}

func duration[C any](at func(*C) *time.Duration) setter[C] {
	return func(c *C, value string) error {
		d, err := parseSpan(value)
		if err != nil {
			return errors.New("a time with its unit, such as 10s, 500ms or 24h")
		}
		*at(c) = d
		return nil
	}
}

// positive is a duration of which zero means the default, so that it cannot be
// asked for; instead says what to write.
func positive[C any](at func(*C) *time.Duration, instead string) setter[C] {
	set := duration(at)
	return func(c *C, value string) error {
		if d, err := parseSpan(value); err == nil && d == 0 {
			return fmt.Errorf("a time above zero; what you mean may be %s", instead)
		}
		return set(c, value)
	}
}

// orNone is a duration above zero, or none, which is zero.
func orNone[C any](at func(*C) *time.Duration) setter[C] {
	set := positive(at, "none")
	return func(c *C, value string) error {
		if value == "none" {
			*at(c) = 0
			return nil
		}
		return set(c, value)
	}
}

// set is for one of some words, or any of several names with commas between them,
// whose values are bits in that order.
func set[C any, T ~uint8 | ~uint16](at func(*C) *T, words map[string]T, names []string) setter[C] {
	return func(c *C, value string) error {
		if v, ok := words[value]; ok {
			*at(c) = v
			return nil
		}
		var v T
		for name := range strings.SplitSeq(value, ",") {
			i := slices.Index(names, strings.TrimSpace(name))
			if i < 0 {
				return fmt.Errorf("one of %s, or some of %s with commas between them", strings.Join(slices.Sorted(maps.Keys(words)), ", "), strings.Join(names, ", "))
			}
			v |= 1 << i
		}
		*at(c) = v
		return nil
	}
}

func number[C any](at func(*C) *int, least, most int) setter[C] {
	return func(c *C, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("a number from %d to %d", least, most)
		}
		*at(c) = n
		return nil
	}
}
