package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
)

// Open implements gateway.Source. It takes one round trip, and another one for the handle
// if octets are wanted.
func (s *Source) Open(ctx context.Context, name string, want gateway.Want) (gateway.Object, error) {
	c, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	o := &object{src: s, conn: c, name: name}
	if err := o.find(ctx, want); err != nil {
		_ = o.Close() // never fails
		return nil, s.failed(name, err)
	}
	return o, nil
}

// find finds out what there is, and opens it if octets are wanted.
func (o *object) find(ctx context.Context, want gateway.Want) error {
	p, err := call(ctx, o.conn, func() (place, error) { return o.conn.locate(o.name) }, nil)
	if err != nil {
		return err
	}
	o.path, o.info = p.path, o.src.info(p.info)
	switch {
	case o.info.Size < 0:
		return fmt.Errorf("a size of %d: %w", o.info.Size, gateway.ErrUnavailable)
	case want.Met(&o.info):
		o.info = gateway.Info{Unchanged: true, Version: o.info.Version, Modified: o.info.Modified}
	case want.N != 0 && o.info.Size > 0:
		return o.open(ctx)
	}
	return nil
}

// info is what the server tells of a regular file or folder.
func (s *Source) info(i os.FileInfo) gateway.Info {
	if i.IsDir() {
		return gateway.Info{Folder: true}
	}
	info := gateway.Info{Size: i.Size()}
	if i.ModTime().Unix() != 0 { // that is how the library tells of none
		info.Modified = i.ModTime()
	}
	info.Version, info.Certain = gateway.ByTime(info.Size, info.Modified, s.opt.Now(), gateway.Grain)
	return info
}

// An object is a file or folder. It has a handle once octets were wanted, and keeps
// the connection that the handle is of.
type object struct {
	src  *Source
	conn *conn
	name string
	path string
	info gateway.Info

	file  *sftp.File // nil: not opened yet
	close sync.Once
}

func (o *object) Info() gateway.Info { return o.info }

// open gets the handle.
func (o *object) open(ctx context.Context) error {
	f, err := call(ctx, o.conn, func() (*sftp.File, error) { return o.conn.sftp.Open(o.path) }, discard)
	o.file = f
	return err
}

// discard closes a handle that nobody wants any more.
func discard(f *sftp.File) { _ = f.Close() } // nothing was written

// renew finds the object again over another connection, if that which it was found over broke.
func (o *object) renew(ctx context.Context) error {
	if !o.conn.isDead() {
		return nil
	}
	c, err := o.src.conns.get(ctx)
	if err != nil {
		return err
	}
	o.src.conns.put(o.conn)
	o.conn, o.file = c, nil
	was := o.info
	err = o.find(ctx, gateway.Want{})
	now := o.info
	o.info = was
	if errors.Is(err, fs.ErrNotExist) || err == nil && (now.Folder || now.Size != was.Size || !now.Modified.Equal(was.Modified)) {
		return gateway.ErrChanged
	}
	return err
}

// Range takes up over another connection what broke off.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.renew(ctx); err != nil {
		return nil, o.src.failed(o.name, err)
	}
	if o.file == nil {
		if err := o.open(ctx); err != nil {
			return nil, o.src.failed(o.name, err)
		}
	}
	still := func() error { return o.src.failed(o.name, o.still(ctx)) }
	r := &stream{ctx: ctx, object: o, next: off, end: off + n}
	r.ask() // on its way while the handle is looked at
	if err := still(); err != nil {
		_ = r.Close() // never fails
		return nil, err
	}
	return gateway.Reader(r, n, still), nil
}

// still looks whether the handle is of what Info tells of.
func (o *object) still(ctx context.Context) error {
	i, err := call(ctx, o.conn, o.file.Stat, nil)
	if err != nil {
		return err
	}
	if now := o.src.info(i); !i.Mode().IsRegular() || now.Size != o.info.Size || !now.Modified.Equal(o.info.Modified) {
		return gateway.ErrChanged
	}
	return nil
}

// Close gives the handle back, without waiting for it.
func (o *object) Close() error {
	o.close.Do(func() {
		if f := o.file; f != nil {
			o.conn.later(func() { discard(f) })
		}
		o.src.conns.put(o.conn)
	})
	return nil
}

const (
	// block is how many octets are asked for at a time: what every server gives.
	// The library would ask for more by several requests, but takes it for octets
	// when one of them is answered by a status of success.
	block = 32 << 10
	// ahead is how many requests are under way.
	ahead = 32
)

// A stream reads the octets of a handle in order and asks for them ahead.
type stream struct {
	ctx    context.Context
	object *object
	next   int64 // what is asked for next
	end    int64
	asked  []chan piece // in order
	now    []byte       // what is left of the first
	buf    []byte       // what now is of
	spare  [][]byte
	err    error
}

// A piece is octets that were asked for.
type piece struct {
	b   []byte
	err error
}

func (r *stream) Read(p []byte) (int, error) {
	for len(r.now) == 0 && r.err == nil {
		r.advance()
	}
	n := copy(p, r.now)
	r.now = r.now[n:]
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, r.err
}

// advance waits for the next piece.
func (r *stream) advance() {
	if r.buf != nil {
		r.spare, r.buf = append(r.spare, r.buf), nil
	}
	r.ask()
	if len(r.asked) == 0 {
		r.err = io.EOF
		return
	}
	select {
	case a := <-r.asked[0]:
		r.asked = r.asked[1:]
		r.now, r.buf = a.b, a.b
		if a.err != nil {
			r.now, r.err = nil, r.object.src.failed(r.object.name, a.err)
		}
	case <-r.ctx.Done():
		r.err = r.object.src.failed(r.object.name, r.ctx.Err())
	}
}

// ask asks for as many pieces as may be under way.
func (r *stream) ask() {
	for len(r.asked) < ahead && r.next < r.end {
		n, off := min(block, r.end-r.next), r.next
		var b []byte
		if last := len(r.spare) - 1; last >= 0 {
			b, r.spare = r.spare[last], r.spare[:last]
		} else {
			b = make([]byte, n)
		}
		b = b[:n] // only the last piece is shorter
		answer := make(chan piece, 1)
		r.asked = append(r.asked, answer)
		r.next += n
		c, f := r.object.conn, r.object.file
		go func() {
			_, err := guarded(c.kill, func() (struct{}, error) { return struct{}{}, fill(f, b, off) })
			if fatal(err) {
				c.kill()
			}
			answer <- piece{b, err}
		}()
	}
}

// fill reads all of b.
func fill(f *sftp.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return gateway.ErrChanged // it was longer
	case err == nil:
		return fmt.Errorf("%d octets of %d, and neither an error nor the end: %w", n, len(b), gateway.ErrUnavailable)
	}
	return err
}

// Close does not wait for what is under way.
func (r *stream) Close() error {
	if asked := r.asked; len(asked) > 0 {
		r.object.conn.later(func() {
			for _, a := range asked {
				<-a
			}
		})
	}
	r.asked, r.next, r.now, r.err = nil, r.end, nil, os.ErrClosed
	return nil
}
