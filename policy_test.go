package larder_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder"
)

func TestMistakesInPolicies(t *testing.T) {
	for want, p := range map[string]larder.Policy{
		"VaryHeaders: `*` never matches":            {VaryHeaders: []string{"*"}},
		`VaryHeaders: "a b" is no field name`:       {VaryHeaders: []string{"a b"}},
		`VaryCookies: "" is no name`:                {VaryCookies: []string{""}},
		`Sharing: there is no "both"`:               {Sharing: "both"},
		`Ranges: there is no "x"`:                   {Ranges: "x"},
		`Conditionals: there is no "x"`:             {Conditionals: "x"},
		`Authorization: there is no "x"`:            {Authorization: "x"},
		`SetCookie: there is no "x"`:                {SetCookie: "x"},
		`HeadFreshening: there is no "x"`:           {HeadFreshening: "x"},
		`Heed: there is no "all-of-them"`:           {Heed: []string{"all-of-them"}},
		`Heed: there is no "none"`:                  {Heed: []string{"max-age", "none"}},
		`Overrule: there is no "s-maxage"`:          {Overrule: []string{"s-maxage"}},
		`Methods: "POST" is never answered`:         {Methods: []string{"GET", "POST"}},
		"Methods: without GET":                      {Methods: []string{"HEAD"}},
		"Statuses: 304 is no status":                {Statuses: []int{200, 304}},
		"Grace: -1s is below zero":                  {Grace: -time.Second},
		"MinTTL 2s is more than MaxTTL 1s":          {MinTTL: 2 * time.Second, MaxTTL: time.Second},
		"DateNow needs HideAge":                     {DateNow: true},
		"MaxRanges -1 is below zero":                {MaxRanges: -1},
		"X-A is in VaryHeaders and in VaryIgnore":   {VaryHeaders: []string{"x-a"}, VaryIgnore: []string{"X-A"}},
		"TargetedFields: \"\" is no field name":     {TargetedFields: []string{""}},
		"StripTargeted: \"a:b\" is no field name":   {StripTargeted: []string{"a:b"}},
		"NegativeTTL: -1ns is below zero":           {NegativeTTL: -1},
		"RevalidateTimeout: -1ns is below zero":     {RevalidateTimeout: -1},
		"UncacheableMemory: -1ns is below zero":     {UncacheableMemory: -1},
		"StaleOnErrorMax: -1ns is below zero":       {StaleOnErrorMax: -1},
		`Policies["named"]: MaxTTL: -1ns is below`:  {MaxTTL: -1},
		`Policies["named"]: Statuses: 99 is no sta`: {Statuses: []int{99}},
	} {
		cache := larder.Cache{Policy: p}
		if strings.HasPrefix(want, "Policies") {
			cache = larder.Cache{Policies: map[string]larder.Policy{"named": p}, PolicyFor: func(*http.Request) string { return "" }}
		}
		if err := cache.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v, want %s", err, want)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a handler was made", want)
				}
			}()
			cache.Handler(http.NotFoundHandler())
		}()
	}
	if err := (&larder.Cache{Policies: map[string]larder.Policy{"x": {}}}).Check(); err == nil {
		t.Error("policies that nothing picks are no mistake")
	}
	for name, p := range map[string]larder.Policy{"standard": {}, "simple": larder.Simple(), "accelerator": larder.Accelerator()} {
		if err := (&larder.Cache{Policy: p}).Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A world is a handler behind a cache, in the test's own time.
type world struct {
	http.Handler
	calls atomic.Int64
}

// inWorld runs body where next is behind a cache with policy p.
func inWorld(t *testing.T, p larder.Policy, next http.HandlerFunc, body func(w *world, c *larder.Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		cache := &larder.Cache{Policy: p}
		w.Handler = cache.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.calls.Add(1)
			next(rw, r)
		}))
		body(w, cache)
		cache.Close()
	})
}

// get asks for a URL with field lines.
func (w *world) get(target string, lines ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	synctest.Wait()
	return rec
}

// kept tells how often the handler was asked by two requests that differ in lines.
func (w *world) asked(one, other []string) int64 {
	before := w.calls.Load()
	w.get("http://h/a", one...)
	w.get("http://h/a", other...)
	return w.calls.Load() - before
}

// answer is a handler that says these field lines.
func answer(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		io.WriteString(w, "page")
	}
}

