package rules

import (
	"iter"
	"slices"

	"github.com/larderhq/larder/internal/field"
)

// Limits of the tags that a response may have. One with more is not kept: it could not be
// purged reliably.
const (
	MaxTags     = 1000
	MaxTagBytes = 32 << 10
	maxTag      = 1024
)

// standardTags are the fields that say how the origin labels a response.
var standardTags = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}

// tagSeparators are what stands between the tags of a field, by convention of those who
// made it up. In other fields it is a blank or a comma.
var tagSeparators = map[string]string{
	"Surrogate-Key":  " \t",
	"Cache-Tag":      ",",
	"Cache-Tags":     " \t,",
	"X-Magento-Tags": ",",
	"X-Cache-Tags":   ",",
}

func (t *Terms) tagFields() []string {
	switch {
	case t.Private:
		return nil
	case t.TagFields == nil:
		return standardTags
	}
	return t.TagFields
}

// HidesTags tells whether clients do not get to see the field of that name, because it
// tells how the site is built.
func (t *Terms) HidesTags(name string) bool {
	return !t.ExposeTags && slices.Contains(t.tagFields(), name)
}

// Tags are how the origin has labelled the response. ok is false if there are more than
// can be kept.
func (s *Stored) Tags(terms *Terms) (tags []string, ok bool) {
	octets := 0
	for _, name := range terms.tagFields() {
		lines := s.Header[name]
		if len(lines) == 0 {
			continue
		}
		for _, line := range lines {
			octets += len(line)
		}
		if octets > MaxTagBytes {
			return nil, false
		}
		more, _ := field.ParseTags(lines, separatorsOf(name), maxTag)
		tags = append(tags, more...)
	}
	return tags, len(tags) <= MaxTags
}

// EachTag yields the Tags of a response that is kept, and perhaps what is none, or again.
func (s *Stored) EachTag(terms *Terms) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range terms.tagFields() {
			if lines := s.Header[name]; len(lines) > 0 {
				for tag := range field.Tokens(lines, separatorsOf(name)) {
					if !yield(tag) {
						return
					}
				}
			}
		}
	}
}

func separatorsOf(name string) string {
	if separators := tagSeparators[name]; separators != "" {
		return separators
	}
	return " \t,"
}

// purgeable tells whether the response can be found again by each of its tags.
func (s *Stored) purgeable(terms *Terms) bool {
	_, ok := s.Tags(terms)
	return ok
}

// Groups are those that the response is in, with others of the same origin (RFC 9875 §2).
func (s *Stored) Groups(terms *Terms) []string {
	if terms.NoGroups {
		return nil
	}
	return field.ParseGroups(s.Header["Cache-Groups"])
}

// InvalidatedGroups are those that a response with these fields invalidates, which
// Invalidates what was asked for (RFC 9875 §3).
func InvalidatedGroups(header Header, terms *Terms) []string {
	if terms.NoGroups {
		return nil
	}
	return field.ParseGroups(header["Cache-Group-Invalidation"])
}
