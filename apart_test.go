package larder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder"
	"github.com/larderhq/larder/store/memory"
)

// forCookie is a handler that answers with the Cookie that it got.
func forCookie(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		fmt.Fprintf(w, "for %.40s", r.Header.Get("Cookie"))
	}
}

// Cookies are told apart as origins may read them, not as net/http does.
func TestVaryCookiesTellsAllValuesApart(t *testing.T) {
	inWorld(t, larder.Policy{VaryCookies: []string{"session"}}, forCookie("Cache-Control: max-age=60"), func(w *world, _ *larder.Cache) {
		many := strings.Repeat("a=; ", 4000)
		for _, cookies := range [][]string{
			{`session={"uid":1}`},
			{`session={"uid":2}`},
			{"session=\xff"},
			{`session=a\b`},
			{`session="abc"`},
			{"session=abc"},
			{"session="},
			{"session"},
			{"session=evil; " + many},
			{many + "session=evil2"},
			nil,
			{"session=1", "session=2"},
			{"session=2", "session=1"},
			{"session=1; session=1"},
			{"session=1"},
		} {
			var lines []string
			for _, cookie := range cookies {
				lines = append(lines, "Cookie: "+cookie)
			}
			want := "for "
			if len(cookies) > 0 {
				want = fmt.Sprintf("for %.40s", cookies[0])
			}
			for range 2 {
				a := w.get("http://h/", lines...)
				if got := a.Body.String(); got != want && !(len(cookies) == 1 && cookies[0] == "session") {
					t.Errorf("%.60q gets %q", cookies, got)
				}
				if got := a.Header().Get("Vary"); got != "Cookie" {
					t.Errorf("Vary: %s", got)
				}
			}
		}
	})
}

// What chooses a response by the context of its request is there when the response is
// made, also in the background.
func TestRefreshesAreForTheSameUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		user := func(r *http.Request) string { name, _ := r.Context().Value(valueKey{}).(string); return name }
		cache := larder.Cache{Policy: larder.Policy{VaryOn: user}}
		defer cache.Close()
		cached := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			time.Sleep(time.Second)
			fmt.Fprint(w, "for ", user(r))
		}))
		w := &world{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cached.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), valueKey{}, r.Header.Get("X-Token"))))
		})}
		for range 3 {
			if got := w.get("http://h/", "X-Token: alice").Body.String(); got != "for alice" {
				t.Errorf("alice gets %q", got)
			}
			if err := cache.Touch(t.Context(), "http://h/"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// Requests of different policies do not wait for each other.
func TestPoliciesDoNotShareFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := larder.Cache{
			Policies:  map[string]larder.Policy{"ignores": {VaryIgnore: []string{"Cookie"}}, "varies": {VaryHeaders: []string{"Cookie"}}},
			PolicyFor: func(r *http.Request) string { return r.Header.Get("X-Policy") },
		}
		defer cache.Close()
		h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			forCookie("Cache-Control: max-age=60", "Vary: Cookie")(w, r)
		}))
		w := &world{Handler: h}
		var both sync.WaitGroup
		for _, lines := range [][]string{{"X-Policy: ignores", "Cookie: alice"}, {"Cookie: bob"}, {"X-Policy: varies", "Cookie: carol"}} {
			want := "for " + strings.TrimPrefix(lines[len(lines)-1], "Cookie: ")
			both.Go(func() {
				r := httptest.NewRequest("GET", "http://h/", nil)
				for _, line := range lines {
					name, value, _ := strings.Cut(line, ": ")
					r.Header.Set(name, value)
				}
				rec := httptest.NewRecorder()
				w.ServeHTTP(rec, r)
				if got := rec.Body.String(); got != want {
					t.Errorf("%q gets %q", lines, got)
				}
			})
		}
		both.Wait()
	})
}

