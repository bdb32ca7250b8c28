package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/sim"
)

// crowd is how many ask for one URL at the moment of a purge.
const crowd = 10_000

// gather has a crowd ask at once, with a purge in the middle of it, and returns the answers
// of those who ask after the purge.
func gather(t *testing.T, w *sim.World, mode purge.Mode) (all, after []*sim.Answer) {
	t.Helper()
	var asking sync.WaitGroup
	var mu sync.Mutex
	gate, purged := make(chan struct{}), make(chan struct{})
	for i := range crowd {
		asking.Go(func() {
			<-gate
			late := i%2 == 0
			if late {
				<-purged
			}
			a := w.Start("GET", "/", "")
			mu.Lock()
			defer mu.Unlock()
			all = append(all, a)
			if late {
				after = append(after, a)
			}
		})
	}
	asking.Go(func() {
		defer close(purged)
		<-gate
		if _, err := w.Engine.Purge(t.Context(), purge.Order{Selectors: []purge.Selector{{URL: "/"}}, Mode: mode}); err != nil {
			t.Error(err)
		}
	})
	close(gate)
	asking.Wait()
	return all, after
}

// 10,000 ask for one URL while it is purged softly: the origin is asked once, and nobody waits,
// not even for a moment, since time stands still.
func TestACrowdAtASoftPurge(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		fresh := "Cache-Control: max-age=3600, stale-while-revalidate=60"
		w.Origin(sim.Reply{Header: []string{fresh}, Body: "old"}, sim.Reply{Header: []string{fresh}, Body: "new", Delay: time.Second})
		w.Get("/")
		began := time.Now()
		all, after := gather(t, w, purge.Refresh)
		w.Settle()
		for _, a := range all {
			if !a.Done() || a.Body() != "old" || !a.Hit() {
				t.Fatalf("one waits, or has %q, %s", a.Body(), a.CacheStatus())
			}
		}
		if len(all) != crowd || len(after) != crowd/2 || !time.Now().Equal(began) {
			t.Errorf("%d of %d answers came %v after the purge", len(after), len(all), time.Since(began))
		}
		w.WantCount(2)
		w.Advance(2 * time.Second)
		if a := w.Get("/"); a.Body() != "new" {
			t.Errorf("later there is %q", a.Body())
		}
		w.WantCount(2)
	})
}

// 10,000 ask for one URL while it is purged: the origin is asked once, and everybody who asks
// after the purge gets the new body.
func TestACrowdAtAHardPurge(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		fresh := "Cache-Control: max-age=3600"
		w.Origin(sim.Reply{Header: []string{fresh}, Body: "old"}, sim.Reply{Header: []string{fresh}, Body: "new", Delay: time.Second})
		w.Get("/")
		all, after := gather(t, w, purge.Refetch)
		for _, a := range all {
			a.Wait()
			if b := a.Body(); b != "old" && b != "new" {
				t.Fatalf("one has %q", b)
			}
		}
		for _, a := range after {
			if a.Status != 200 || a.Body() != "new" {
				t.Fatalf("one who asks after the purge has %d %q, %s", a.Status, a.Body(), a.CacheStatus())
			}
		}
		if len(all) != crowd || len(after) != crowd/2 {
			t.Errorf("%d of %d answers", len(after), len(all))
		}
		w.WantCount(2)
	})
}

// A mob are connections that ask for one URL, several times each at once.
type mob struct {
	t     *testing.T
	conns []net.Conn
	times int
}

// newMob connects. Both ends of a connection are files of this process, and so is what they
// ask for.
func newMob(t *testing.T, addr string) *mob {
	t.Helper()
	m := &mob{t: t}
	most := 1000
	if files := openFiles(); files > 0 {
		most = min(most, (files-200)/2)
	}
	m.times = crowd / most
	for range most {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		m.conns = append(m.conns, c)
	}
	return m
}

// ask sends all requests, of which each connection has several, and returns how many answers
// had which body. sent is called when all have been sent.
func (m *mob) ask(sent func()) map[string]int {
	m.t.Helper()
	request := strings.Repeat("GET / HTTP/1.1\r\nHost: "+shop+"\r\n\r\n", m.times)
	var sending, reading sync.WaitGroup
	var mu sync.Mutex
	bodies := map[string]int{}
	var failed error
	for _, c := range m.conns {
		sending.Add(1)
		reading.Go(func() {
			_, err := io.WriteString(c, request)
			sending.Done()
			from := bufio.NewReader(c)
			for i := 0; i < m.times && err == nil; i++ {
				var body []byte
				if body, err = readAnswer(from); err == nil {
					mu.Lock()
					bodies[string(body)]++
					mu.Unlock()
				}
			}
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		})
	}
	sending.Wait()
	sent()
	reading.Wait()
	if failed != nil {
		m.t.Fatal(failed)
	}
	return bodies
}

func readAnswer(from *bufio.Reader) ([]byte, error) {
	res, err := http.ReadResponse(from, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return io.ReadAll(res.Body)
}

// The same with a Daemon and real sockets: 10,000 requests on as many connections as there is
// room for. The origin does not answer before all have what they asked for, or before all
// have asked.
func TestACrowdAtThePublicDoor(t *testing.T) {
	for _, mode := range []purge.Mode{purge.Refresh, purge.Refetch} {
		t.Run(mode.String(), func(t *testing.T) {
			answers := make(chan struct{})
			var asked counts
			s := newShelf(t, func(w http.ResponseWriter, _ *http.Request) {
				n := asked.next("")
				if n > 1 {
					<-answers
				}
				w.Header().Set("Cache-Control", "max-age=3600, stale-while-revalidate=60")
				fmt.Fprint(w, n)
			})
			answer := sync.OnceFunc(func() { close(answers) })
			defer answer()
			m := newMob(t, s.listener.Addr().String())
			s.get("/", "1")
			s.purge(mode, purge.Selector{URL: "//" + shop + "/"})
			sent, want := func() {}, "1"
			if mode == purge.Refetch {
				sent, want = answer, "2"
			}
			if got := m.ask(sent); len(got) != 1 || got[want] != len(m.conns)*m.times {
				t.Errorf("after: %v, want %s from all %d", got, want, len(m.conns)*m.times)
			}
			answer()
			got := s.ask("/")
			for mode == purge.Refresh && got == "1" {
				got = s.ask("/")
			}
			if got != "2" {
				t.Errorf("at last it is %q", got)
			}
			s.wantAsked(2)
		})
	}
}
