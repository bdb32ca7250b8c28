package habit

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/purge"
)

// purge reads PURGE. Fields that name something else go before the target.
func (w *wish) purge() error {
	if err := w.refuse(limits, purgeLimits); err != nil {
		return err
	}
	if w.has("Clear-Cache") || w.has("X-Varnish-Purge-All") {
		return w.everything()
	}
	tags, err := w.tags(tagFields)
	switch {
	case err != nil:
		return err
	case tags.whatever:
		return w.everything()
	case tags.named():
		return w.add(tags.selectors()...)
	case w.has("X-Purge-Regex"), w.has("X-Purge-Host"):
		return w.purgeFields()
	case w.has("X-Vc-Purge-Method"), w.has("X-Vc-Purge-Host"):
		return w.purgePage()
	}
	return w.purgeTarget()
}

// purgeTarget reads X-Purge-Method. Without it, a star at the end of the target is
// for all that begins so: in a URL it hardly ever stands for itself.
func (w *wish) purgeTarget() error {
	method, err := w.one("X-Purge-Method")
	if err != nil {
		return err
	}
	switch strings.ToLower(method) {
	case "":
		if begin, ok := strings.CutSuffix(w.onHost(), "*"); ok {
			return w.add(purge.Selector{Prefix: strings.TrimSuffix(begin, ".")})
		}
		return w.url()
	case "default", "exact":
		return w.url()
	case "regex":
		return w.found(w.pathAndQuery())
	case "tags":
		return fmt.Errorf("X-Purge-Method says tags, and X-Cache-Tags-Pattern does not say which")
	}
	return fmt.Errorf("X-Purge-Method: %s is none of default, exact, regex, tags", quoted(method))
}

// purgeFields reads X-Purge-Regex and X-Purge-Host. Some mean the expression by itself,
// others put it behind the target.
func (w *wish) purgeFields() error {
	expression, err := w.one("X-Purge-Regex")
	if err != nil {
		return err
	}
	switch {
	case expression == "" || expression == ".*":
		expression = "^" + regexp.QuoteMeta(w.pathAndQuery()) + expression
	case expression[0] != '^' && expression[0] != '/':
		return fmt.Errorf("X-Purge-Regex: begin %s with ^ or /, so that it is clear where it is looked for", quoted(expression))
	}
	h, err := w.hosts("X-Purge-Host")
	if err != nil {
		return err
	}
	return w.within(h, expression)
}

// purgePage reads X-VC-Purge-Method and X-VC-Purge-Host, for which a page has any query.
func (w *wish) purgePage() error {
	method, err := w.one("X-Vc-Purge-Method")
	if err != nil {
		return err
	}
	host, err := w.one("X-Vc-Purge-Host")
	switch {
	case err != nil:
		return err
	case host != "" && !canon.Host(host):
		return fmt.Errorf("X-VC-Purge-Host: %s is no host", quoted(host))
	case host != "":
		t, err := canon.ParseURL("//" + host)
		if err != nil {
			return err
		}
		named := *w.target
		named.Host = t.Host
		w.target = &named
	}
	switch strings.ToLower(method) {
	case "exact":
		return w.url()
	case "regex":
		return w.found(w.pathAndQuery())
	case "", "default":
		return w.found("^" + regexp.QuoteMeta(w.target.Path) + `(\?|$)`)
	}
	return fmt.Errorf("X-VC-Purge-Method: %s is none of default, exact, regex", quoted(method))
}
