package engine_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/sim"
	"github.com/larderhq/larder/internal/standing"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/memory"
)

func paths(c *engine.Config) { c.Paths = true }

// Storage knows an object by its path, whoever asks for it under whichever host, query
// and escaping.
func TestKEY_PathsAlone(t *testing.T) {
	sim.RunWith(t, paths, func(w *sim.World) {
		byTarget(w)
		w.Get("/a%20b/c").WantMiss("uri-miss")
		for _, same := range []string{"/a%20b/c", "/%61%20b/c", "/a%20b/%63", "/a%20b/c?x=1", "/a%20b/c?", "http://other.example/a%20b/c"} {
			w.Get(same).Want(200, "GET http shop.example /a%20b/c").WantHit()
		}
		for _, other := range []string{"/a%20b%2fc", "/a%20b/c/", "/a+b/c", "/A%20b/c", "/a%2520b/c", "/a%20b/c%3Fx"} {
			w.Get(other).WantMiss("uri-miss")
		}
		w.Get("/a%20b%2Fc").WantHit() // an escaped slash is one in both cases, and no slash
	})
}

// What changes in storage is forgotten by its path.
func TestINV_ByPathForAllHosts(t *testing.T) {
	sim.RunWith(t, paths, func(w *sim.World) {
		byTarget(w)
		w.Get("http://one.example/%C3%A9?q").WantMiss("uri-miss")
		w.Get("/b").WantMiss("uri-miss")
		u, err := url.Parse("http://storage/%c3%a9")
		if err != nil || !w.Engine.ForgetURL(t.Context(), u) {
			t.Fatal(err)
		}
		w.Get("http://two.example/%C3%A9").WantMiss("uri-miss")
		w.Get("/b").WantHit()
		w.Do("PUT", "http://three.example/b", "")
		w.Get("/b").WantMiss("uri-miss")
	})
}

// PurgeAll forgets everything, what is under way included, and what comes after it is
// kept again.
func TestINV_PurgeAll(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute, minute, sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "old", Delay: time.Second}, sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "new"})
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
		w.Get("/a").WantHit()
		w.Engine.ForgetAll()
		w.Get("/a").WantMiss("uri-miss")
		w.Get("/a").WantHit()

		slow := w.Start("GET", "/b", "")
		w.Settle()
		w.Engine.ForgetAll()
		w.Get("/b").Want(200, "new").WantMiss("uri-miss")
		slow.Wait()
		slow.Want(200, "old") // it was asked for before
		w.Get("/b").Want(200, "new").WantHit()
		w.Engine.ForgetAll()
		w.Get("/b").WantMiss("uri-miss")
	})
}

// What stands without the engine falls with PurgeAll too.
func TestINV_PurgeAllEndsWhatStands(t *testing.T) {
	s := memory.New(memory.Options{Budget: 1 << 20})
	defer s.Close()
	e := engine.New(engine.Config{Store: s, Forward: once{page()}, Standing: engine.Standing(nil)})
	defer e.Close()
	get := func() *http.Request {
		r := httptest.NewRequest("GET", "/a", nil)
		r.Host = sim.Host
		return r.WithContext(store.AtOnce)
	}
	e.ServeHTTP(httptest.NewRecorder(), get().WithContext(t.Context()))
	var a standing.Answer
	for e.Decide(get(), &a) != standing.Decided { // the fetch may be under way
		runtime.Gosched()
	}
	q := standing.Request{Host: []byte(sim.Host), Target: []byte("/a")}
	if e.Standing.Find(&q, time.Now()) == nil {
		t.Fatal("nothing stands")
	}
	e.ForgetAll()
	if e.Standing.Find(&q, time.Now()) != nil {
		t.Error("it still stands")
	}
	if e.Decide(get(), &a) == standing.Decided {
		t.Error("it is decided as before")
	}
}
