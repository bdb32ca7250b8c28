package engine_test

import (
	"context"
	"net/http"
	"sync"

	"github.com/larderhq/larder/internal/sim"
)

// A gate is a client that takes nothing until it is opened.
type gate struct {
	ctx    context.Context
	cancel context.CancelFunc
	opened chan struct{}
	header http.Header

	mu sync.Mutex
	n  int64
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{}), header: http.Header{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func (g *gate) Header() http.Header { return g.header }

func (g *gate) WriteHeader(int) {}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case <-g.opened:
	case <-g.ctx.Done():
		return 0, g.ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += int64(len(p))
	return len(p), nil
}

// ask asks for /a. What ends the exchange is sent: nil, or that it was broken
// off.
func (g *gate) ask(w *sim.World) <-chan any {
	ended := make(chan any, 1)
	go func() {
		defer func() { ended <- recover() }()
		w.Engine.ServeHTTP(g, sim.Request("GET", "/a", "").WithContext(g.ctx))
	}()
	return ended
}

func (g *gate) open() { close(g.opened) }

func (g *gate) leave() { g.cancel() }

// taken is how many octets it took.
func (g *gate) taken() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}
