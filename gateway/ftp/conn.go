package ftp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
)

// A conn is a control connection that is logged in, and the data connection
// that belongs to it at the moment. One goroutine at a time uses it; any may kill it.
type conn struct {
	*ftp.ServerConn

	opt    *Options
	tls    *tls.Config
	root   string // absolute
	blurry bool   // SIZE is told of folders too

	ctx       context.Context // of who uses it
	dataLimit int64           // octets of the next data connection, negative: no limit
	expiry    *time.Timer     // of the pool
	used      bool            // it was idle in the pool before
	last      lastReply

	mu    sync.Mutex
	wires []*wire // the first is the control connection
	dead  bool
}

// chatter is how many octets a server may say on the control connection for one request.
const chatter = 1 << 20

// dial makes a connection, logs in and finds the root.
func (s *Source) dial(ctx context.Context) (*conn, error) {
	c := &conn{opt: &s.opt, ctx: ctx, dataLimit: -1, tls: s.opt.TLS.Clone()}
	// Many servers take data connections only that resume the session of the control connection.
	c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	stop := context.AfterFunc(ctx, c.kill)
	err := guarded(c.kill, c.logIn)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

func (c *conn) logIn() error {
	options := []ftp.DialOption{ftp.DialWithDialFunc(c.connect), ftp.DialWithDebugOutput(&c.last)}
	switch c.opt.Security {
	case Explicit:
		options = append(options, ftp.DialWithExplicitTLS(c.tls))
	case Implicit:
		options = append(options, ftp.DialWithTLS(c.tls))
	}
	var err error
	if c.ServerConn, err = ftp.Dial(c.opt.Addr, options...); err != nil {
		return err
	}
	if err := c.Login(c.opt.User, c.opt.Password); err != nil {
		if n := c.last.code; n != 0 && n != ftp.StatusNotAvailable {
			err = fmt.Errorf("%w: %w", fs.ErrPermission, err)
		}
		return fmt.Errorf("user %q: %w", c.opt.User, err)
	}
	if c.root = c.opt.Root; !strings.HasPrefix(c.root, "/") {
		home, err := c.CurrentDir()
		if err != nil {
			return err
		}
		c.root = strings.TrimSuffix(below(strings.ReplaceAll(home, `""`, `"`), c.root), "/")
	}
	if !c.IsTimePreciseInList() { // no MLST
		_, err := c.sizeOf(c.at(""))
		c.blurry = err == nil
		if fatal(err) {
			return err
		}
	}
	return nil
}

// at is the path of a name.
func (c *conn) at(name string) string {
	if name == "" {
		return either(c.root, "/")
	}
	return strings.TrimSuffix(c.root, "/") + "/" + name
}

// connect is how the library makes connections: the control connection first. Data connections
// go to where that went; only the port is the server's choice.
func (c *conn) connect(network, address string) (net.Conn, error) {
	first := len(c.wires) == 0
	limit := int64(chatter)
	if !first {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(c.wires[0].RemoteAddr().String())
		if err != nil {
			return nil, err
		}
		address, limit = net.JoinHostPort(host, port), c.dataLimit
	}
	var d net.Dialer
	real, err := d.DialContext(c.ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: real, limit: limit, tooMuch: c.kill}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		_ = w.Close()
		return nil, net.ErrClosed
	}
	if c.wires = append(c.wires[:min(1, len(c.wires))], w); c.opt.Security == Implicit || c.opt.Security == Explicit && !first {
		return tls.Client(w, c.tls), nil
	}
	return w, nil
}

// listen allows the server to say something again, and limits what the next data
// connection gives; negative: it does not.
func (c *conn) listen(dataLimit int64) {
	c.wires[0].limit, c.dataLimit = chatter, dataLimit
}

// guarded runs f. Should the library panic, for what a server said, it kills the connection and returns an
// error. The library is called in here only.
func guarded(kill func(), f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			kill()
			err = fmt.Errorf("the reply is malformed (%v): %w", p, gateway.ErrUnavailable)
		}
	}()
	return f()
}

// kill hangs up. All that waits fails.
func (c *conn) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for _, w := range c.wires {
		_ = w.Close() // nothing is left to be lost
	}
}

func (c *conn) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// A wire gives no more than limit octets, if that is not negative: the library collects what comes
// until its end.
type wire struct {
	net.Conn
	limit   int64
	tooMuch func()
}

// errTooMuch is what a wire says then.
var errTooMuch = fmt.Errorf("the server says more than it should: %w", gateway.ErrUnavailable)

func (w *wire) Read(p []byte) (int, error) {
	if w.limit < 0 {
		return w.Conn.Read(p)
	}
	if w.limit == 0 {
		w.tooMuch()
		return 0, errTooMuch
	}
	n, err := w.Conn.Read(p[:min(int64(len(p)), w.limit)])
	w.limit -= int64(n)
	return n, err
}

// A lastReply is written what goes over a control connection, both ways, and keeps the code of a
// reply until there is a command again. The library does not tell that of a USER that was refused.
type lastReply struct {
	code int // 0: there is no reply
	line []byte
}

func (r *lastReply) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n':
			r.line = r.line[:0]
		case len(r.line) < len("230 "):
			if r.line = append(r.line, b); len(r.line) == len("230 ") {
				r.code, _ = strconv.Atoi(strings.TrimSuffix(string(r.line), " ")) // else 0
			}
		}
	}
	return len(p), nil
}
