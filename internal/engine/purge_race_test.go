package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
	"github.com/larderhq/larder/store/memory"
	"github.com/larderhq/larder/store/tier"
)

const (
	racePages = 9
	racePiece = 32   // octets, of which a body consists
	raceSize  = 4096 // octets of a body
)

// A racePage is one resource. Numbers of versions rise.
type racePage struct {
	version atomic.Int64 // what the origin has
	soft    atomic.Int64 // the version at the last soft purge that was acknowledged
	floor   atomic.Int64 // what nobody is to see less than
}

func raise(a *atomic.Int64, to int64) {
	for old := a.Load(); old < to && !a.CompareAndSwap(old, to); old = a.Load() {
	}
}

// A race is readers and purgers of a few pages.
type race struct {
	t      *testing.T
	pages  [racePages]racePage
	e      *engine.Engine
	table  *standing.Table
	prompt store.Prompt

	stands, hits, answers, purges atomic.Int64
}

// RoundTrip is the origin.
func (r *race) RoundTrip(req *http.Request) (*http.Response, error) {
	var i int
	if _, err := fmt.Sscanf(req.URL.Path, "/r%d", &i); err != nil {
		return nil, err
	}
	p := &r.pages[i]
	res := &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, Header: http.Header{}}
	if req.Method == http.MethodPost {
		version := p.version.Add(1)
		res.Header.Set("X-Version", fmt.Sprint(version))
		res.StatusCode, res.Body = 204, http.NoBody
		return res, nil
	}
	soft := p.soft.Load() // before the version: what was acknowledged then is in it
	version := p.version.Load()
	halt()
	tag := fmt.Sprintf(`"%d"`, version)
	res.Header.Set("Cache-Control", "max-age=3600")
	res.Header.Set("Etag", tag)
	res.Header.Set("Cache-Tag", fmt.Sprintf("all,t%d", i%3))
	res.Header.Set("Cache-Groups", fmt.Sprintf(`"g%d"`, i%2))
	if req.Header.Get("If-None-Match") == tag {
		res.StatusCode, res.Body = 304, http.NoBody
		return res, nil
	}
	res.ContentLength = raceSize
	res.Body = &raceBody{text: strings.Repeat(fmt.Sprintf("%-*s\n", racePiece-1, fmt.Sprintf("page %d version %d soft %d", i, version, soft)), raceSize/racePiece)}
	return res, nil
}

// A raceBody comes in small pieces, and lets others go first.
type raceBody struct{ text string }

func (b *raceBody) Read(p []byte) (int, error) {
	if b.text == "" {
		return 0, io.EOF
	}
	runtime.Gosched()
	n := copy(p[:min(len(p), raceSize/4)], b.text)
	b.text = b.text[n:]
	return n, nil
}

func (b *raceBody) Close() error { return nil }

// A raceAnswer is what a reader gets; or it leaves at the first octets.
type raceAnswer struct {
	header http.Header
	status int
	body   []byte
	leave  context.CancelFunc
}

func (a *raceAnswer) Header() http.Header { return a.header }

func (a *raceAnswer) WriteHeader(status int) {
	if status >= 200 {
		a.status = status
	}
}

func (a *raceAnswer) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	if a.leave != nil {
		a.leave()
	}
	return len(p), nil
}

// serve has the engine answer. It returns nil if the transfer broke off.
func (r *race) serve(req *http.Request, leave bool) *raceAnswer {
	a := &raceAnswer{header: http.Header{}}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	if leave {
		a.leave = cancel
	}
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	r.e.ServeHTTP(a, req.WithContext(ctx))
	return a
}

// stand answers as a loop of the front does, if it can.
func (r *race) stand(req *http.Request, decide bool) ([]byte, bool) {
	q := standing.Request{Host: []byte(req.Host), Target: []byte(req.RequestURI)}
	for name, lines := range req.Header {
		r.table.Add(&q, []byte(name), []byte(lines[0]))
	}
	now, _ := r.e.Clock()
	a := r.table.Find(&q, now)
	if a == nil {
		if a = new(standing.Answer); !decide || r.e.Decide(req.WithContext(store.AtOnce), a) != standing.Decided {
			return nil, false
		}
	}
	return r.prompt.AppendNow(nil, a.Key, a.ID, a.Rev, a.Off, a.Size)
}

