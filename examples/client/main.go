// Command client has a cache in an http.Client: it tells the versions of a Go module
// that the public module proxy knows, and does not ask that each time.
//
//	go run ./client
//	curl -si http://127.0.0.1:8080/github.com/go-chi/chi/v5 | grep -i cache-status   # twice: uri-miss, hit
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/larderhq/larder"
)

func newCache() *larder.Cache {
	return &larder.Cache{Policy: larder.Policy{DefaultTTL: time.Minute}} // if the proxy states none
}

// handler asks proxy through the cache. That is a private one, as a browser's, and
// right for a client that asks for itself. If you pass on cookies of your own users,
// set Policy.Sharing to larder.Shared, or VaryOn.
func handler(cache *larder.Cache, proxy *url.URL) http.Handler {
	client := &http.Client{Transport: cache.Transport(nil), Timeout: 10 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{module...}", func(w http.ResponseWriter, r *http.Request) {
		target := proxy.JoinPath(r.PathValue("module"), "@v/list").String()
		ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		res, err := client.Do(ask) // errors are those of the network, as without the cache
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Cache-Status", res.Header.Get("Cache-Status")) // to show it
		if res.StatusCode != http.StatusOK {
			http.Error(w, res.Status, http.StatusBadGateway)
			return
		}
		if _, err := io.Copy(w, res.Body); err != nil {
			panic(http.ErrAbortHandler) // half a list must not look like a whole one
		}
	})
	return mux
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	cache := newCache()
	defer cache.Close() // after Shutdown, when nobody uses its transport any more
	proxy := &url.URL{Scheme: "https", Host: "proxy.golang.org"}
	server := &http.Server{Addr: *addr, Handler: handler(cache, proxy), ReadHeaderTimeout: 10 * time.Second}
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
