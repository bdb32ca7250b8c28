// Command policies treats parts of a site differently, and refreshes on request.
//
//	ADMIN_TOKEN=secret go run ./policies
//	curl -si http://127.0.0.1:8080/shop/ -b currency=EUR | grep -i cache-status   # twice: uri-miss, hit
//	curl -i -d uri=http://127.0.0.1:8080/shop/ -H 'Authorization: Bearer secret' http://127.0.0.1:8080/admin/touch
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder"
)

// newCache has a policy for each part of the site; what is in none follows the RFC.
func newCache() *larder.Cache {
	shop := larder.Accelerator()            // clients decide nothing, nothing is guessed
	shop.VaryCookies = []string{"currency"} // the one cookie that matters to prices
	shop.DefaultTTL = 10 * time.Second      // the shop says nothing about caching
	shop.Grace = time.Minute                // after that, nobody waits for a new price
	assets := larder.Policy{MinTTL: time.Hour, SetCookie: larder.SetCookieStrip}
	return &larder.Cache{
		Policies: map[string]larder.Policy{"shop": shop, "assets": assets},
		PolicyFor: func(r *http.Request) string { // for each request: quick
			part, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			if part == "shop" || part == "assets" {
				return part
			}
			return ""
		},
	}
}

func handler(cache *larder.Cache) http.Handler {
	var made atomic.Int64
	site := http.NewServeMux()
	site.HandleFunc("GET /shop/", func(w http.ResponseWriter, r *http.Request) {
		currency := "CHF"
		for _, c := range r.CookiesNamed("currency") {
			currency = c.Value
		}
		fmt.Fprintf(w, "price list %d in %s\n", made.Add(1), currency)
	})
	site.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "session=1") // as frameworks do, on everything
		w.Header().Set("Cache-Control", "max-age=1")
		fmt.Fprintf(w, "/* %s */\n", r.PathValue("name"))
	})

	// The admin route lies before the cache: no policy can be wrong about it.
	front := http.NewServeMux()
	front.Handle("/", cache.Handler(site))
	front.HandleFunc("POST /admin/touch", func(w http.ResponseWriter, r *http.Request) {
		token := os.Getenv("ADMIN_TOKEN")
		given := []byte(r.Header.Get("Authorization"))
		if token == "" || subtle.ConstantTimeCompare(given, []byte("Bearer "+token)) != 1 {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		// All variants of the URI that clients ask for; Purge would delete them.
		if err := cache.Touch(r.Context(), r.FormValue("uri")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return front
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	cache := newCache()
	if err := cache.Check(); err != nil { // cache.Handler would panic
		log.Fatal(err)
	}
	defer cache.Close() // after Shutdown, when nobody uses its handler any more
	server := &http.Server{Addr: *addr, Handler: handler(cache), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	stop() // a second interrupt does not wait
	bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		log.Fatal(err)
	}
}
