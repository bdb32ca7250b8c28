package habit

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// plainFields are those that are read, but for the ones that name tags, soften or limit.
var plainFields = []string{
	"Clear-Cache", "Varnish-Ban-All", "X-Acquia-Purge", "X-Ban-All", "X-Ban-Host", "X-Ban-Regex", "X-Ban-Url", "X-Host", "X-Purge-Host",
	"X-Purge-Method", "X-Purge-Regex", "X-Url", "X-Varnish-Purge-All", "X-Vc-Purge-Host", "X-Vc-Purge-Method",
}

// keyFields say who asks, and are not read here.
var keyFields = []string{"X-Purge-Token", "X-Purge-Key", "X-Invalidate-Token", "X-Vc-Purge-Key", "X-Vc-Purge-Key-Auth"}

// about is how the names of fields look that may narrow a purge, or name something else.
var about = regexp.MustCompile(`(?i)(^|-)(x?ban|purge|soft|tags?|xkeys?|surrogate)(-|$)|x-key|surrogate-?key|cache-?(tag|group)`)

func understood(name string) bool {
	if strings.HasPrefix(name, "Varnish-Ban-") || slices.Contains(plainFields, name) || slices.Contains(keyFields, name) || slices.Contains(typeFields, name) || slices.Contains(softFields, name) {
		return true
	}
	if limits[name] != "" || purgeLimits[name] != "" || banLimits[name] != "" {
		return true // it has an answer of its own
	}
	return slices.ContainsFunc(tagFields, func(f tagField) bool { return f.name == name })
}

// strange refuses a request with a field that looks as if it was about the purge, and is
// not understood: without it the purge would be another.
func strange(h http.Header) error {
	var odd []string
	for name := range h {
		if about.MatchString(name) && !understood(name) {
			odd = append(odd, name)
		}
	}
	if len(odd) == 0 {
		return nil
	}
	slices.Sort(odd)
	return fmt.Errorf("the field %s is not understood, so nothing is purged: tags are named by Surrogate-Key, xkey, Cache-Tag, Cache-Tags, X-Cache-Tags or X-Magento-Tags-Pattern; docs/habits.md has the others", quoted(odd[0]))
}
