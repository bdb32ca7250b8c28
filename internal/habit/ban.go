package habit

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/larderhq/larder/internal/purge"
)

// Fields that limit a purge to some of what the others name, in ways that a Selector cannot,
// and why not. They are refused: without them the purge would be another.
var (
	limits = map[string]string{
		"X-Pool":              "pools are not known here: purge by tags",
		"X-Site":              "tags of one site alone cannot be purged",
		"X-Typo3-Sitename":    "tags of one site alone cannot be purged",
		"X-Acquia-Purge-Tags": "tags of one site alone cannot be purged",
		"X-Location-Id":       "say xkey-purge: location-1 instead",
		"X-Match":             "say X-Url instead",
		"X-Ban-String":        "say X-Url and X-Host instead",
	}
	purgeLimits = map[string]string{
		"X-Url": "it goes with BAN",
	}
	banLimits = map[string]string{
		"Cookie": "what is kept knows no cookies",
	}
)

// typeFields limit a purge to types of content. They may say that any will do.
var typeFields = []string{"X-Content-Type", "X-Purge-Content-Type"}

func (w *wish) refuse(fields ...map[string]string) error {
	for _, names := range fields {
		for name, why := range names {
			if w.has(name) {
				return fmt.Errorf("%s is not supported: %s", name, why)
			}
		}
	}
	for _, name := range typeFields {
		value, err := w.one(name)
		if err != nil {
			return err
		}
		if value != "" && value != ".*" {
			return fmt.Errorf("%s: %s is not supported: a purge cannot be limited to a type of content", name, quoted(value))
		}
	}
	return nil
}

// ban reads BAN.
func (w *wish) ban() error {
	if err := w.refuse(limits, banLimits); err != nil {
		return err
	}
	if done, err := w.banPages(); done || err != nil {
		return err
	}
	if w.has("X-Ban-All") {
		return w.everything()
	}
	tags, err := w.tags(tagFields)
	if err != nil {
		return err
	}
	path, byPath, err := w.either("X-Url", "X-Ban-Url", "X-Ban-Regex")
	if err != nil {
		return err
	}
	host, byHost, err := w.either("X-Host", "X-Ban-Host")
	if err != nil {
		return err
	}
	h := hosts{like: host}
	switch {
	case tags.named():
		return w.banTags(tags, h, path)
	case byHost:
		return w.within(h, path)
	case byPath:
		return w.found(path)
	case tags.whatever:
		return w.everything()
	}
	return w.banTarget()
}

// either is the value of the one of two or three fields that the request has.
func (w *wish) either(names ...string) (value string, ok bool, err error) {
	for _, name := range names {
		if !w.has(name) {
			continue
		}
		if ok {
			return "", false, fmt.Errorf("the request has several of %s, which mean the same: send one", strings.Join(names, ", "))
		}
		ok = true
		value, err = w.one(name)
		if err == nil && value == "" {
			err = errEmpty(name)
		}
		if err != nil {
			return "", false, err
		}
	}
	return value, ok, nil
}

var errBoth = errors.New("tags of some hosts or URLs alone cannot be purged: say the tags, or the hosts and URLs, and .* for the rest")

func (w *wish) banTags(tags tags, h hosts, path string) error {
	s, err := within(h, path)
	if err != nil {
		return err
	}
	if !s.All {
		return errBoth
	}
	return w.add(tags.selectors()...)
}

// wildcard is a star behind what no expression repeats.
var wildcard = regexp.MustCompile(`[^.)\]]\*`)

// banTarget reads a BAN that has nothing but its target: an expression that is looked for in the
// URLs of this host. A star that cannot be of an expression is one for any octets.
func (w *wish) banTarget() error {
	if w.has("X-Acquia-Purge") && w.target.Path == "/site" {
		return errors.New("BAN /site is not supported: sites are not known here, so purge by URL")
	}
	text := w.pathAndQuery()
	if wildcard.MatchString(text) {
		text = "^" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + "$"
	}
	return w.found(text)
}

// banPages reads the fields of an extension that labels pages with their number and their
// site; they have both as tags in xkey, if it is told so.
func (w *wish) banPages() (done bool, err error) {
	page, err := w.one("Varnish-Ban-Typo3-Pid")
	if err != nil {
		return false, err
	}
	site, err := w.one("Varnish-Ban-Typo3-Sitename")
	if err != nil {
		return false, err
	}
	switch {
	case strings.ContainsAny(page+site, " \t,"):
		return false, errors.New("Varnish-Ban-TYPO3-Pid or Varnish-Ban-TYPO3-Sitename has a blank or a comma, which no tag in xkey has")
	case page != "":
		w.order.Mode = purge.Refresh
		return true, w.add(purge.Selector{Tag: "pageId_" + page})
	case w.has("Varnish-Ban-All") && site != "":
		w.order.Mode = purge.Refresh
		return true, w.add(purge.Selector{Tag: "siteId_" + site})
	case w.has("Varnish-Ban-All"):
		return true, w.everything()
	}
	return false, nil
}
