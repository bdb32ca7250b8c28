package rclone

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// Open looks up what is called name; want is of no use to rclone. What is no regular
// file does not exist; what does not tell its size is fs.ErrPermission.
func (s *Source) Open(ctx context.Context, name string, _ gateway.Want) (gateway.Object, error) {
	if err := s.check(name); err != nil {
		return nil, err
	}
	o := &object{s: s, name: name}
	err := s.call(ctx, func(ctx context.Context) (err error) {
		if o.o, err = s.look(ctx, name); err != nil {
			return err
		}
		o.info, err = s.infoOf(ctx, o.o)
		return err
	})
	if err != nil {
		return nil, wrap(s.label, name, err)
	}
	return o, nil
}

// look finds an object; nil is a folder.
func (s *Source) look(ctx context.Context, name string) (fs.Object, error) {
	if name == "" && !s.flat {
		return nil, nil
	}
	o, err := s.find(ctx, name)
	switch {
	case err == nil && !o.Storable():
		return nil, fs.ErrorNotAFile
	case err == nil || s.flat:
		return o, err
	case errors.Is(err, fs.ErrorIsDir):
		return nil, nil
	case errors.Is(err, fs.ErrorObjectNotFound), errors.Is(err, fs.ErrorNotAFile):
		// Some backends do not see a folder here.
		_, err := s.entries(ctx, name, 1)
		return nil, err
	}
	return nil, s.explained(ctx, name, err)
}

// explained is fs.ErrorIsFile for an error that says nothing, if it comes of a file
// where a folder would have to be: each kind of server has its own words for that.
func (s *Source) explained(ctx context.Context, name string, err error) error {
	for ctx.Err() == nil && meaning(err) == nil && name != "." && name != "" {
		if _, e := s.find(ctx, name); e == nil {
			return fs.ErrorIsFile
		} else if errors.Is(e, fs.ErrorIsDir) {
			break
		}
		name = path.Dir(name)
	}
	return err
}

// infoOf is of an object, or of a folder, nil.
func (s *Source) infoOf(ctx context.Context, o fs.Object) (gateway.Info, error) {
	if o == nil {
		return gateway.Info{Folder: true}, nil
	}
	return s.info(ctx, o)
}

// An object is what was looked up. Nothing is open between its Ranges.
type object struct {
	s    *Source
	name string
	o    fs.Object
	info gateway.Info
}

func (o *object) Info() gateway.Info { return o.info }

func (o *object) Close() error { return nil }

// Range reads by a goroutine of its own, for few readers of rclone heed a context
// while they wait for octets.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if o.o == nil {
		return nil, wrap(o.s.label, o.name, fmt.Errorf("a folder has no octets: %w", iofs.ErrNotExist))
	}
	under, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	context.AfterFunc(under, func() { _ = in.CloseWithError(under.Err()) }) // never fails
	err := o.s.call(under, func(ctx context.Context) error {
		var options []fs.OpenOption
		if off > 0 || n < o.info.Size {
			options = []fs.OpenOption{&fs.RangeOption{Start: off, End: off + n - 1}}
		}
		r, err := o.o.Open(ctx, options...)
		if err == nil {
			go o.pump(in, r)
		}
		return err
	})
	if err != nil {
		cancel()
		return nil, wrap(o.s.label, o.name, err)
	}
	r := &reader{PipeReader: out, cancel: cancel}
	return gateway.Reader(r, n, func() error { return o.still(under, r) }), nil
}

// pump gives what r has until in is closed, by its other end or by a context.
func (o *object) pump(in *io.PipeWriter, r io.ReadCloser) {
	err := guarded(func() error {
		_, err := io.Copy(in, r)
		return errors.Join(err, r.Close())
	})
	_ = in.CloseWithError(wrap(o.s.label, o.name, err)) // never fails
}

// A reader is the end of the pipe that the caller has.
type reader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *reader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// errMore comes of a backend or server that ignores ranges.
var errMore = errors.New("the remote sent more than it was asked for")

// still is nil if r has ended and the object is as it was when it was opened.
func (o *object) still(ctx context.Context, r io.Reader) error {
	if _, err := io.ReadFull(r, make([]byte, 1)); err == nil {
		return wrap(o.s.label, o.name, errMore)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	var now gateway.Info
	err := o.s.call(ctx, func(ctx context.Context) error {
		f, err := o.s.look(ctx, o.name)
		if err == nil {
			now, err = o.s.infoOf(ctx, f)
		}
		return err
	})
	err = wrap(o.s.label, o.name, err)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return errors.Join(gateway.ErrChanged, err)
	case err != nil:
		return err
	case now.Folder, now.Size != o.info.Size, now.Version != o.info.Version:
		return wrap(o.s.label, o.name, gateway.ErrChanged)
	}
	return nil
}
