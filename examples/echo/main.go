// Command echo has a cache in front of an Echo application.
//
//	go run ./echo
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

	"github.com/labstack/echo/v4"
	"github.com/larderhq/larder"
)

// handler has the cache around Echo, which is an http.Handler. Inside, by
// e.Use(echo.WrapMiddleware(cache.Handler)), nothing would ever be a hit: Echo then
// calls cache.Handler for each request, and each call makes a cache of its own. Errors
// would come to Echo only after an empty 200 has been sent.
func handler(cache *larder.Cache) http.Handler {
	e := echo.New()
	e.GET("/items/:id", func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "max-age=60") // without a lifetime nothing is kept
		return c.String(http.StatusOK, "item "+c.Param("id")+"\n")
	})
	// A POST that succeeds has the cache forget what it had for the same URL.
	e.POST("/items/:id", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	e.GET("/countdown", func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store")
		for n := 3; n > 0; n-- {
			fmt.Fprintln(c.Response(), n)
			c.Response().Flush() // passed on at once
			select {
			case <-c.Request().Context().Done(): // the client is gone
				return nil
			case <-time.After(time.Second):
			}
		}
		return nil
	})
	return cache.Handler(e) // for an http.Server, in place of e.Start
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