// Each choice makes the difference that it is for: the handler is asked so often
// by two requests under the zero Policy, and so often under this one.
func TestPolicyChoices(t *testing.T) {
	minute := []string{"Cache-Control: max-age=60"}
	for name, c := range map[string]struct {
		policy         larder.Policy
		answer         []string
		one, other     []string
		standard, bent int64
	}{
		"VaryHeaders":                {larder.Policy{VaryHeaders: []string{"x-a"}}, minute, []string{"X-A: 1"}, []string{"X-A: 2"}, 1, 2},
		"VaryHeaders, same":          {larder.Policy{VaryHeaders: []string{"x-a"}}, minute, []string{"X-A: 1"}, []string{"X-A: 1"}, 1, 1},
		"VaryHeaders, absent":        {larder.Policy{VaryHeaders: []string{"x-a"}}, minute, nil, []string{"X-A: 1"}, 1, 2},
		"VaryOn":                     {larder.Policy{VaryOn: func(r *http.Request) string { return r.Header.Get("X-A") }}, minute, []string{"X-A: 1"}, []string{"X-A: 2"}, 1, 2},
		"VaryCookies":                {larder.Policy{VaryCookies: []string{"a"}}, minute, []string{"Cookie: a=1; b=1"}, []string{"Cookie: a=2; b=1"}, 1, 2},
		"VaryCookies, others":        {larder.Policy{VaryCookies: []string{"a"}}, minute, []string{"Cookie: a=1; b=1"}, []string{"Cookie: b=2; a=1"}, 1, 1},
		"VaryCookies, empty":         {larder.Policy{VaryCookies: []string{"a"}}, minute, []string{"Cookie: a="}, []string{"Cookie: b=1"}, 1, 2},
		"VaryCookies, with VaryOn":   {larder.Policy{VaryCookies: []string{"a"}, VaryOn: func(r *http.Request) string { return "x" }}, minute, []string{"Cookie: a=1"}, []string{"Cookie: a=2"}, 1, 2},
		"VaryIgnore":                 {larder.Policy{VaryIgnore: []string{"user-agent"}}, []string{minute[0], "Vary: User-Agent"}, []string{"User-Agent: 1"}, []string{"User-Agent: 2"}, 2, 1},
		"LanguageSelect":             {larder.Policy{LanguageSelect: true}, []string{minute[0], "Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de, en;q=0.5"}, 2, 1},
		"BypassCookies":              {larder.Policy{BypassCookies: true}, minute, nil, []string{"Cookie: a=1"}, 1, 2},
		"Bypass":                     {larder.Policy{Bypass: func(*http.Request) string { return "as wished" }}, minute, nil, nil, 1, 2},
		"Heed":                       {larder.Policy{Heed: []string{"No-Cache"}}, minute, nil, []string{"Cache-Control: no-cache"}, 1, 2},
		"Heed all":                   {larder.Policy{Heed: []string{"all"}}, minute, nil, []string{"Cache-Control: max-age=0"}, 1, 1}, // it is 0 s old
		"Heed none":                  {larder.Policy{Heed: []string{}}, minute, []string{"Cache-Control: no-store"}, nil, 2, 1},
		"Reload":                     {larder.Policy{Reload: true}, minute, nil, []string{"Pragma: no-cache"}, 1, 2},
		"Ranges":                     {larder.Policy{Ranges: larder.RangesPass}, minute, nil, []string{"Range: bytes=0-1"}, 1, 2},
		"Conditionals pass":          {larder.Policy{Conditionals: larder.ConditionalsPass}, []string{minute[0], `ETag: "1"`}, nil, []string{`If-None-Match: "1"`}, 1, 2},
		"Conditionals fill":          {larder.Policy{Conditionals: larder.ConditionalsFill}, []string{minute[0], `ETag: "1"`}, []string{`If-None-Match: "0"`}, nil, 1, 1},
		"Authorization, one user":    {larder.Policy{Authorization: larder.AuthorizationKey}, minute, []string{"Authorization: a"}, []string{"Authorization: a"}, 2, 1},
		"Authorization, two users":   {larder.Policy{Authorization: larder.AuthorizationKey}, minute, []string{"Authorization: a"}, []string{"Authorization: b"}, 2, 2},
		"Authorization, private":     {larder.Policy{Authorization: larder.AuthorizationKey}, []string{"Cache-Control: private, max-age=60"}, []string{"Authorization: a"}, []string{"Authorization: a"}, 2, 2},
		"Authorization never":        {larder.Policy{Authorization: larder.AuthorizationNever}, []string{"Cache-Control: public, max-age=60"}, []string{"Authorization: a"}, []string{"Authorization: a"}, 1, 2},
		"SetCookie refuse":           {larder.Policy{SetCookie: larder.SetCookieRefuse}, []string{minute[0], "Set-Cookie: a=1"}, nil, nil, 1, 2},
		"SetCookie strip":            {larder.Policy{SetCookie: larder.SetCookieStrip, DefaultTTL: time.Minute}, []string{"Set-Cookie: a=1"}, nil, nil, 2, 1},
		"SetCookie pass":             {larder.Policy{SetCookie: larder.SetCookiePass, DefaultTTL: time.Minute}, []string{"Set-Cookie: a=1"}, nil, nil, 2, 1},
		"SetCookie explicit":         {larder.Policy{DefaultTTL: time.Minute}, []string{"Set-Cookie: a=1"}, nil, nil, 2, 2},
		"Statuses":                   {larder.Policy{Statuses: []int{404}}, minute, nil, nil, 1, 2},
		"DefaultTTL":                 {larder.Policy{DefaultTTL: time.Minute}, nil, nil, nil, 2, 1},
		"MinTTL":                     {larder.Policy{MinTTL: time.Minute}, []string{"Cache-Control: max-age=0"}, nil, nil, 2, 1},
		"MaxTTL":                     {larder.Policy{MaxTTL: 1}, minute, nil, nil, 1, 1},                                                            // it is 0 s old
		"NoHeuristics":               {larder.Policy{NoHeuristics: true}, []string{"Last-Modified: Fri, 01 Jan 1999 00:00:00 GMT"}, nil, nil, 1, 2}, /* the test begins in 2000 */
		"IgnoreSMaxAge":              {larder.Policy{IgnoreSMaxAge: true}, []string{"Cache-Control: s-maxage=0, max-age=60"}, nil, nil, 2, 1},
		"TargetedFields":             {larder.Policy{TargetedFields: []string{"my-control"}}, []string{"Cache-Control: no-store", "My-Control: max-age=60"}, nil, nil, 2, 1},
		"Surrogate":                  {larder.Policy{Surrogate: true}, []string{"Cache-Control: no-store", "Surrogate-Control: max-age=60"}, nil, nil, 2, 1},
		"Overrule":                   {larder.Policy{Overrule: []string{"No-Store"}}, []string{"Cache-Control: no-store, max-age=60"}, nil, nil, 2, 1},
		"Sharing":                    {larder.Policy{Sharing: larder.Private}, []string{"Cache-Control: private, max-age=60"}, nil, nil, 2, 1},
		"Simple, ranges":             {larder.Simple(), minute, nil, []string{"Range: bytes=0-1"}, 1, 2},
		"Simple, If-Modified-Since":  {larder.Simple(), minute, nil, []string{"If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"}, 1, 2},
		"Simple, If-Match":           {larder.Simple(), minute, nil, []string{"If-Match: *"}, 2, 2},
		"Simple, If-None-Match":      {larder.Simple(), minute, nil, []string{`If-None-Match: "1"`}, 1, 2},
		"Accelerator, a cookie":      {larder.Accelerator(), []string{minute[0], "Set-Cookie: a=1"}, nil, nil, 1, 2},
		"Accelerator, client's word": {larder.Accelerator(), minute, []string{"Cache-Control: no-store"}, nil, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for policy, want := range map[*larder.Policy]int64{{}: c.standard, &c.policy: c.bent} {
				inWorld(t, *policy, answer(c.answer...), func(w *world, _ *larder.Cache) {
					if got := w.asked(c.one, c.other); got != want {
						t.Errorf("the handler was asked %d times, want %d (bent: %t)", got, want, policy == &c.policy)
					}
				})
			}
		})
	}
}

