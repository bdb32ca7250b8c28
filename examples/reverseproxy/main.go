// Command reverseproxy has a cache in front of another server.
//
//	python3 -m http.server 9000 --bind 127.0.0.1 &   # or any other
//	go run ./reverseproxy -origin http://127.0.0.1:9000
//	curl -si http://127.0.0.1:8080/README.md | grep -i cache-status   # twice: uri-miss, hit
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/larderhq/larder"
)

// A to sends requests to one server, whichever host they are for.
type to struct {
	origin    *url.URL
	transport http.RoundTripper
}

func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context()) // a RoundTripper must not change what it is given
	out.URL.Scheme, out.URL.Host = t.origin.Scheme, t.origin.Host
	// out.Host stays that which the client asked for: "" would name the origin.
	return t.transport.RoundTrip(out)
}

// handler is Cache.Proxy, and not Cache.Handler around an httputil.ReverseProxy: so
// the cache knows an origin that cannot be reached, or that breaks off, from one that
// answers with an error, and can use what is stale instead.
func handler(cache *larder.Cache, origin *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // clients say what they accept, and get just that
	return cache.Proxy(to{origin, transport})
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	at := flag.String("origin", "http://127.0.0.1:9000", "server to ask")
	flag.Parse()
	origin, err := url.Parse(*at)
	if err != nil || origin.Host == "" {
		log.Fatalf("-origin %q is no URL such as http://127.0.0.1:9000", *at)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var cache larder.Cache
	defer cache.Close() // after Shutdown, when nobody uses its handler any more
	server := &http.Server{Addr: *addr, Handler: handler(&cache, origin), ReadHeaderTimeout: 10 * time.Second}
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
