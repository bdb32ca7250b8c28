package habit

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/larderhq/larder/internal/purge"
)

// hosts are one, or all in whose name an expression is found; the zero hosts are all.
type hosts struct{ one, like string }

// hosts reads a field that says which; without it they are that of the target.
func (w *wish) hosts(name string) (hosts, error) {
	if !w.has(name) {
		return hosts{one: w.target.Host}, nil
	}
	like, err := w.one(name)
	if err == nil && like == "" {
		err = errEmpty(name)
	}
	return hosts{like: like}, err
}

func errEmpty(name string) error { return fmt.Errorf("%s is empty: say .* if any will do", name) }

// found has all purged on this host in whose path and query the expression is found.
func (w *wish) found(expression string) error {
	return w.within(hosts{one: w.target.Host}, expression)
}

func (w *wish) within(h hosts, expression string) error {
	s, err := within(h, expression)
	if err != nil {
		return err
	}
	return w.add(s)
}

// within is all on these hosts in whose path and query the expression is found.
//
// Others look for their expressions in a host, or in a path with its query; a Selector is found
// in the whole URL. So they are rewritten: that of the host to one for all of a
// host, and that of the path to one for what follows the slash after it. Neither has an
// anchor then but for the end of the URL, and that slash is the only one between them.
func within(h hosts, expression string) (purge.Selector, error) {
	path, anyPath, err := inPath(expression)
	if err != nil {
		return purge.Selector{}, err
	}
	host, anyHost, err := h.expression()
	switch {
	case err != nil:
		return purge.Selector{}, err
	case anyPath && anyHost:
		return purge.Selector{All: true}, nil
	case anyPath && h.one != "":
		return purge.Selector{Prefix: "//" + h.one}, nil
	}
	s := purge.Selector{Regex: "^https?://" + host + "/" + path}
	if len(s.Regex) > purge.MaxPattern {
		return purge.Selector{}, fmt.Errorf("the expression is too long: %d octets as one for whole URLs, at most %d", len(s.Regex), purge.MaxPattern)
	}
	return s, nil
}

// expression is one for all of a host.
func (h hosts) expression() (text string, all bool, err error) {
	if h.one != "" {
		return regexp.QuoteMeta(h.one), false, nil
	}
	re, err := parse(h.like)
	if err != nil {
		return "", false, err
	}
	w := rewrite{left: maxNodes}
	if w.empty(re) {
		return "[^/]+", true, w.err()
	}
	// What is found anywhere is all of something longer. Then ^ is settled, and $, which is
	// a ^ for those who read backwards.
	re = ofHost(join(anything, re, anything))
	re = reverse(w.begin(reverse(w.begin(re))))
	text, err = w.text(re, h.like)
	return text, false, err
}

// inPath is an expression for what follows the first slash of a path, in which it is found
// with its query. all says that it is found in every one.
func inPath(expression string) (text string, all bool, err error) {
	re, err := parse(expression)
	if err != nil {
		return "", false, err
	}
	w := rewrite{left: maxNodes, slash: true}
	if w.empty(re) {
		return "", true, w.err()
	}
	re = tail(w.begin(join(anything, tail(re))))
	if w.empty(re) {
		return "", true, w.err()
	}
	text, err = w.text(re, expression)
	return text, false, err
}

// parse reads an expression as far as it means here what it means there.
func parse(expression string) (*syntax.Regexp, error) {
	if len(expression) > purge.MaxPattern {
		return nil, fmt.Errorf("the expression has %d octets: at most %d", len(expression), purge.MaxPattern)
	}
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (RE2 is understood here, which has no lookaround and no backreferences)", quoted(expression), err)
	}
	if has(re, syntax.OpWordBoundary) || has(re, syntax.OpNoWordBoundary) {
		return nil, fmt.Errorf(`%s: \b and \B are not supported, because they mean something else in a whole URL`, quoted(expression))
	}
	return plain(re), nil
}

// err is nil, unless the rewriting has taken too much.
func (w *rewrite) err() error {
	if w.left < 0 {
		return errors.New("the expression says too much at once: send simpler ones, one by one")
	}
	return nil
}

// text is re as text, if it is not too much.
func (w *rewrite) text(re *syntax.Regexp, expression string) (string, error) {
	switch err := w.err(); {
	case err != nil:
		return "", err
	case re == nil:
		return "", fmt.Errorf("%s: no URL fits it", quoted(expression))
	}
	return text(re), nil
}
