// Face serves an origin at an address through one face of the library, for the
// conformance tests:
//
//	face middleware|proxy|transport|private http://ORIGIN ADDRESS
//
// middleware is Cache.Handler around a reverse proxy, proxy is Cache.Proxy, transport
// is Cache.Transport under a reverse proxy, shared, and private the same as it is by
// itself. It ends when it is told to.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/larderhq/larder"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "face:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: face middleware|proxy|transport|private http://ORIGIN ADDRESS")
	}
	origin, err := url.Parse(args[1])
	if err != nil {
		return err
	}
	var cache larder.Cache
	defer cache.Close()
	handler, err := face(args[0], &cache, origin)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: args[2], Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// face is the handler under test.
func face(name string, cache *larder.Cache, origin *url.URL) (http.Handler, error) {
	base := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	proxy := &httputil.ReverseProxy{Transport: base, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(origin)
		r.Out.Host = r.In.Host
	}}
	switch name {
	case "middleware":
		return cache.Handler(proxy), nil
	case "proxy":
		return cache.Proxy(to{origin, base}), nil
	case "transport":
		cache.Policy.Sharing = larder.Shared
		proxy.Transport = cache.Transport(base)
		return proxy, nil
	case "private":
		proxy.Transport = cache.Transport(base)
		return proxy, nil
	}
	return nil, fmt.Errorf("there is no face %q", name)
}

// to sends requests to one origin.
type to struct {
	origin *url.URL
	base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.WithContext(r.Context())
	u := *r.URL
	u.Scheme, u.Host = t.origin.Scheme, t.origin.Host
	out.URL = &u
	return t.base.RoundTrip(out)
}
