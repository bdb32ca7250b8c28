// Command gin has a cache in front of a gin engine.
//
//	go run ./gin
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

	"github.com/gin-gonic/gin"
	"github.com/larderhq/larder"
)

// handler has the cache around the engine, which is an http.Handler. A gin.HandlerFunc
// that calls the cache would have to hand it c.Next as the handler: but the cache lets
// one call answer many, on a goroutine of its own and with a writer of its own, even
// after c was given to another request; c.Writer and c.Next know of none of that.
func handler(cache *larder.Cache) http.Handler {
	engine := gin.New()
	engine.GET("/items/:id", func(c *gin.Context) {
		c.Header("Cache-Control", "max-age=60") // without a lifetime nothing is kept
		c.String(http.StatusOK, "item %s\n", c.Param("id"))
	})
	// A POST that succeeds has the cache forget what it had for the same URL.
	engine.POST("/items/:id", func(c *gin.Context) { c.Status(http.StatusNoContent) })
	engine.GET("/countdown", func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		for n := 3; n > 0; n-- {
			fmt.Fprintln(c.Writer, n)
			c.Writer.Flush() // passed on at once
			select {
			case <-c.Request.Context().Done(): // the client is gone
				return
			case <-time.After(time.Second):
			}
		}
	})
	return cache.Handler(engine) // for an http.Server, in place of engine.Run
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
