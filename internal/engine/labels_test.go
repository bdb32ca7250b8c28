package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/store"
)

// labelled has the origin answer each path with a body of its own and these fields.
func labelled(w *sim.World, header func(path string) []string) {
	n := 0
	w.Handle(func(r *http.Request) sim.Reply {
		n++
		fields := append([]string{"Cache-Control: max-age=600", `ETag: "1"`}, header(r.URL.Path)...)
		if r.Method != http.MethodGet {
			return sim.Reply{Header: header(r.URL.Path), Body: "done"}
		}
		if r.Header.Get("If-None-Match") != "" {
			return sim.Reply{Status: 304, Header: fields}
		}
		return sim.Reply{Header: fields, Body: fmt.Sprint(r.URL.Path, " ", n)}
	})
}

func purged(t *testing.T, w *sim.World, mode purge.Mode, selectors ...purge.Selector) purge.Receipt {
	t.Helper()
	r, err := w.Engine.Purge(t.Context(), purge.Order{Selectors: selectors, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func walked(t *testing.T, w *sim.World) {
	t.Helper()
	if err := w.Engine.Walk(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGRP01_GroupsAreAListOfStrings(t *testing.T) {
	for groups, is := range map[string]bool{
		`"a"`: true, `"b", "a"`: true, `"a";x=1, "b"`: true, ` "a" `: true,
		`a`: false, `"a", b`: false, `"a`: false, `("a")`: false, `1`: false, `"A"`: false, `"a"b`: false, `:YQ==:`: false,
	} {
		sim.Run(t, func(w *sim.World) {
			labelled(w, func(string) []string { return []string{"Cache-Groups: " + groups} })
			w.Get("/x")
			purged(t, w, purge.Refetch, purge.Selector{Group: "a", Origin: "http://" + sim.Host})
			if a := w.Get("/x"); is {
				a.WantMiss("uri-miss")
			} else {
				a.WantHit()
			}
		})
	}
}

func TestGRP02_ManyLongGroups(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		names := make([]string, 64)
		for i := range names {
			names[i] = fmt.Sprintf("%q", fmt.Sprint(strings.Repeat("g", 64), i))
		}
		labelled(w, func(string) []string { return []string{"Cache-Groups: " + strings.Join(names, ", ")} })
		w.Get("/x")
		purged(t, w, purge.Refetch, purge.Selector{Group: strings.Repeat("g", 64) + "63", Origin: "http://" + sim.Host})
		w.Get("/x").WantMiss("uri-miss")
	})
}

func TestGRP03_GroupsOfOneOriginAlone(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		labelled(w, func(string) []string { return []string{`Cache-Groups: "a"`} })
		for _, u := range []string{"/x", "http://other.example/x", "http://" + sim.Host + ":8080/x", "https://" + sim.Host + "/x"} {
			w.Get(u)
		}
		purged(t, w, purge.Refetch, purge.Selector{Group: "a", Origin: "http://" + sim.Host})
		w.Get("http://other.example/x").WantHit()
		w.Get("http://" + sim.Host + ":8080/x").WantHit()
		w.Get("/x").WantMiss("uri-miss")
	})
}

func TestGRP04_GroupsGoWithWhatIsInvalidated(t *testing.T) {
	for _, keep := range []bool{false, true} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.KeepGroups = keep }, func(w *sim.World) {
			labelled(w, func(path string) []string {
				return []string{map[string]string{"/a": `Cache-Groups: "x"`, "/b": `Cache-Groups: "x", "y"`, "/c": `Cache-Groups: "y"`}[path]}
			})
			for _, u := range []string{"/a", "/b", "/c"} {
				w.Get(u)
			}
			w.Do("POST", "/a", "")
			w.Get("/a").WantMiss("uri-miss")
			if b := w.Get("/b"); keep {
				b.WantHit()
			} else {
				b.WantMiss("uri-miss")
			}
			w.Get("/c").WantHit() // GRP-05: which is in a group of /b, and not in one of /a
		})
	}
}