func (r *race) read(rnd *rand.Rand) {
	i := rnd.IntN(racePages)
	p := &r.pages[i]
	var header []string
	if rnd.IntN(6) == 0 {
		header = append(header, "Range: bytes=1024-3071")
	}
	req := sim.Request("GET", fmt.Sprintf("/r%d", i), "", header...)
	floor := p.floor.Load()
	body, stood := r.stand(req, rnd.IntN(2) == 0)
	hit := stood
	if stood {
		r.stands.Add(1)
	} else {
		a := r.serve(req, rnd.IntN(20) == 0)
		if a == nil || a.status >= 500 {
			return // it left
		}
		body, hit = a.body, strings.Contains(a.header.Get("Cache-Status"), "; hit")
	}
	r.answers.Add(1)
	for n := 0; len(body) >= racePiece; n++ {
		var page int
		var version, soft int64
		if _, err := fmt.Sscanf(string(body[:racePiece]), "page %d version %d soft %d", &page, &version, &soft); err != nil || page != i {
			r.t.Errorf("page %d: %q (%v)", i, body[:racePiece], err)
			return
		}
		if version < floor {
			r.t.Errorf("page %d: version %d, though %d was purged before (stood %v, hit %v, %q)", i, version, floor, stood, hit, header)
			return
		}
		if hit && n == 0 { // what was asked for after that purge is in the store
			raise(&p.floor, soft)
			r.hits.Add(1)
		}
		body = body[racePiece:]
	}
}

var raceOrders = []struct {
	s     purge.Selector
	about func(i int) bool
}{
	{purge.Selector{Tag: "all"}, func(int) bool { return true }},
	{purge.Selector{Tag: "t1"}, func(i int) bool { return i%3 == 1 }},
	{purge.Selector{Group: "g1", Origin: "http://" + sim.Host}, func(i int) bool { return i%2 == 1 }},
	{purge.Selector{URL: "http://" + sim.Host + "/r2"}, func(i int) bool { return i == 2 }},
	{purge.Selector{URL: "/r3"}, func(i int) bool { return i == 3 }},
	{purge.Selector{Prefix: "//" + sim.Host + "/r4"}, func(i int) bool { return i == 4 }},
	{purge.Selector{Glob: "/r[0-5]"}, func(i int) bool { return i <= 5 }},
	{purge.Selector{Regex: "r[68]$"}, func(i int) bool { return i == 6 || i == 8 }},
	{purge.Selector{All: true}, func(int) bool { return true }},
}

// halt is a machine that does something else for a moment, now and then: so what others do
// in the meantime comes between two steps that would follow at once.
func halt() {
	if rand.IntN(100) == 0 {
		time.Sleep(time.Duration(rand.Int64N(int64(raceHalt))))
	}
}

type haltable interface {
	store.Store
	store.Prompt
	store.Walker
}

// A halting store halts before and after what it does.
type halting struct{ haltable }

func (h halting) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	defer halt()
	return h.haltable.Lookup(ctx, key, into)
}

func (h halting) Head(ctx context.Context, key store.Key, id store.ID, rev uint32) ([]byte, error) {
	defer halt()
	return h.haltable.Head(ctx, key, id, rev)
}

func (h halting) Create(ctx context.Context, key store.Key, head store.Head, size int64) (store.Writer, error) {
	halt()
	w, err := h.haltable.Create(ctx, key, head, size)
	if err != nil {
		return nil, err
	}
	return haltingWriter{w}, nil
}

func (h halting) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	halt()
	defer halt()
	return h.haltable.Amend(ctx, key, id, head)
}

func (h halting) Remove(ctx context.Context, key store.Key, id store.ID) error {
	halt()
	defer halt()
	return h.haltable.Remove(ctx, key, id)
}

