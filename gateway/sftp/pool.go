package sftp

import (
	"context"
	"io/fs"
	"sync"
	"time"
)

// crowd is how many requests share a connection before another one is made.
const crowd = 4

// A pool is a few connections, each of them shared.
type pool struct {
	most int
	dial func(context.Context) (*conn, error)

	mu      sync.Mutex
	conns   []*conn
	dialing int
	changed chan struct{} // closed, and another one made, when conns or dialing change
	closed  bool
}

func newPool(most int, dial func(context.Context) (*conn, error)) *pool {
	return &pool{most: most, dial: dial, changed: make(chan struct{})}
}

// get returns the connection that has least to do, or makes one. The caller puts it back.
func (p *pool) get(ctx context.Context) (*conn, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, fs.ErrClosed
		}
		best := p.idlest()
		if room := len(p.conns)+p.dialing < p.most; best != nil && (best.users < crowd || !room) {
			best.users++
			p.mu.Unlock()
			return best, nil
		} else if room {
			p.dialing++
			p.mu.Unlock()
			return p.grow(ctx)
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// idlest returns the connection with the fewest users, nil if there is none. It
// forgets those that broke.
func (p *pool) idlest() *conn {
	var best *conn
	alive := p.conns[:0]
	for _, c := range p.conns {
		if c.isDead() {
			continue
		}
		alive = append(alive, c)
		if best == nil || c.users < best.users {
			best = c
		}
	}
	clear(p.conns[len(alive):])
	p.conns = alive
	return best
}

// grow makes a connection in a place that is reserved.
func (p *pool) grow(ctx context.Context) (*conn, error) {
	c, err := p.dial(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	close(p.changed)
	p.changed = make(chan struct{})
	if err != nil {
		return nil, err
	}
	if p.closed {
		c.kill()
		return nil, fs.ErrClosed
	}
	c.users = 1
	p.conns = append(p.conns, c)
	return c, nil
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	c.since = time.Now()
}

// retire hangs up if c has had no user for a while, and tells whether it did.
func (p *pool) retire(c *conn, after time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.users > 0 || time.Since(c.since) < after {
		return false
	}
	c.kill()
	return true
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.conns {
		c.kill()
	}
	p.conns = nil
}