func TestGRP06_AnAnswerInvalidatesGroups(t *testing.T) {
	for _, c := range []struct {
		method  string
		status  int
		off, is bool
	}{
		{"POST", 200, false, true},
		{"DELETE", 303, false, true},
		{"POST", 404, false, false},
		{"POST", 500, false, false},
		{"GET", 200, false, false},
		{"OPTIONS", 200, false, false},
		{"POST", 200, true, false}, // GRP-07, GRP-08
	} {
		sim.RunWith(t, func(e *engine.Config) { e.Terms.NoGroups = c.off }, func(w *sim.World) {
			w.Handle(func(r *http.Request) sim.Reply {
				if r.URL.Path == "/do" {
					return sim.Reply{Status: c.status, Header: []string{`Cache-Group-Invalidation: "none", "a"`}, Body: "done"}
				}
				return sim.Reply{Header: []string{"Cache-Control: max-age=60", `Cache-Groups: "a"`}, Body: "page"}
			})
			w.Get("/x")
			w.Do(c.method, "/do", "")
			if a := w.Get("/x"); c.is {
				a.WantMiss("uri-miss")
			} else {
				a.WantHit()
			}
		})
	}
}

// What a POST brings for later GETs is of after what it invalidates, its own group included.
func TestGRP06_AnAnswerDoesNotInvalidateItself(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=60", "Content-Location: /a", `Cache-Groups: "g"`, `Cache-Group-Invalidation: "g"`}, Body: "posted"})
		w.Do("POST", "/a", "content").Want(200, "posted")
		w.Settle()
		w.Get("/a").Want(200, "posted").WantHit()
	})
}

func TestTAG01_FieldsAndSeparators(t *testing.T) {
	for line, tags := range map[string][]string{
		"Surrogate-Key: a b\tc,d": {"a", "b", "c,d"},
		"Cache-Tag: a b,c , d":    {"a b", "c", "d"},
		"xkey: a b,c":             {"a", "b", "c"},
	} {
		for _, tag := range append(slices.Clone(tags), "x") {
			sim.Run(t, func(w *sim.World) {
				labelled(w, func(string) []string { return []string{line, "Surrogate-Key: more"} })
				w.Get("/p")
				purged(t, w, purge.Refetch, purge.Selector{Tag: tag})
				if a := w.Get("/p"); tag == "x" {
					a.WantHit()
				} else {
					a.WantMiss("uri-miss")
				}
				purged(t, w, purge.Refetch, purge.Selector{Tag: "more"}) // several lines add up
				w.Get("/p").WantMiss("uri-miss")
			})
		}
	}
}

func TestTAG01_OtherFields(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.TagFields = []string{"X-Magento-Tags"} }, func(w *sim.World) {
		labelled(w, func(string) []string { return []string{"X-Magento-Tags: cat_p_1,cat_c", "Surrogate-Key: a"} })
		w.Get("/p").WantField("Surrogate-Key", "a")
		purged(t, w, purge.Refetch, purge.Selector{Tag: "a"})
		w.Get("/p").WantHit()
		purged(t, w, purge.Refetch, purge.Selector{Tag: "cat_p_1"})
		w.Get("/p").WantMiss("uri-miss")
	})
}

func TestTAG02_TagsToTheLetter(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		labelled(w, func(string) []string { return []string{"Surrogate-Key: News ca\xc3\xa9 News"} })
		w.Get("/p")
		purged(t, w, purge.Refetch, purge.Selector{Tag: "news"})
		w.Get("/p").WantHit()
		if _, err := w.Engine.Purge(t.Context(), purge.Order{Selectors: []purge.Selector{{Tag: "ca\xc3\xa9"}}}); err == nil {
			t.Error("a tag that nothing can have was purged")
		}
		purged(t, w, purge.Refetch, purge.Selector{Tag: "News"})
		w.Get("/p").WantMiss("uri-miss")
	})
}