// What one policy keeps, another gives away only if it could have kept it, and only
// what it would have kept of it.
func TestPoliciesJudgeWhatIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		keeps, reads larder.Policy
		answer       []string
	}{
		"private":    {larder.Policy{Overrule: []string{"private"}}, larder.Policy{}, []string{"Cache-Control: private, max-age=600"}},
		"no-store":   {larder.Policy{Overrule: []string{"no-store"}}, larder.Policy{}, []string{"Cache-Control: no-store, max-age=600"}},
		"own":        {larder.Policy{Sharing: larder.Private}, larder.Policy{}, []string{"Cache-Control: private, max-age=600"}},
		"Set-Cookie": {larder.Policy{SetCookie: larder.SetCookiePass}, larder.Policy{SetCookie: larder.SetCookieStrip}, []string{"Cache-Control: max-age=600", "Set-Cookie: id=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			kept := memory.New(memory.Options{Budget: 16 << 20})
			defer kept.Close()
			var last *httptest.ResponseRecorder
			for _, cookie := range []string{"alice", "bob"} {
				policy := c.keeps
				if cookie == "bob" {
					policy = c.reads
				}
				cache := larder.Cache{Store: kept, Policy: policy}
				r := httptest.NewRequest("GET", "http://h/", nil)
				r.Header.Set("Cookie", cookie)
				last = httptest.NewRecorder()
				cache.Handler(forCookie(c.answer...)).ServeHTTP(last, r)
				cache.Close()
			}
			if name == "Set-Cookie" {
				if last.Header()["Set-Cookie"] != nil {
					t.Errorf("bob gets %q", last.Header())
				}
			} else if got := last.Body.String(); got != "for bob" {
				t.Errorf("bob gets %q", got)
			}
		})
	}
}

// The same value found by two policies is not the same thing.
func TestPoliciesAddDifferentKeys(t *testing.T) {
	cache := larder.Cache{
		Policies: map[string]larder.Policy{"a": {VaryCookies: []string{"tenant"}}, "b": {VaryCookies: []string{"uid"}}},
		PolicyFor: func(r *http.Request) string {
			if strings.Contains(r.Header.Get("Cookie"), "uid=") {
				return "b"
			}
			return "a"
		},
	}
	defer cache.Close()
	w := cache.Handler(forCookie("Cache-Control: max-age=60"))
	for _, cookie := range []string{"uid=7", "tenant=7", "uid=7"} {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.Header.Set("Cookie", cookie)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if got := rec.Body.String(); got != "for "+cookie {
			t.Errorf("%s gets %q", cookie, got)
		}
	}
}

func response(body io.ReadCloser, lines ...string) *http.Response {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return &http.Response{StatusCode: 200, Header: h, Body: body, ContentLength: -1}
}

// A caller may use its request again when it has read the body; what goes on in the
// background does not look at it any more.
func TestTransportRequestsMayBeUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cache larder.Cache
		defer cache.Close()
		transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			path := r.URL.Path
			if r.Header.Get("If-None-Match") != "" {
				time.Sleep(time.Second)
				res := response(http.NoBody, `ETag: "other"`) // so that it asks once more
				res.StatusCode = 304
				return res, nil
			}
			return response(io.NopCloser(strings.NewReader("content of "+path)), "Cache-Control: max-age=60", `ETag: "1"`), nil
		}))
		do := func(r *http.Request) string {
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			content, _ := io.ReadAll(res.Body)
			return string(content)
		}
		r, _ := http.NewRequest("GET", "http://a.example/a", nil)
		do(r)
		synctest.Wait()
		if err := cache.Touch(t.Context(), "http://a.example/a"); err != nil {
			t.Fatal(err)
		}
		do(r)
		r.URL.Path = "/b"
		r.Header.Set("X", "y")
		time.Sleep(2 * time.Second)
		q, _ := http.NewRequest("GET", "http://a.example/a", nil)
		if got := do(q); got != "content of /a" {
			t.Errorf("/a is %q", got)
		}
	})
}

// A body that is closed may pretend to be at its end; it is not whole.
func TestTransportClosedBodyThatEnds(t *testing.T) {
	var cache larder.Cache
	defer cache.Close()
	transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		in, out := io.Pipe()
		go io.WriteString(out, "first half, ")
		return response(&pretender{in, out}, "Cache-Control: max-age=60"), nil
	}))
	for range 2 {
		r, _ := http.NewRequest("GET", "http://a.example/a", nil)
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if isHit(res) {
			t.Errorf("a half is kept: %q", res.Header)
		}
		io.ReadFull(res.Body, make([]byte, 12))
		res.Body.Close()
	}
}

// A pretender ends in io.EOF when it is closed.
type pretender struct {
	*io.PipeReader
	out *io.PipeWriter
}

func (p *pretender) Close() error { return p.out.Close() }

