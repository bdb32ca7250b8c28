package habit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/larderhq/larder/internal/purge"
)

// A tagField names tags.
type tagField struct {
	name string
	// separators stand between tags: those of the response field that goes with it.
	separators string
	// pattern says that the value is an expression, which others look for in the
	// response field. What cannot be one is a list.
	pattern bool
	mode    purge.Mode
}

const blanks = " \t"

var (
	xkeyPurge     = tagField{name: "Xkey-Purge", separators: blanks + ","}
	xkeySoftPurge = tagField{name: "Xkey-Softpurge", separators: blanks + ",", mode: purge.Refresh}

	// tagFields are those of PURGE and BAN.
	tagFields = []tagField{
		xkeyPurge,
		xkeySoftPurge,
		{name: "Xkey", separators: blanks + ","},
		{name: "Key", separators: blanks + ","},
		{name: "Surrogate-Key", separators: blanks},
		{name: "Cache-Tag", separators: ","},
		{name: "X-Magento-Tags-Pattern", separators: ",", pattern: true},
		{name: "X-Cache-Tags", separators: ",", pattern: true},
		{name: "X-Cache-Tags-Pattern", separators: ",", pattern: true},
		{name: "Apiplatform-Ban-Regex", separators: ",", pattern: true},
		{name: "X-Ban-Tags", separators: ",", pattern: true},
		{name: "Cache-Tags", separators: blanks + ",", pattern: true},
		{name: "Purge-Cache-Tags", separators: blanks + ",", pattern: true},
	}
)

// tags are what a field names. whatever is set if it fits any tag, and none.
type tags struct {
	list     []string
	whatever bool
}

func (t tags) named() bool { return len(t.list) > 0 }
func (t tags) given() bool { return t.named() || t.whatever }

func (t tags) selectors() []purge.Selector {
	selectors := make([]purge.Selector, len(t.list))
	for i, tag := range t.list {
		selectors[i].Tag = tag
	}
	return selectors
}

// tags reads the one of the fields that the request has, if any.
func (w *wish) tags(fields []tagField) (found tags, err error) {
	var from *tagField
	for i := range fields {
		f := &fields[i]
		if !w.has(f.name) {
			continue
		}
		if from != nil {
			return tags{}, fmt.Errorf("%s and %s both name tags: send a request for each", from.name, f.name)
		}
		from = f
		value := strings.Join(w.header[f.name], ",")
		if err := sound(f.name, value); err != nil {
			return tags{}, err
		}
		if found, err = f.read(value); err != nil {
			return tags{}, fmt.Errorf("%s: %w", f.name, err)
		}
		if !found.given() {
			return tags{}, fmt.Errorf("%s names no tag", f.name)
		}
		w.order.Mode = max(w.order.Mode, f.mode)
	}
	return found, nil
}

func (f *tagField) read(value string) (tags, error) {
	switch {
	case f.pattern && strings.Trim(value, blanks) == ".*":
		return tags{whatever: true}, nil
	case f.pattern && strings.ContainsAny(value, `\()[]{}^$*+?`):
		list, err := listed(value, f.separators)
		return tags{list: list}, err
	case f.pattern:
		return tags{list: split(value, f.separators+"|")}, nil
	}
	return tags{list: split(value, f.separators)}, nil
}

// split is a list without what is empty or there twice. Where only blanks separate, some
// write a comma before the blank.
func split(value, separators string) []string {
	var list []string
	for tag := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		tag = strings.Trim(tag, blanks)
		if !strings.Contains(separators, ",") {
			tag = strings.TrimRight(tag, ",")
		}
		if tag != "" {
			list = append(list, tag)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// keys reads PURGEKEYS.
func (w *wish) keys() error {
	tags, err := w.tags([]tagField{xkeyPurge, xkeySoftPurge})
	if err == nil && !tags.named() {
		err = errors.New("PURGEKEYS names its tags in xkey-purge or xkey-softpurge, and neither is there")
	}
	if err != nil {
		return err
	}
	return w.add(tags.selectors()...)
}

// listed reads PURGETAGS.
func (w *wish) listed() error {
	tags, err := w.tags([]tagField{{name: "X-Cache-Tags", separators: ","}})
	if err == nil && !tags.named() {
		err = errors.New("PURGETAGS names its tags in X-Cache-Tags, which is not there")
	}
	if err != nil {
		return err
	}
	return w.add(tags.selectors()...)
}