func TestTAG04_ClientsDoNotSeeTags(t *testing.T) {
	for _, expose := range []bool{false, true} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.ExposeTags = expose }, func(w *sim.World) {
			labelled(w, func(string) []string {
				return []string{"Surrogate-Key: a", "Cache-Tag: b", "xkey: c", `Cache-Groups: "g"`}
			})
			for _, again := range []int{1, 2} {
				a := w.Get("/p").WantField("Cache-Groups", `"g"`)
				for name, value := range map[string]string{"Surrogate-Key": "a", "Cache-Tag": "b", "Xkey": "c"} {
					if expose {
						a.WantField(name, value)
					} else if a.Header[name] != nil {
						t.Errorf("%d: clients see %s", again, name)
					}
				}
			}
		})
	}
}

func TestTAG05_A304ReplacesTags(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(
			sim.Reply{Header: []string{"Cache-Control: max-age=1", `ETag: "1"`, "Surrogate-Key: old"}, Body: "page"},
			sim.Reply{Status: 304, Header: []string{"Cache-Control: max-age=600", `ETag: "1"`, "Surrogate-Key: new"}},
			sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "2"`}, Body: "other"},
		)
		w.Get("/p")
		w.Advance(2 * time.Second)
		w.Get("/p").Want(200, "page").WantMiss("stale")
		purged(t, w, purge.Refetch, purge.Selector{Tag: "old"})
		w.Get("/p").Want(200, "page").WantHit()
		purged(t, w, purge.Refetch, purge.Selector{Tag: "new"})
		w.Get("/p").Want(200, "other").WantMiss("uri-miss")
	})
}

func TestPRG02_AllVariantsAndPartsOfAURL(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Handle(func(r *http.Request) sim.Reply {
			fields := []string{"Cache-Control: max-age=600", `ETag: "1"`, "Vary: Accept-Language"}
			if r.Header.Get("Range") != "" {
				return sim.Reply{Status: 206, Header: append(fields, "Content-Range: bytes 0-1/4"), Body: "pa"}
			}
			return sim.Reply{Header: fields, Body: "page"}
		})
		get := func(target, language, more string) *sim.Answer {
			return w.Get(target, "Accept-Language: "+language, more)
		}
		for _, target := range []string{"/a", "/a?x", "/a/b"} {
			get(target, "en", "A: b")
			get(target, "de", "A: b")
			get(target, "fr", "Range: bytes=0-1")
		}
		w.Settle() // so that all is stored
		r := purged(t, w, purge.Refetch, purge.Selector{URL: "HTTP://" + strings.ToUpper(sim.Host) + ":80/a"})
		if r.Objects != 3 || r.Bytes != 10 || !r.Complete {
			t.Errorf("the receipt is %+v", r)
		}
		for _, target := range []string{"/a?x", "/a/b"} {
			get(target, "en", "A: b").WantHit()
			get(target, "fr", "Range: bytes=0-1").WantHit()
		}
		get("/a", "en", "A: b").WantMiss("uri-miss")
		get("/a", "de", "A: b").WantMiss("vary-miss")
		get("/a", "fr", "Range: bytes=0-1").WantMiss("vary-miss")
	})
}

func TestPRG03_ByTagHostPrefixAndEverything(t *testing.T) {
	for what, c := range map[purge.Selector][]string{
		{Tag: "even"}:                              {"/a/2", "/b/2"},
		{Prefix: "http://" + sim.Host}:             {"/a/1", "/a/2", "/b/1", "/b/2"},
		{Prefix: "//" + sim.Host + "/a/"}:          {"/a/1", "/a/2"},
		{Prefix: "/b"}:                             {"/b/1", "/b/2", "http://other.example/b/1"},
		{Glob: "/*/1"}:                             {"/a/1", "/b/1", "http://other.example/b/1"},
		{Glob: "http://*.example/**"}:              {"/a/1", "/a/2", "/b/1", "/b/2", "http://other.example/b/1"},
		{Regex: `^http://` + sim.Host + `/a/`}:     {"/a/1", "/a/2"},
		{Regex: `other|2$`}:                        {"/a/2", "/b/2", "http://other.example/b/1"},
		{All: true}:                                {"/a/1", "/a/2", "/b/1", "/b/2", "http://other.example/b/1"},
		{URL: "/b/1"}:                              {"/b/1", "http://other.example/b/1"},
		{Group: "g", Origin: "http://" + sim.Host}: {"/b/1", "/b/2"},
	} {
		for _, mode := range []purge.Mode{purge.Refetch, purge.Refresh} {
			sim.Run(t, func(w *sim.World) {
				labelled(w, func(path string) []string {
					var fields []string
					if strings.HasSuffix(path, "2") {
						fields = append(fields, "Surrogate-Key: even")
					}
					if strings.HasPrefix(path, "/b") {
						fields = append(fields, `Cache-Groups: "g"`)
					}
					return fields
				})
				all := []string{"/a/1", "/a/2", "/b/1", "/b/2", "http://other.example/b/1"}
				for _, u := range all {
					w.Get(u)
				}
				w.Settle() // as Walked asks for: nothing is on its way any more
				r := purged(t, w, mode, what)
				walked(t, w)
				w.Engine.Ledger.Walked(r.ID)
				if r, _, err := w.Engine.Ledger.Receipt(r.ID); err != nil || r.Objects != int64(len(c)) || !r.Complete || r.State != purge.Done {
					t.Errorf("%v: %+v, want %d objects", what, r, len(c))
				}
				n := w.Count()
				for _, u := range all {
					a := w.Get(u)
					w.Settle()
					switch asked := w.Count() - n; {
					case asked == 1 != slices.Contains(c, u):
						t.Errorf("%v of %v: the origin was asked %d times for %s", mode, what, asked, u)
					case asked == 1 && mode == purge.Refetch:
						a.WantMiss("uri-miss")
					default:
						a.WantHit()
					}
					n = w.Count()
				}
				for _, u := range all {
					w.Get(u).WantHit()
				}
				if w.Count() != n {
					t.Errorf("%v: it was purged twice", what)
				}
			})
		}
	}
}

