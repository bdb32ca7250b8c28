// Command chi has a cache in front of a chi router.
//
//	go run ./chi
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

	"github.com/go-chi/chi/v5"
	"github.com/larderhq/larder"
)

// handler has the cache around the router. Inside, by r.Use(cache.Handler), it would
// seem to work: but chi keeps the route in a context that it uses again for another
// request once this one is answered, while the cache may go on fetching, or refresh
// something later, when there is no such context, and chi panics.
func handler(cache *larder.Cache) http.Handler {
	r := chi.NewRouter() // r.Use is for what only misses need, such as a database
	r.Get("/items/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60") // without a lifetime nothing is kept
		fmt.Fprintf(w, "item %s\n", chi.URLParam(r, "id"))
	})
	// A POST that succeeds has the cache forget what it had for the same URL.
	r.Post("/items/{id}", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	r.Get("/countdown", func(w http.ResponseWriter, r *http.Request) {
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
	return cache.Handler(r)
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
