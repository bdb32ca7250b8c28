// Command pages makes pages of parts that live for different times: one by a handler,
// with Cache.Fetch, and one by markup, with ESI.
//
//	go run ./pages
//	curl -s http://127.0.0.1:8080/        # twice: the news say uri-miss, then hit
//	curl -si http://127.0.0.1:8080/esi    # twice: Cache-Status says so of the template
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/larderhq/larder"
)

func newCache() *larder.Cache {
	return &larder.Cache{Policy: larder.Policy{ESI: &larder.ESI{}}} // nil: nobody reads the markup
}

func handler(cache *larder.Cache) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /news", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintln(w, "<p>The news.</p>")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		// The page is made each time, which is cheap: its parts are kept. The context is
		// that of the page, so that "/news" is one of the same site and cache.
		part, err := http.NewRequest(http.MethodGet, "/news", nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		res, err := cache.Fetch(r.Context(), part)
		if err != nil {
			http.Error(w, "no news", http.StatusBadGateway)
			return
		}
		defer res.Body.Close() // or the fetch would not end
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintf(w, "<h1>Hello</h1> <!-- news: %s -->\n", res.Header.Get("Cache-Status"))
		if _, err := io.Copy(w, res.Body); err != nil {
			panic(http.ErrAbortHandler) // half a page must not look like a whole one
		}
	})
	mux.HandleFunc("GET /esi", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")          // the template's
		w.Header().Set("Surrogate-Control", `content="ESI/1.0"`) // asks for assembly
		fmt.Fprintln(w, `<h1>Hello</h1>`)
		fmt.Fprint(w, `<esi:include src="/news" onerror="continue"/>`) // without news if need be
	})
	return cache.Handler(mux)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	cache := newCache()
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