func TestPolicyMethods(t *testing.T) {
	for _, c := range []struct {
		methods []string
		asked   int64
	}{{nil, 1}, {[]string{"GET", "HEAD"}, 1}, {[]string{"GET"}, 2}} {
		inWorld(t, larder.Policy{Methods: c.methods}, answer("Cache-Control: max-age=60"), func(w *world, _ *larder.Cache) {
			w.get("http://h/a")
			w.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("HEAD", "http://h/a", nil))
			if got := w.calls.Load(); got != c.asked {
				t.Errorf("%q: asked %d times, want %d", c.methods, got, c.asked)
			}
		})
	}
}

func TestPolicyBypassHTTPS(t *testing.T) {
	for _, c := range []struct {
		bypass bool
		asked  int64
	}{{false, 1}, {true, 2}} {
		inWorld(t, larder.Policy{BypassHTTPS: c.bypass}, answer("Cache-Control: max-age=60"), func(w *world, _ *larder.Cache) {
			w.get("https://h/a")
			w.get("https://h/a")
			if got := w.calls.Load(); got != c.asked {
				t.Errorf("asked %d times, want %d", got, c.asked)
			}
			w.get("http://h/a")
			w.get("http://h/a")
			if got := w.calls.Load(); got != c.asked+1 {
				t.Errorf("by http: asked %d times, want %d", got, c.asked+1)
			}
		})
	}
}

func TestPolicyFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
		defer slog.SetDefault(before)
		cache := larder.Cache{
			Policy:   larder.Policy{Overrule: []string{"no-cache"}},
			Policies: map[string]larder.Policy{"api": {Overrule: []string{"no-store"}, DefaultTTL: time.Minute}},
			PolicyFor: func(r *http.Request) string {
				name, _, _ := strings.Cut(r.URL.Path[1:], "/")
				return name
			},
		}
		w := &world{Handler: cache.Handler(answer("Cache-Control: no-store"))}
		defer cache.Close()
		w.get("http://h/api/a")
		if got := w.get("http://h/api/a").Header().Get("Cache-Status"); got != `larder; hit; ttl=60; detail="overruled: no-store"` {
			t.Errorf("api: %s", got)
		}
		w.get("http://h/")
		if got := w.get("http://h/").Header().Get("Cache-Status"); strings.Contains(got, "hit") {
			t.Errorf("others: %s", got)
		}
		w.get("http://h/other/a")
		for _, want := range []string{"policy=api directives=no-store", `policy="" directives=no-cache`, "policy=other"} {
			if !strings.Contains(logged.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, &logged)
			}
		}
	})
}

// numbered answers with how often it was asked, after a second.
func numbered(calls *atomic.Int64, lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		time.Sleep(time.Second)
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		fmt.Fprint(w, n)
	}
}

// A version that changes refreshes gracefully; so does Touch, by key and by group.
func TestGracefulRefresh(t *testing.T) {
	var version atomic.Value
	version.Store("1")
	policy := larder.Policy{
		Version: func(r *http.Request) string { return version.Load().(string) },
		Group:   func(r *http.Request) string { return r.URL.Path },
	}
	for name, change := range map[string]func(c *larder.Cache) error{
		"Version":    func(*larder.Cache) error { version.Store(version.Load().(string) + "+"); return nil },
		"Touch":      func(c *larder.Cache) error { return c.Touch(t.Context(), "http://h/a") },
		"TouchGroup": func(c *larder.Cache) error { c.TouchGroup("/a"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			inWorld(t, policy, numbered(&calls, "Cache-Control: max-age=600"), func(w *world, c *larder.Cache) {
				w.get("http://h/a")
				w.get("http://h/b")
				for round := int64(1); round <= 3; round++ {
					if err := change(c); err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					old := w.get("http://h/a").Body.String()
					again := w.get("http://h/a").Body.String()
					if waited := time.Since(began); waited > 0 || old != again {
						t.Errorf("after the change: %s, %s, %v", old, again, waited)
					}
					time.Sleep(2 * time.Second)
					if now := w.get("http://h/a").Body.String(); now == old {
						t.Errorf("still %s", now)
					}
					if got := calls.Load(); got != 2+round {
						t.Errorf("asked %d times, want %d", got, 2+round)
					}
				}
				if name != "Version" && w.get("http://h/b").Body.String() != "2" {
					t.Error("others were touched")
				}
			})
		})
	}
}

// Two stages: past the soft expiry nobody waits and one refreshes; past the hard one
// all wait for the same answer.
func TestDogpile(t *testing.T) {
	const clients = 200
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		cache := larder.Cache{Policy: larder.Policy{Grace: 10 * time.Second}}
		h := cache.Handler(numbered(&calls, "Cache-Control: max-age=2")) // of which one is over when it comes
		defer cache.Close()
		get(h, "/a")
		var all sync.WaitGroup
		began := time.Now()
		for range clients {
			all.Go(func() {
				for time.Since(began) < 10*time.Second {
					asked := time.Now()
					if get(h, "/a"); time.Since(asked) > 0 {
						t.Errorf("waited %v", time.Since(asked))
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		all.Wait()
		// Fresh for 1 s, then 1 s until it is refreshed.
		if got := calls.Load(); got < 5 || got > 7 {
			t.Errorf("the handler ran %d times in 10 s", got)
		}
		time.Sleep(time.Minute)
		before := calls.Load()
		for range clients {
			all.Go(func() {
				asked := time.Now()
				if get(h, "/a"); time.Since(asked) != time.Second {
					t.Errorf("past the hard expiry: waited %v", time.Since(asked))
				}
			})
		}
		all.Wait()
		if got := calls.Load() - before; got != 1 {
			t.Errorf("past the hard expiry the handler ran %d times", got)
		}
	})
}
