//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A phase is what runs beside the hits.
type phase struct {
	name  string
	loads []load
}

// A load asks larder until ctx ends. The error says what went wrong before.
type load func(ctx context.Context, l *lab, c *counter) error

// phases are all that can be measured. The first is what others are compared with.
var phases = []phase{
	{"idle", nil},
	{"misses", []load{misses}},
	{"large", []load{large}},
	{"invalidate", []load{invalidations}},
	{"all", []load{misses, large, invalidations}},
}

func phaseNames() []string {
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	return names
}

// choose finds phases by name, the first of all before them. Nil: one is not there.
func choose(names []string) []phase {
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == phases[0].name })
	return rig.Choose(slices.Insert(others, 0, phases[0].name), phases, func(p phase) string { return p.name })
}

// A counter counts what was answered.
type counter struct{ requests, octets atomic.Int64 }

// counted is a counter at one moment.
type counted struct{ requests, octets int64 }

// A running phase has its loads under way.
type running struct {
	counter
	loads sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

// start starts the loads of a phase. When one fails it calls give.
func (l *lab) start(ctx context.Context, give func(), p phase) *running {
	r := &running{}
	for _, do := range p.loads {
		r.loads.Go(func() {
			err := do(ctx, l, &r.counter)
			if err == nil || ctx.Err() != nil {
				return // what ends with ctx is no failure
			}
			r.mu.Lock()
			r.errs = append(r.errs, err)
			r.mu.Unlock()
			give()
		})
	}
	return r
}

func (r *running) count() counted { return counted{r.requests.Load(), r.octets.Load()} }

// wait waits until all loads have ended, and says what went wrong.
func (r *running) wait() error {
	r.loads.Wait()
	return errors.Join(r.errs...)
}

// paced calls do so many times a second, on several goroutines, each with a number.
// Where do is too slow for that, it is called less often.
func paced(ctx context.Context, rate int, do func(number int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	numbers := make(chan int, 8)
	var workers sync.WaitGroup
	for range cap(numbers) {
		workers.Go(func() {
			for number := range numbers {
				if err := do(number); err != nil {
					cancel(err)
				}
			}
		})
	}
	every := time.NewTicker(time.Second / time.Duration(rate))
	defer every.Stop()
	for number := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-every.C:
			select {
			case numbers <- number:
				number++
			default: // all are at work
			}
		}
	}
	close(numbers)
	workers.Wait()
	return context.Cause(ctx)
}

// buffers are what answers are compared through.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// misses asks for what nobody asked for before.
func misses(ctx context.Context, l *lab, c *counter) error {
	return paced(ctx, l.opts.misses, func(int) error {
		return l.miss(ctx, c, "/4096/miss-"+strconv.FormatInt(l.fresh.Add(1), 10))
	})
}

// miss asks for name, which must not be a hit.
func (l *lab) miss(ctx context.Context, c *counter, name string) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	status, err := l.get(ctx, name, buf[:])
	if err != nil {
		return err
	}
	if !strings.Contains(status, "fwd=uri-miss") {
		return fmt.Errorf("GET %s is no miss: Cache-Status %q", name, status)
	}
	c.requests.Add(1)
	size, _, _ := strings.Cut(name[1:], "/")
	n, _ := strconv.ParseInt(size, 10, 64) // the origin knew the path
	c.octets.Add(n)
	return nil
}

// purgeSet is how many URLs take turns in being invalidated.
const purgeSet = 200

func purgePath(number int) string { return "/1024/purged-" + strconv.Itoa(number%purgeSet) }

// invalidations DELETEs URLs, which has larder forget them (RFC 9111 §4.4), and
// asks for each again.
func invalidations(ctx context.Context, l *lab, c *counter) error {
	return paced(ctx, l.opts.purges, func(number int) error {
		name := purgePath(number)
		resp, err := l.do(ctx, http.MethodDelete, name)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("DELETE %s: %s", name, resp.Status)
		}
		c.requests.Add(1)
		return l.miss(ctx, c, name)
	})
}

func largePath(number int) string {
	return "/" + strconv.Itoa(10*mib) + "/large-" + strconv.Itoa(number)
}

// large are clients that ask for one long body again and again.
func large(ctx context.Context, l *lab, c *counter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var clients sync.WaitGroup
	for i := range l.opts.large {
		clients.Go(func() { cancel(l.download(ctx, c, largePath(i))) })
	}
	clients.Wait()
	return context.Cause(ctx)
}

// download asks for name on a connection of its own until ctx ends, at its share
// of the rate.
func (l *lab) download(ctx context.Context, c *counter, name string) error {
	want, err := l.origin.Body(name)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // which ends a Read
	in := bufio.NewReaderSize(conn, 4<<10)
	buf := make([]byte, 256<<10)
	p := pace{rate: l.opts.largeRate / float64(l.opts.large), began: time.Now(), count: c}
	for {
		if _, err := io.WriteString(conn, "GET "+name+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if status := resp.Header.Get("Cache-Status"); resp.StatusCode != http.StatusOK || !strings.Contains(status, "; hit") {
			return fmt.Errorf("GET %s: %s, Cache-Status %q, which should be a hit", name, resp.Status, status)
		}
		p.from = resp.Body
		if err := rig.Compare(&p, want, buf); err != nil {
			return fmt.Errorf("GET %s: %w", name, err)
		}
		c.requests.Add(1)
	}
}

// A pace reads no more than so many octets a second, and counts them.
type pace struct {
	from  io.Reader
	rate  float64 // 0: there is none
	began time.Time
	read  int64
	count *counter
}

// stride is what a pace lets pass at once, in octets.
const stride = 64 << 10

// Read implements io.Reader.
func (p *pace) Read(b []byte) (int, error) {
	if p.rate > 0 {
		b = b[:min(len(b), stride)]
		now := time.Now()
		ahead := time.Duration(float64(p.read)/p.rate*1e9) - now.Sub(p.began)
		switch {
		case ahead > 0:
			time.Sleep(ahead)
		case ahead < -100*time.Millisecond: // what was missed is not made up for
			p.began, p.read = now, 0
		}
	}
	n, err := p.from.Read(b)
	p.read += int64(n)
	p.count.octets.Add(int64(n))
	return n, err
}
