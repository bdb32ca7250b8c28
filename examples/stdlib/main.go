// Command stdlib has a cache in front of http.ServeMux.
//
//	go run ./stdlib
//	curl -si http://127.0.0.1:8080/items/7 | grep -i cache-status   # twice: uri-miss, hit
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/larderhq/larder"
)

// handler has the cache around the mux and not around a route of it: a refresh in the
// background is no client's request, and so PathValue, Pattern and the path that
// StripPrefix left are known only to what lies behind the cache.
func handler(cache *larder.Cache) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60") // without a lifetime nothing is kept
		fmt.Fprintf(w, "item %s\n", r.PathValue("id"))
	})
	// A POST that succeeds has the cache forget what it had for the same URL.
	mux.HandleFunc("POST /items/{id}", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /countdown", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		for n := 3; n > 0; n-- {
			fmt.Fprintln(w, n)
			// Passed on at once. It fails when the client is gone.
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	return cache.Handler(mux)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var cache larder.Cache
	defer cache.Close() // after Shutdown, when nobody uses its handler any more
	server := &http.Server{Addr: *addr, Handler: handler(&cache), ReadHeaderTimeout: 10 * time.Second}
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