func (h halting) Forget(ctx context.Context, key store.Key) error {
	halt()
	defer halt()
	return h.haltable.Forget(ctx, key)
}

type haltingWriter struct{ store.Writer }

func (w haltingWriter) Commit(ctx context.Context, replaces ...store.ID) (store.Entry, error) {
	halt()
	defer halt()
	return w.Writer.Commit(ctx, replaces...)
}

// purge changes what the origin has, and then purges it.
func (r *race) purge(rnd *rand.Rand) {
	r.purges.Add(1)
	if rnd.IntN(8) == 0 {
		i := rnd.IntN(racePages)
		a := r.serve(sim.Request("POST", fmt.Sprintf("/r%d", i), "x"), false)
		var version int64
		if a == nil || a.status != 204 {
			r.t.Errorf("POST: %+v", a)
			return
		}
		if _, err := fmt.Sscan(a.header.Get("X-Version"), &version); err != nil {
			r.t.Error(err)
			return
		}
		raise(&r.pages[i].floor, version)
		return
	}
	w := raceOrders[rnd.IntN(len(raceOrders))]
	o := purge.Order{Selectors: []purge.Selector{w.s}, Mode: purge.Mode(rnd.IntN(2))}
	var versions [racePages]int64
	for i := range r.pages {
		if w.about(i) {
			versions[i] = r.pages[i].version.Add(1)
		}
	}
	if _, err := r.e.Purge(context.Background(), o); err != nil && !errors.Is(err, purge.ErrFull) {
		r.t.Errorf("%v: %v", w.s, err)
		return
	}
	for i := range r.pages {
		switch {
		case !w.about(i):
		case o.Mode == purge.Refetch:
			raise(&r.pages[i].floor, versions[i])
		default:
			raise(&r.pages[i].soft, versions[i])
		}
	}
}

// With real goroutines, and answers that stand: from the acknowledgement on nobody who comes
// later gets what was purged, and of what was made stale nobody once it was refreshed.
func TestPRG05_RaceOfReadersAndPurges(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return memory.New(memory.Options{Budget: 4 << 20}) },
		"tiers": func(t *testing.T) store.Store {
			d, err := disk.Open(disk.Options{Disks: []disk.Disk{{Name: "mem", FS: vfs.NewMem(64 << 20), Size: 32 << 20}}, Segment: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			return tier.New(memory.Options{Budget: 64 << 10}, d)
		},
	} {
		t.Run(name, func(t *testing.T) { racePurges(t, halting{open(t).(haltable)}) })
	}
}

func racePurges(t *testing.T, s store.Store) {
	r := &race{t: t, table: engine.Standing(nil), prompt: s.(store.Prompt)}
	r.e = engine.New(engine.Config{Store: s, Forward: r, Standing: r.table})
	ctx, cancel := context.WithCancel(context.Background())
	var tending, readers, purgers sync.WaitGroup
	tending.Go(func() { r.e.Ledger.Tend(ctx, r.e) })
	stop := time.Now().Add(raceTime)
	var over atomic.Bool
	for n := range 6 {
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), uint64(n)))
			for op := 0; (op < raceOps || time.Now().Before(stop)) && !t.Failed(); op++ {
				r.read(rnd)
			}
		})
	}
	for n := range 3 {
		purgers.Go(func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), uint64(n)))
			for !over.Load() && !t.Failed() {
				r.purge(rnd)
				for range rnd.IntN(40) { // readers are to find something
					runtime.Gosched()
				}
			}
		})
	}
	readers.Wait()
	over.Store(true)
	purgers.Wait()
	cancel()
	tending.Wait()
	r.e.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d answers, %d of them from the store, %d that stood; %d purges", r.answers.Load(), r.hits.Load(), r.stands.Load(), r.purges.Load())
	if r.hits.Load() == 0 || r.stands.Load() == 0 {
		t.Error("nothing was in the store: the test asks the wrong questions")
	}
}
