package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
)

// gateway gives the storage its HTTP face.
func (d *Daemon) gateway() *gateway.Handler {
	o := d.opt.Gateway
	o.Wrote = d.changed
	o.Failed = func(r *http.Request, err error) {
		d.opt.Notes.Error(fmt.Sprintf("storage: %s %s: %v", r.Method, r.URL.EscapedPath(), err))
	}
	if w, ok := d.opt.Storage.(gateway.Watcher); ok && !d.opt.Uncached {
		d.watch = watching{w, "watched since " + strconv.FormatInt(time.Now().UnixNano(), 36)}
	}
	return gateway.New(d.opt.Storage, o)
}

// watching is of storage that tells of changes.
type watching struct {
	source gateway.Watcher // nil: it does not
	since  string
}

// site keeps what is stored apart from what is stored of other storage, or was of this one when
// it was served otherwise; and if changes are watched, from what earlier processes
// stored: those between would have been missed. Storage that is not watched is
// validated as it expires.
func (d *Daemon) site() string {
	o := &d.opt.Gateway
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %v %v %v %q %q %q", d.opt.StorageName, d.watch.since, o.Listing, o.Dotfiles, o.Default, o.Precompressed, o.Download, o.Fresh)
	return string(h.Sum(nil)[:16])
}

// negotiating takes the fields of a request first as one says, and then as the other does.
func negotiating(first, then func(http.Header) http.Header) func(http.Header) http.Header {
	if first == nil {
		return then
	}
	return func(h http.Header) http.Header { return then(first(h)) }
}

// watchPatience is how long serving waits for the watch. It may begin later.
const watchPatience = time.Second

// startWatching has changes in the storage forget what they change, at once. The function
// returned ends that.
func (d *Daemon) startWatching() (stop func()) {
	if d.watch.source == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	ready := make(chan struct{})
	watching.Go(func() {
		// What was answered before the watch began may have changed before it.
		err := d.watch.source.Watch(ctx, func() { d.engine.ForgetAll(); close(ready) }, d.changed)
		if err != nil && ctx.Err() == nil {
			d.engine.ForgetAll()
			d.opt.Notes.Warn(fmt.Sprintf("changes are noticed only when answers have expired, from now on: %v", err))
		}
	})
	select {
	case <-ready:
	case <-time.After(watchPatience):
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// changed forgets what is stored of something that changed in the storage.
func (d *Daemon) changed(c gateway.Change) {
	if d.engine == nil {
		return
	}
	if !d.opt.Gateway.Shows(c.Name) {
		return
	}
	if c.Under && !d.forgetUnder(c.Name) {
		return
	}
	for _, path := range c.Paths(d.opt.Gateway.Listing) {
		if u, err := url.Parse("http://storage" + path); err == nil {
			d.engine.ForgetURL(context.Background(), u)
		}
	}
}

// forgetUnder forgets what is stored of all that is below name. It reports false if that
// was everything.
func (d *Daemon) forgetUnder(name string) bool {
	s := purge.Selector{Prefix: (&url.URL{Path: "/" + name + "/"}).EscapedPath()}
	if name == "" {
		if d.watch.source != nil { // and nothing is found again after a restart
			d.engine.ForgetAll()
			return false
		}
		s = purge.Selector{All: true}
	}
	_, err := d.engine.Purge(context.Background(), purge.Order{Selectors: []purge.Selector{s}, By: "storage"})
	if errors.Is(err, purge.ErrFull) {
		_, err = d.engine.Purge(context.Background(), purge.Order{Selectors: []purge.Selector{{All: true}}, By: "storage"})
	}
	if err != nil {
		d.engine.ForgetAll()
	}
	return name != ""
}

// logged tells the log of each request that h answers.
func (d *Daemon) logged(h http.Handler) http.Handler {
	if d.opt.Log == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &observe.Event{Start: time.Now(), Client: r.RemoteAddr, Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto}
		defer func() {
			e.Duration = time.Since(e.Start)
			d.opt.Log.Observe(e)
		}()
		h.ServeHTTP(&logging{ResponseWriter: w, e: e}, r)
	})
}

// logging notes what is answered.
type logging struct {
	http.ResponseWriter
	e *observe.Event
}

func (l *logging) WriteHeader(status int) {
	if l.e.Status == 0 {
		l.e.Status = status
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *logging) Write(p []byte) (int, error) {
	if l.e.Status == 0 {
		l.e.Status = http.StatusOK
	}
	n, err := l.ResponseWriter.Write(p)
	l.e.Sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (l *logging) Unwrap() http.ResponseWriter { return l.ResponseWriter }
