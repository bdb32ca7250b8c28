package engine

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/store"
)

const (
	// examples is how many URLs a Preview names, and maxPreviewed how many it tells apart.
	examples     = 10
	maxPreviewed = 512 << 10

	// maxHot is how long the URLs that Hot gathers are together at most, in octets.
	maxHot = 16 << 20
)

// Preview goes through all that is kept, and tells what o would find. It purges nothing.
func (e *Engine) Preview(ctx context.Context, o purge.Order) (p purge.Preview, err error) {
	q, err := e.Ledger.Query(o)
	if err != nil {
		return p, err
	}
	e.previewing.Lock() // each may take room
	defer e.previewing.Unlock()
	if e.walker == nil {
		return p, errUnwalkable
	}
	urls := map[uint64]int64{} // objects of each
	pace, terms, d := newPace(e.Recent), &e.Config.Policy.Terms, new(desk)
	var full bool
	err = e.walker.Walk(ctx, func(key store.Key, entry store.Entry, head []byte) bool {
		target, ours := canon.ParseKey(key, e.Site)
		if !ours {
			return pace.rest(ctx)
		}
		res, err := d.decoder.Decode(head, terms)
		if err != nil {
			return pace.rest(ctx)
		}
		d.subject.Become(e.Ledger, e.describe(&d.kept, key, res))
		if !q.Names(&d.subject) {
			return pace.rest(ctx)
		}
		p.Objects++
		p.Bytes += entry.Size
		hash := maphash.Bytes(keySeed, key)
		if urls[hash]++; urls[hash] == 1 && len(p.Examples) < examples {
			p.Examples = append(p.Examples, e.show(&target))
		}
		full = len(urls) > maxPreviewed
		return pace.rest(ctx) && !full
	})
	if full {
		err = errors.New("more URLs than a preview can tell apart are about it: name less")
	}
	if p.URLs, p.OriginRequests = int64(len(urls)), p.Objects; p.Examples == nil {
		p.Examples = []string{}
	}
	e.recently(&p, urls)
	return p, errors.Join(err, ctx.Err())
}

var keySeed = maphash.MakeSeed()

// show is t as a person reads it.
func (e *Engine) show(t *canon.Target) string {
	if e.Paths {
		return t.Path
	}
	return t.String()
}

// recently fills in p what the sample of requests says of urls, by the hashes of their
// keys.
func (e *Engine) recently(p *purge.Preview, urls map[uint64]int64) {
	if e.Recent == nil {
		return
	}
	all := e.Recent.Samples()
	hits, soon := 0, map[uint64]bool{}
	for i := range all {
		key, ok := e.sampled(&all[i])
		hash := maphash.Bytes(keySeed, key)
		if ok && urls[hash] > 0 {
			hits++
			soon[hash] = true
		}
	}
	if len(all) == 0 {
		return
	}
	p.Requests = int64(len(all)) * observe.SampleEvery
	p.Share, p.Soon = float64(hits)/float64(len(all)), int64(len(soon))
	_, now := e.Clock()
	p.Seconds = int64(now.Sub(all[0].At) / time.Second)
}

// sampled is the key that a request was for.
func (e *Engine) sampled(s *observe.Sample) (key []byte, ok bool) {
	t, err := canon.Parse(&http.Request{Method: http.MethodGet, Host: s.Host, RequestURI: s.Target}, false)
	return e.key(&t), err == nil
}

// Hot are the URLs of what is kept, at most so many: those first that were asked for most
// often lately.
func (e *Engine) Hot(ctx context.Context, most int) []string {
	var urls []string
	if e.Recent != nil {
		count := map[string]int{}
		for _, s := range e.Recent.Samples() {
			if t, err := canon.Parse(&http.Request{Method: http.MethodGet, Host: s.Host, RequestURI: s.Target}, false); err == nil {
				count[t.String()]++
			}
		}
		urls = slices.SortedFunc(maps.Keys(count), func(a, b string) int {
			return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
		})
	}
	known, octets := make(map[string]bool, len(urls)), 0
	for _, u := range urls {
		known[u] = true
	}
	if e.walker == nil || e.Paths {
		return urls[:min(len(urls), most)]
	}
	_ = e.walker.Walk(ctx, func(key store.Key, _ store.Entry, _ []byte) bool { // what it shows is better than nothing
		if t, ours := canon.ParseKey(key, e.Site); ours && !known[t.String()] {
			known[t.String()] = true
			urls = append(urls, t.String())
			octets += len(t.String())
		}
		return len(urls) < most && octets < maxHot
	})
	return urls[:min(len(urls), most)]
}
