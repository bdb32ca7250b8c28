package ftp

import (
	"context"
	"errors"
	"io"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
)

// Open implements gateway.Source. What it says takes one to four round trips, as the server
// is able; octets are asked for later.
func (s *Source) Open(ctx context.Context, name string, want gateway.Want) (gateway.Object, error) {
	o := &object{src: s, name: name}
	err := s.with(ctx, name, func(l *lease) error {
		e, err := l.stat(name)
		o.entry, o.info = e, s.info(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	if want.Met(&o.info) {
		o.info = gateway.Info{Unchanged: true, Version: o.info.Version, Modified: o.info.Modified}
	}
	return o, nil
}

// List implements gateway.Source. Of a server that tells times to the second (MLSD), there are times.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	var infos []gateway.Info
	err := s.with(ctx, folder, func(l *lease) error {
		entries, err := l.list(folder, limit)
		for _, e := range entries {
			info := s.info(e.entry)
			info.Name = e.name
			infos = append(infos, info)
		}
		return err
	})
	return infos, err
}

// An object is what a name meant when it was opened. It holds nothing.
type object struct {
	src   *Source
	name  string
	entry entry
	info  gateway.Info
}

func (o *object) Info() gateway.Info { return o.info }
func (o *object) Close() error       { return nil }

// Range keeps a connection until the reader is closed.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	l, err := o.src.conns.lease(ctx)
	if err != nil {
		return nil, o.src.failed(o.name, err)
	}
	t := &transfer{object: o, lease: l, left: n, after: o.entry.size - off - n}
	if err := l.guarded(func() error { return t.begin(off) }); err != nil {
		defer l.end()
		return nil, o.src.failed(o.name, l.explain(err))
	}
	return gateway.Reader(t, n, t.still), nil
}

// A transfer is a RETR under way.
type transfer struct {
	object *object
	lease  *lease
	data   *ftp.Response // nil: it is over
	left   int64         // octets of the range
	after  int64         // octets of the file that come after the range
}

// begin asks for the file from off on.
func (t *transfer) begin(off int64) error {
	restarts := true
	var err error
	if off > 0 {
		if restarts, err = t.restarts(); err != nil {
			return err
		}
	}
	if restarts {
		t.data, err = t.retrieve(off)
		return err
	}
	// It cannot begin but at the beginning.
	if t.data, err = t.retrieve(0); err == nil {
		_, err = io.CopyN(io.Discard, t.data, off)
	}
	return t.short(err)
}

// retrieve asks for the file from off on. A server that took REST but not RETR might begin
// there next time: that shall not be over this connection.
func (t *transfer) retrieve(off int64) (*ftp.Response, error) {
	t.lease.listen(-1)
	data, err := t.lease.RetrFrom(t.lease.at(t.object.name), uint64(off))
	if err != nil && off > 0 && !unknown(err) {
		t.lease.kill()
	}
	return data, err
}

// restarts tells whether the server begins where REST says, and does not only say so: it
// is asked for the last octet, once. Octets from elsewhere could not be told from the
// right ones.
func (t *transfer) restarts() (bool, error) {
	if t.object.src.restarts.Load() {
		return true, nil
	}
	data, err := t.retrieve(t.object.entry.size - 1)
	if unknown(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := io.CopyN(io.Discard, data, 2)
	if n != 1 || !errors.Is(err, io.EOF) {
		return false, t.lease.renew() // more of it may still come
	}
	if err := data.Close(); err != nil {
		return false, t.lease.renew()
	}
	t.object.src.restarts.Store(true)
	return true, nil
}

// short is what an early end means.
func (t *transfer) short(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if err := t.finish(); err != nil {
		return err
	}
	return gateway.ErrChanged // the server says that this was all
}

func (t *transfer) Read(p []byte) (int, error) {
	var n int
	err := t.lease.guarded(func() (err error) {
		n, err = t.data.Read(p)
		t.left -= int64(n)
		if t.left == 0 || err == nil {
			return nil // what comes then is no concern of the range
		}
		return t.short(err)
	})
	return n, t.object.src.failed(t.object.name, t.lease.explain(err))
}

// finish hears what the server says of the transfer.
func (t *transfer) finish() error {
	err := t.data.Close()
	t.data = nil
	if err != nil {
		t.lease.kill() // its answer may still come
	}
	return err
}

// little is how many octets are rather read for nothing than a connection given up for.
const little = 64 << 10

// still looks whether the file is still what it was, when all octets of the range were read.
func (t *transfer) still() error {
	err := t.lease.guarded(func() error {
		if err := t.over(); err != nil {
			return err
		}
		now, err := t.lease.stat(t.object.name)
		if err == nil && (now.folder || now.size != t.object.entry.size || !now.modified.Equal(t.object.entry.modified)) {
			err = gateway.ErrChanged
		}
		return err
	})
	return t.object.src.failed(t.object.name, t.lease.explain(err))
}

// over ends the transfer: it reads what is left of the file, or hangs up.
func (t *transfer) over() error {
	if t.after > little {
		t.data = nil
		return t.lease.renew()
	}
	n, err := io.CopyN(io.Discard, t.data, t.after+1)
	switch {
	case err == nil: // there is more than there should be
		t.lease.kill()
		return gateway.ErrChanged
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF): // the latter is how many servers end TLS
		return err
	}
	if err := t.finish(); err != nil {
		return err
	}
	if n < t.after {
		return gateway.ErrChanged
	}
	return nil
}

// Close gives the connection back, or hangs up if the server is not done with it.
func (t *transfer) Close() error {
	if t.data != nil {
		t.lease.kill()
	}
	t.lease.end()
	return nil
}
