package larder_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"

	"github.com/larderhq/larder"
)

// show asks h for target, with field lines, and prints the answer and what the cache
// says of it.
func show(h http.Handler, target string, lines ...string) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Printf("%s (%s)\n", w.Body, status(w.Header()))
}

// status is Cache-Status without the seconds, which tests cannot know.
func status(h http.Header) string {
	return regexp.MustCompile("; ttl=[0-9]+").ReplaceAllString(h.Get("Cache-Status"), "")
}

// A client that asks a server twice for the same thing sends one request.
func ExampleCache_Transport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=60")
		fmt.Fprint(w, "for ", r.Header.Get("Authorization"))
	}))
	defer server.Close()
	var cache larder.Cache
	defer cache.Close()
	client := http.Client{Transport: cache.Transport(nil)} // nil: http.DefaultTransport
	defer client.CloseIdleConnections()

	for _, user := range []string{"one", "one", "other"} {
		r, _ := http.NewRequest(http.MethodGet, server.URL, nil)
		r.Header.Set("Authorization", user)
		res, err := client.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		content, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Printf("%s (%s)\n", content, status(res.Header))
	}
	// Output:
	// for one (larder; fwd=uri-miss; stored)
	// for one (larder; hit)
	// for other (larder; fwd=vary-miss; stored)
}

// A rule that cannot work is an error before it does harm.
func ExampleCache_Check() {
	cache := larder.Cache{Policy: larder.Policy{VaryHeaders: []string{"*"}}}
	fmt.Println(cache.Check())
	// Output:
	// larder: Policy: VaryHeaders: `*` never matches any request: name the fields, or use Bypass
}

// An application that says nothing about caching, and whose pages depend on a cookie.
func ExamplePolicy() {
	cache := larder.Cache{Policy: larder.Policy{DefaultTTL: time.Minute, VaryCookies: []string{"currency"}}}
	defer cache.Close()
	shop := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		currency, _ := r.Cookie("currency")
		fmt.Fprint(w, "prices in ", currency.Value)
	}))
	show(shop, "http://example.org/", "Cookie: currency=EUR; session=1")
	show(shop, "http://example.org/", "Cookie: currency=EUR; session=2")
	show(shop, "http://example.org/", "Cookie: currency=CHF; session=2")
	// Output:
	// prices in EUR (larder; fwd=uri-miss; stored)
	// prices in EUR (larder; hit)
	// prices in CHF (larder; fwd=vary-miss; stored)
}

// The API of an application forbids caching, and cannot be changed; the rest of it is
// as it should be. What is overruled shows.
func ExampleCache_policyFor() {
	cache := larder.Cache{
		Policies: map[string]larder.Policy{"api": {Overrule: []string{"no-store"}, DefaultTTL: 5 * time.Second}},
		PolicyFor: func(r *http.Request) string {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				return "api"
			}
			return ""
		},
	}
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, r.URL.Path)
	}))
	for _, path := range []string{"/api/stock", "/api/stock", "/account", "/account"} {
		show(h, "http://example.org"+path)
	}
	// Output:
	// /api/stock (larder; fwd=uri-miss; stored; detail="overruled: no-store")
	// /api/stock (larder; hit; detail="overruled: no-store")
	// /account (larder; fwd=uri-miss)
	// /account (larder; fwd=uri-miss)
}

// The simple profile leaves ranges and conditions to the application.
func ExampleSimple() {
	cache := larder.Cache{Policy: larder.Simple()}
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "made anew")
	}))
	show(h, "http://example.org/")
	show(h, "http://example.org/", "Cache-Control: no-cache")
	show(h, "http://example.org/", `If-None-Match: "1"`)
	// Output:
	// made anew (larder; fwd=uri-miss; stored)
	// made anew (larder; hit)
	// made anew (larder; fwd=bypass)
}

// What the application makes has a version. When that changes everybody gets the old
// answer still, and one request has it made anew.
func ExamplePolicy_version() {
	version := "1"
	cache := larder.Cache{Policy: larder.Policy{Version: func(*http.Request) string { return version }}}
	defer cache.Close()
	made := make(chan bool, 2)
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "version ", version)
		made <- true
	}))
	show(h, "http://example.org/")
	<-made
	version = "2"
	show(h, "http://example.org/")
	<-made // in the background
	// Output:
	// version 1 (larder; fwd=uri-miss; stored)
	// version 1 (larder; hit)
}

// Everything about a product is refreshed gracefully when it changes.
func ExampleCache_TouchGroup() {
	cache := larder.Cache{Policy: larder.Policy{Group: func(r *http.Request) string { return r.URL.Query().Get("product") }}}
	defer cache.Close()
	price := 10
	made := make(chan bool, 2)
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, price)
		made <- true
	}))
	show(h, "http://example.org/price?product=7")
	<-made
	price = 12
	cache.TouchGroup("7")
	show(h, "http://example.org/price?product=7") // nobody waits
	<-made
	// Output:
	// 10 (larder; fwd=uri-miss; stored)
	// 10 (larder; hit)
}

// A handler puts a page together of parts that live for different times.
func ExampleCache_Fetch() {
	var cache larder.Cache
	defer cache.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/news", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "the news")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		part, _ := http.NewRequest(http.MethodGet, "/news", nil)
		res, err := cache.Fetch(r.Context(), part)
		if err != nil {
			http.Error(w, "no news", http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		fmt.Fprint(w, "Good morning. Here is ")
		io.Copy(w, res.Body)
	})
	show(cache.Handler(mux), "http://example.org/")
	// Output:
	// Good morning. Here is the news (larder; fwd=uri-miss)
}

// The same by markup, which the application writes and the cache reads.
func ExampleESI() {
	cache := larder.Cache{Policy: larder.Policy{ESI: &larder.ESI{}}}
	defer cache.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/news", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "the news")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Surrogate-Control", `content="ESI/1.0"`)
		fmt.Fprint(w, `Good morning. Here is <esi:include src="/news" onerror="continue"/>`)
	})
	show(cache.Handler(mux), "http://example.org/")
	// Output:
	// Good morning. Here is the news (larder; fwd=uri-miss; stored)
}

func ExampleCache_Purge() {
	var cache larder.Cache
	defer cache.Close()
	h := cache.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "a page")
	}))
	show(h, "http://example.org/a")
	show(h, "http://example.org/a")
	if err := cache.Purge(context.Background(), "http://example.org/a"); err != nil {
		fmt.Println(err)
	}
	show(h, "http://example.org/a")
	// Output:
	// a page (larder; fwd=uri-miss; stored)
	// a page (larder; hit)
	// a page (larder; fwd=uri-miss; stored)
}