// A POST within a part is judged by what it is itself.
func TestTransportWithinAPart(t *testing.T) {
	api := larder.Cache{Policy: larder.Policy{VaryOn: func(r *http.Request) string { return r.Header.Get("X-User") }}}
	defer api.Close()
	transport := api.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		body := io.NopCloser(strings.NewReader(r.Method + " by " + r.Header.Get("X-User")))
		return response(body, "Cache-Control: max-age=60", "Content-Location: /doc"), nil
	}))
	var cache larder.Cache
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/part" {
			post, _ := http.NewRequestWithContext(r.Context(), "POST", "http://api.example/doc", nil)
			post.Header.Set("X-User", "alice")
			res, err := transport.RoundTrip(post)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(w, res.Body)
			res.Body.Close()
			return
		}
		part, _ := http.NewRequest("GET", "/part", nil)
		res, err := cache.Fetch(r.Context(), part)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(w, res.Body)
		res.Body.Close()
	}))
	if got := get(h, "http://h/page").Body.String(); got != "POST by alice" {
		t.Errorf("the page is %q", got)
	}
	r, _ := http.NewRequest("GET", "http://api.example/doc", nil)
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	content, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if string(content) != "GET by " {
		t.Errorf("anonymous gets %q", content)
	}
}

// A handler behind one Cache that asks another is not led back to itself.
func TestFetchFromAnotherCache(t *testing.T) {
	var api, cache larder.Cache
	defer api.Close()
	defer cache.Close()
	api.Handler(answer("Cache-Control: max-age=60"))
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part, _ := http.NewRequest("GET", "http://api.example/v1", nil)
		res, err := api.Fetch(r.Context(), part)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(w, res.Body)
		res.Body.Close()
	}))
	if got := get(h, "http://h/page").Body.String(); got != "page" {
		t.Errorf("got %q", got)
	}
}

// The body of a POST that is kept can be closed while it is read, and ends with the
// Cache.
func TestTransportPostedBodies(t *testing.T) {
	cache := larder.Cache{Policy: larder.Policy{Sharing: larder.Shared}}
	transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		in, _ := io.Pipe()
		return response(in, "Cache-Control: max-age=60", "Content-Location: /"), nil
	}))
	r, _ := http.NewRequest("POST", "http://a.example/", nil)
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	reading, ended := make(chan bool), make(chan error)
	go func() {
		close(reading)
		_, err := res.Body.Read(make([]byte, 10))
		ended <- err
	}()
	<-reading
	res.Body.Close()
	if err := <-ended; err == nil {
		t.Error("the Read gave something")
	}
	cache.Close()
}

// What speaks for others changes nobody knows what: it goes past a private cache, and
// not through a shared one.
func TestTransportFieldsArrive(t *testing.T) {
	for _, sharing := range []larder.Sharing{larder.Private, larder.Shared} {
		cache := larder.Cache{Policy: larder.Policy{Sharing: sharing}}
		transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			return response(io.NopCloser(strings.NewReader(r.Header.Get("X-Forwarded-Host"))), "Cache-Control: max-age=60"), nil
		}))
		for _, host := range []string{"one", "other"} {
			r, _ := http.NewRequest("GET", "http://a.example/", nil)
			r.Header.Set("X-Forwarded-Host", host)
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(res.Body)
			res.Body.Close()
			want := ""
			if sharing == larder.Private {
				want = host
			}
			if string(content) != want {
				t.Errorf("%s: %s gets %q", sharing, host, content)
			}
		}
		cache.Close()
	}
}

// Names of fields mean the same in any spelling, also to who sets them past net/http.
func TestTransportSpellingOfNames(t *testing.T) {
	s := newSite(t, page("max-age=60"))
	c := client(t, &larder.Cache{})
	for _, user := range []string{"alice", "bob"} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/a", nil)
		r.Header["authorization"] = []string{user}
		res, err := c.Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(content) != "/a for "+user {
			t.Errorf("%s gets %q", user, content)
		}
	}
}

// A body made of what is kept and what comes can be given up while it is read.
func TestTransportGivesUpWhatItCompletes(t *testing.T) {
	content := strings.Repeat("0123456789", 500_000)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "a.txt", timeZero, strings.NewReader(content))
	})
	for range 20 {
		c := client(t, &larder.Cache{})
		if _, part := ask(t, c, "GET", s.URL, "Range: bytes=0-2000000"); len(part) != 2000001 {
			t.Fatalf("%d octets", len(part))
		}
		res, err := c.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 100))
		res.Body.Close()
	}
}

// What comes after revalidate-timeout is kept, also by a private cache.
func TestTransportKeepsWhatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := larder.Cache{Policy: larder.Policy{RevalidateTimeout: time.Second}}
		defer cache.Close()
		n := 0
		transport := cache.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if n++; n > 1 {
				time.Sleep(5 * time.Second)
			}
			in, out := io.Pipe()
			version := fmt.Sprint(n)
			go func() {
				io.WriteString(out, version)
				time.Sleep(time.Second)
				out.Close()
			}()
			return response(in, "Cache-Control: max-age=10", `ETag: "`+version+`"`), nil
		}))
		for _, want := range []string{"1", "1", "2"} {
			r, _ := http.NewRequest("GET", "http://a.example/", nil)
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if content, _ := io.ReadAll(res.Body); string(content) != want {
				t.Errorf("got %q, want %s", content, want)
			}
			res.Body.Close()
			if want == "1" {
				time.Sleep(12 * time.Second)
			}
			synctest.Wait()
		}
	})
}

