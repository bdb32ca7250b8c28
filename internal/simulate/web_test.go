package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A web makes traces that look like a day of a CDN's web traffic, as its
// operators publish it in tables: most objects are asked for once, a few very
// often, sizes have a long tail, and objects come and go.
type web struct {
	objects int
	scan    int // so many objects more are asked for once, within an hour
	crowd   int // so many requests more go to one object within ten minutes
}

const day = 86_400.0 // seconds

// tail is P(popularity >= n).
var tail = []struct{ n, p float64 }{{1, 1}, {2, .345}, {3, .215}, {10, .066}, {100, .0087}, {1000, .0009}, {1e6, .9e-6}}

// popularity draws how often an object is asked for.
func (w web) popularity(r *rand.Rand) int {
	u := 1 - r.Float64() // above 0
	for i := 1; i < len(tail); i++ {
		if a, b := tail[i-1], tail[i]; u > b.p {
			if b.n <= 3 {
				return int(a.n)
			}
			way := math.Log(a.p/u) / math.Log(a.p/b.p)
			n := a.n * math.Pow(b.n/a.n, way)
			return int(min(n, .02*8*float64(w.objects))) // at most 2 % of all
		}
	}
	return 1
}

// size draws the size of an object: pages and pictures, larger ones, downloads.
func (web) size(r *rand.Rand, popularity int) int64 {
	for {
		var s float64
		switch u := r.Float64(); {
		case u < .80:
			s = 10e3 * math.Exp(1.2*r.NormFloat64())
		case u < .97:
			s = 100e3 * math.Exp(r.NormFloat64())
		default:
			s = min(1e6*math.Pow(1-r.Float64(), -1/1.1), 100e6)
		}
		if popularity < 1000 || s < 100e3 || r.Float64() < .1 {
			return int64(s) + 1
		}
	}
}

// moments draws when an object is asked for.
func (web) moments(r *rand.Rand, popularity int) (at []float64) {
	from := max(0, day*(1.5*r.Float64()-.5)) // many were there before
	for len(at) < popularity {
		t := from + (day-from)*r.Float64()
		if r.Float64() > (1+.5*math.Sin(2*math.Pi*t/day))/1.5 {
			continue // night
		}
		at = append(at, t)
		if r.Float64() < .4/4 { // a burst, four long on average
			for len(at) < popularity && r.Float64() < .75 {
				t += 200 * r.ExpFloat64()
				at = append(at, min(t, day))
			}
		}
	}
	return at
}

// trace draws a trace.
func (w web) trace(seed uint64) *Trace {
	r := rand.New(rand.NewPCG(seed, 0))
	type event struct {
		at     float64
		object uint32
	}
	var events []event
	t := &Trace{}
	add := func(size int64, at ...float64) {
		for _, at := range at {
			events = append(events, event{at, uint32(len(t.sizes))})
		}
		t.sizes = append(t.sizes, size)
	}
	for range w.objects {
		p := w.popularity(r)
		add(w.size(r, p), w.moments(r, p)...)
	}
	for range w.scan {
		add(w.size(r, 1), day/2+3600*r.Float64())
	}
	crowd := make([]float64, w.crowd)
	for i := range crowd {
		crowd[i] = day*2/3 + 600*r.Float64()
	}
	add(1e6, append(crowd, day)...)
	slices.SortStableFunc(events, func(a, b event) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	for _, e := range events {
		t.requests = append(t.requests, e.object)
	}
	return t
}

// The generator makes what it is meant to.
func TestWebLooksLikeWeb(t *testing.T) {
	f := web{objects: 10_000}.trace(1).Facts()
	if once := ratio(f.Once, f.Objects); once < .6 || once > .75 {
		t.Errorf("%.2f of the objects are asked for once", once)
	}
	if bound, _ := f.Bound(); bound < .75 || bound > .9 {
		t.Errorf("a cache of everything has a hit ratio of %.2f", bound)
	}
	if mean := f.Footprint / f.Objects; mean < 60_000 || mean > 300_000 {
		t.Errorf("an object has %d octets", mean)
	}
}

// What Larder promises of its policy: on web traffic it answers more requests
// than the others at every size, with a fifth fewer needless misses than LRU, also while a robot reads the whole site or a
// crowd wants one thing; and it gives no more than 2 points of octets for that.
func TestSHDIsTheBest(t *testing.T) {
	for name, w := range map[string]web{
		"plain": {objects: 8000},
		"scan":  {objects: 8000, scan: 20_000},
		"crowd": {objects: 8000, crowd: 3000},
	} {
		trace := w.trace(2)
		plan := Plan{Overhead: 512, Workers: 2}
		for _, share := range []float64{.003, .02} {
			plan.Memory = append(plan.Memory, int64(share*float64(trace.Facts().Footprint)))
		}
		results, err := trace.Run(plan)
		if err != nil {
			t.Fatal(err)
		}
		bound, _ := trace.Facts().Bound()
		for row := range slices.Chunk(results, len(Policies())) {
			shd, lru := row[0], row[1]
			t.Logf("%s, %s: shd %.1f/%.1f, lru %.1f/%.1f, sieve %.1f/%.1f, s3-fifo %.1f/%.1f", name, octets(shd.Memory),
				100*row[0].ObjectRatio, 100*row[0].OctetRatio, 100*row[1].ObjectRatio, 100*row[1].OctetRatio,
				100*row[2].ObjectRatio, 100*row[2].OctetRatio, 100*row[3].ObjectRatio, 100*row[3].OctetRatio)
			for _, other := range row[1:] {
				if shd.ObjectRatio < other.ObjectRatio {
					t.Errorf("%s, %s: %.3f of requests are hits, with %s %.3f", name, octets(shd.Memory), shd.ObjectRatio, other.Policy, other.ObjectRatio)
				}
			}
			if now, then := bound-shd.ObjectRatio, bound-lru.ObjectRatio; now > .8*then {
				t.Errorf("%s, %s: %.3f of requests are misses that could be spared, with lru %.3f", name, octets(shd.Memory), now, then)
			}
			if shd.OctetRatio < lru.OctetRatio-.02 {
				t.Errorf("%s, %s: %.3f of octets are hits, with lru %.3f", name, octets(shd.Memory), shd.OctetRatio, lru.OctetRatio)
			}
		}
	}
}