func TestPRG04_SoftIsStaleAndHardIsGone(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		reply := sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "1"`}, Body: "page"}
		broken := sim.Reply{Status: 503, Body: "down"}
		w.Origin(reply, broken, broken)
		w.Get("/a")
		purged(t, w, purge.Refresh, purge.Selector{URL: "/a"})
		w.Get("/a").Want(200, "page").WantHit()
		w.Settle()
		if got := w.Last().Header.Get("If-None-Match"); got != `"1"` {
			t.Errorf("it was not validated: %q", got)
		}
		w.Get("/a").Want(200, "page") // the origin is down, and nobody notices
		purged(t, w, purge.Refetch, purge.Selector{URL: "/a"})
		w.Get("/a").Want(503, "down")
		if got := w.Last().Header.Get("If-None-Match"); got != "" {
			t.Errorf("what was purged is validated: %q", got)
		}
	})
}

// Another cache would keep what was purged for as long as it seems to be fresh.
func TestPRG04_SoftIsValidatedFirstForAnotherCache(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "1"`}, Body: "old"}, sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "2"`}, Body: "new"})
		w.Get("/a")
		purged(t, w, purge.Refresh, purge.Selector{All: true})
		w.Get("/a", "Via: 1.1 edge").Want(200, "new").WantMiss("stale")
		w.Get("/a").Want(200, "new").WantHit()
	})
}

// Nor does it get what was purged because the origin is down: it would take it for
// validated.
func TestPRG04_SoftDoesNotStandInForAnotherCache(t *testing.T) {
	for name, broken := range map[string]sim.Reply{"an error": {Status: 503, Body: "down"}, "nobody": {Err: errors.New("refused")}} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(sim.Reply{Header: []string{"Cache-Control: max-age=600", `ETag: "1"`}, Body: "old"}, broken)
				w.Get("/a")
				purged(t, w, purge.Refresh, purge.Selector{All: true})
				if a := w.Get("/a", "Via: 1.1 edge", `If-None-Match: "1"`); a.Status < 500 {
					t.Errorf("the edge got %d", a.Status)
				}
				w.Get("/a").Want(200, "old").WantHit()
			})
		})
	}
}

func TestPRG06_PurgingAgain(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		labelled(w, func(string) []string { return nil })
		w.Get("/a")
		var ids []purge.ID
		for i, s := range []purge.Selector{{URL: "/a"}, {URL: "/a"}, {URL: "/none"}, {Tag: "none"}, {Regex: "/a$"}, {Regex: "/a$"}, {All: true}, {All: true}} {
			r := purged(t, w, purge.Refetch, s)
			if slices.Contains(ids, r.ID) {
				t.Errorf("%v is %v once more", s, r.ID)
			}
			ids = append(ids, r.ID)
			if i >= 4 { // each is an event of its own, also while the first is in force
				w.Get("/a").WantMiss("uri-miss")
			}
		}
	})
}

func TestPRG07_OneSiteDoesNotTouchAnother(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Site = "one" }, func(w *sim.World) {
		labelled(w, func(string) []string { return []string{"Surrogate-Key: a"} })
		two := engine.New(engine.Config{Store: w.Engine.Store, Forward: w.Engine.Forward, Site: "two", Clock: w.Engine.Clock, Policy: w.Engine.Config.Policy})
		defer two.Close()
		w.Get("/a")
		ask := func() string {
			r := httptest.NewRecorder()
			two.ServeHTTP(r, sim.Request("GET", "/a", ""))
			return r.Header().Get("Cache-Status")
		}
		ask()
		for _, s := range []purge.Selector{{URL: "/a"}, {Tag: "a"}, {Prefix: "/a"}, {All: true}} {
			w.Get("/a")
			purged(t, w, purge.Refetch, s)
			walked(t, w)
			w.Get("/a").WantMiss("uri-miss")
			if got := ask(); !strings.Contains(got, "; hit") {
				t.Errorf("%v: the other site has %q", s, got)
			}
		}
	})
}

// untouched is a store that must not be asked for anything for a while.
type untouched struct {
	store.Store
	resting atomic.Bool
	calls   atomic.Int64
}

func (u *untouched) note() {
	if u.resting.Load() {
		u.calls.Add(1)
	}
}

func (u *untouched) Lookup(ctx context.Context, key store.Key, into []store.Entry) ([]store.Entry, error) {
	u.note()
	return u.Store.Lookup(ctx, key, into)
}

func (u *untouched) Remove(ctx context.Context, key store.Key, id store.ID) error {
	u.note()
	return u.Store.Remove(ctx, key, id)
}

func (u *untouched) Amend(ctx context.Context, key store.Key, id store.ID, head store.Head) error {
	u.note()
	return u.Store.Amend(ctx, key, id, head)
}

func (u *untouched) Walk(ctx context.Context, visit func(store.Key, store.Entry, []byte) bool) error {
	u.note()
	return u.Store.(store.Walker).Walk(ctx, visit)
}

// However much is kept, a purge by tag touches nothing of it, and yet takes effect: a
// million entries take no longer than these.
func TestPRG08_PurgingTouchesNothing(t *testing.T) {
	var kept *untouched
	sim.RunWith(t, func(c *engine.Config) {
		kept = &untouched{Store: c.Store}
		c.Store = kept
	}, func(w *sim.World) {
		labelled(w, func(string) []string { return []string{"Surrogate-Key: all"} })
		for i := range 1000 {
			w.Get(fmt.Sprint("/", i))
		}
		kept.resting.Store(true)
		purged(t, w, purge.Refetch, purge.Selector{Tag: "all"})
		purged(t, w, purge.Refresh, purge.Selector{Regex: "/[0-9]+"})
		kept.resting.Store(false)
		if n := kept.calls.Load(); n > 0 {
			t.Errorf("the store was asked %d times", n)
		}
		w.Get("/999").WantMiss("uri-miss")
	})
}