// A Touch by one policy takes nothing from what another has kept.
func TestTouchLeavesWhatIsKeptAsItIs(t *testing.T) {
	policies := larder.Cache{
		Policy:    larder.Policy{SetCookie: larder.SetCookieStrip},
		Policies:  map[string]larder.Policy{"login": {SetCookie: larder.SetCookiePass}},
		PolicyFor: func(*http.Request) string { return "login" },
	}
	defer policies.Close()
	h := policies.Handler(answer("Cache-Control: max-age=60", "Set-Cookie: id=1"))
	get(h, "http://h/")
	if err := policies.Touch(t.Context(), "http://h/"); err != nil {
		t.Fatal(err)
	}
	if a := get(h, "http://h/"); a.Header().Get("Set-Cookie") != "id=1" {
		t.Errorf("after the touch: %q", a.Header())
	}
}

// Two that share a Store do not take each other's for touched for ever.
func TestGroupsInASharedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := memory.New(memory.Options{Budget: 16 << 20})
		defer kept.Close()
		w := &world{}
		next := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.calls.Add(1)
			answer("Cache-Control: max-age=600")(rw, r)
		})
		group := larder.Policy{Group: func(*http.Request) string { return "g" }}
		var handlers []http.Handler
		for range 2 {
			cache := larder.Cache{Store: kept, Policy: group}
			defer cache.Close()
			handlers = append(handlers, cache.Handler(next))
			time.Sleep(time.Second)
		}
		for i := range 20 {
			w.Handler = handlers[i%2]
			w.get("http://h/")
			time.Sleep(time.Second)
		}
		if got := w.calls.Load(); got != 1 {
			t.Errorf("the handler was asked %d times", got)
		}
	})
}

// A fetch that calls the Cache does not keep it from being closed.
func TestCloseWhileAFetchCalls(t *testing.T) {
	var cache larder.Cache
	asked, goOn := make(chan bool), make(chan bool)
	h := cache.Proxy(roundTripper(func(r *http.Request) (*http.Response, error) {
		asked <- true
		<-r.Context().Done()
		<-goOn
		return nil, errors.Join(errors.New("no answer"), cache.Purge(context.Background(), "http://h/"))
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	func() {
		defer func() { _ = recover() }() // the client has left
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "http://h/", nil))
	}()
	closed := make(chan bool)
	go func() { cache.Close(); close(closed) }()
	close(goOn)
	<-closed
}

// A condition that is met, or a range, does not keep the whole from being kept.
func TestTransportFillsByConditions(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"1"`)
		io.WriteString(w, "page")
		w.(http.Flusher).Flush()
		io.WriteString(w, strings.Repeat("x", 100_000))
	})
	c := client(t, &larder.Cache{Policy: larder.Policy{Conditionals: larder.ConditionalsFill}})
	for range 2 {
		if res, _ := ask(t, c, "GET", s.URL, `If-None-Match: "1"`); res.StatusCode != 304 {
			t.Errorf("%s", res.Status)
		}
		ask(t, c, "GET", s.URL) // waits for what is under way
	}
	s.wantCount(t, 1)
}

// What may not be kept for credentials is not, whoever's the cache is.
func TestTransportAuthorizationNever(t *testing.T) {
	s := newSite(t, page("max-age=60"))
	c := client(t, &larder.Cache{Policy: larder.Policy{Authorization: larder.AuthorizationNever}})
	for range 2 {
		ask(t, c, "GET", s.URL, "Authorization: x")
	}
	s.wantCount(t, 2)
}

// A touch holds also if the program has been started anew.
func TestTouchGroupOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := memory.New(memory.Options{Budget: 16 << 20})
		defer kept.Close()
		w := &world{}
		for i := range 2 {
			cache := larder.Cache{Store: kept, Policy: larder.Policy{Group: func(*http.Request) string { return "g" }}}
			w.Handler = cache.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				w.calls.Add(1)
				answer("Cache-Control: max-age=60")(rw, r)
			}))
			w.get("http://h/")
			time.Sleep(time.Second)
			if i == 0 {
				cache.TouchGroup("g")
			}
			cache.Close()
		}
		if got := w.calls.Load(); got != 2 {
			t.Errorf("the handler was asked %d times", got)
		}
	})
}
