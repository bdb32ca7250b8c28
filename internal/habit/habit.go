// Package habit understands the requests by which others have a cache purged: methods such
// as PURGE and BAN, with header fields that name URLs, expressions, or tags. No standard has
// them; each is a habit of the tools that send it, and of the rules that those tools ship
// for their caches. The tests name the tools.
//
// A request is understood exactly or refused: a purge of something else would be worse than
// none, because it looks like success.
package habit

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/purge"
)

// methods are those by which others purge, and what each of them reads.
var methods = map[string]func(*wish) error{
	"PURGE":     (*wish).purge,
	"BAN":       (*wish).ban,
	"URIBAN":    (*wish).url,
	"REFRESH":   (*wish).refresh,
	"PURGEKEYS": (*wish).keys,
	"PURGETAGS": (*wish).listed,
	"PURGEALL":  (*wish).everything,
	"FULLBAN":   (*wish).everything,
}

// Is tells whether others purge by that method, which is case-sensitive (RFC 9110 §9.1).
func Is(method string) bool { return methods[method] != nil }

// Order is what r asks to have purged. t is the target of r, by canon.Parse.
//
// What it names is on the host of t, whether http or https, unless a field names another,
// or tags, or everything. Each of its Selectors is valid, and By holds the method and the
// address of the client, and no other part of r. The error says what about r is not understood;
// nothing is to be purged then. Whether the client may purge at all is not judged here.
func Order(r *http.Request, t *canon.Target) (purge.Order, error) {
	read := methods[r.Method]
	if read == nil {
		return purge.Order{}, fmt.Errorf("the method %s does not purge", quoted(r.Method))
	}
	if err := strange(r.Header); err != nil {
		return purge.Order{}, err
	}
	w := wish{header: r.Header, target: t}
	if err := w.softly(); err != nil {
		return purge.Order{}, err
	}
	if err := read(&w); err != nil {
		return purge.Order{}, err
	}
	if n := len(w.order.Selectors); n > purge.MaxSelectors {
		return purge.Order{}, fmt.Errorf("the request names %d tags: at most %d at once", n, purge.MaxSelectors)
	}
	for _, s := range w.order.Selectors {
		if err := s.Valid(); err != nil {
			return purge.Order{}, err
		}
	}
	w.order.By = r.Method + " from " + client(r.RemoteAddr)
	return w.order, nil
}

func client(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// A wish is a request while it is read.
type wish struct {
	header http.Header
	target *canon.Target
	order  purge.Order
}

func (w *wish) add(s ...purge.Selector) error {
	w.order.Selectors = append(w.order.Selectors, s...)
	return nil
}

func (w *wish) everything() error { return w.add(purge.Selector{All: true}) }

// url is the target, for http and https: who purges seldom comes by the scheme that visitors
// come by.
func (w *wish) url() error { return w.add(purge.Selector{URL: w.onHost()}) }

func (w *wish) onHost() string { return "//" + w.target.Host + w.pathAndQuery() }

// refresh is about one URL: those who made it up fetch it anew at once, while what is kept is
// served. Here the next request does that.
func (w *wish) refresh() error {
	w.order.Mode = purge.Refresh
	return w.url()
}

// pathAndQuery is what others call the URL.
func (w *wish) pathAndQuery() string {
	if w.target.HasQuery {
		return w.target.Path + "?" + w.target.Query
	}
	return w.target.Path
}

// softFields say that what is purged may be served while it is fetched anew.
var softFields = []string{"Fastly-Soft-Purge", "X-Purge-Soft", "X-Magento-Purge-Soft"}

func (w *wish) softly() error {
	for _, name := range softFields {
		value, err := w.one(name)
		if err != nil || value == "" {
			if err != nil {
				return err
			}
			continue
		}
		soft, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%s: %s is neither 1 nor 0", name, quoted(value))
		}
		if soft {
			w.order.Mode = purge.Refresh
		}
	}
	return nil
}

// has tells whether the request has the field, with or without a value.
func (w *wish) has(name string) bool { return len(w.header[name]) > 0 }

// one is the value of a field that has but one; empty if the request lacks it.
func (w *wish) one(name string) (string, error) {
	values := w.header[name]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", fmt.Errorf("%s is there %d times: it says one thing", name, len(values))
	}
	return strings.Trim(values[0], " \t"), sound(name, values[0])
}

// maxValue is how many octets all values of a field may have that is read.
const maxValue = 32 << 10

// sound tells what is wrong with the octets of a value.
func sound(name, value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("%s has %d octets: at most %d", name, len(value), maxValue)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') }) {
		return fmt.Errorf("%s has octets that are no printable ASCII, which no URL and no tag has", name)
	}
	return nil
}

// quoted is as much of a value as an error shows.
func quoted(value string) string {
	const longest = 80
	if len(value) > longest {
		value = value[:longest] + "…"
	}
	return strconv.Quote(value)
}
