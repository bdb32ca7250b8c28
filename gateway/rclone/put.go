package rclone

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
	static "github.com/rclone/rclone/fs/object"
)

// Put uploads under a hidden name beside the object and renames where uploads can be
// seen half done, and directly where the storage lets nobody see one. A remote that
// cannot rename over an object has none of that name for a moment, and one that
// cannot rename is fs.ErrPermission. If renaming breaks, Put looks what is there, and gives
// the name to the new object or back to the old one, for a minute at most and
// whether or not ctx ended; if neither goes, both stay under hidden names that the error tells.
//
// A body of unknown size is read to its end before the upload if it ends within 64 KiB,
// and goes by way of a file in os.TempDir where the backend must know the size: all those
// of a Source have 5 GiB there, and what needs more is gateway.ErrFull. The
// condition is looked at before the upload, and again before renaming; another writer can
// still come between. Fields are kept by storage of buckets, Content-Type by others too.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (gateway.Info, error) {
	if err := errors.Join(s.check(name), noRoot(name)); err != nil {
		return gateway.Info{}, err
	}
	from := lend(ctx, body, size)
	defer from.takeBack()
	var info gateway.Info
	err := s.call(ctx, func(ctx context.Context) error {
		if _, err := s.holds(ctx, name, only); err != nil {
			return err
		}
		body, err := s.measured(from)
		if err != nil {
			return err
		}
		defer body.Close() // what was read
		put := s.direct
		if s.staged {
			put = s.stage
		}
		o, err := put(ctx, name, body, fields, only)
		if err != nil {
			return err
		}
		// It is written, even if nothing can be told of it.
		return guarded(func() error {
			if i, err := s.info(ctx, o); err == nil {
				info = i
			}
			return nil
		})
	})
	if err != nil {
		return gateway.Info{}, wrap(s.label, name, err)
	}
	return info, nil
}

func noRoot(name string) error {
	if name == "" {
		return errRoot
	}
	return nil
}

// holds looks whether a condition does; the object, if there is one, is what it
// looked at. A folder of that name is in the way.
func (s *Source) holds(ctx context.Context, name string, only gateway.If) (fs.Object, error) {
	if s.flat && only == (gateway.If{}) {
		return nil, nil // no folder can be in the way
	}
	o, err := s.look(ctx, name)
	switch {
	case err != nil && !errors.Is(meaning(err), iofs.ErrNotExist):
		return nil, err
	case err != nil && only.Version != "":
		return nil, gateway.ErrConflict
	case err != nil:
		return nil, nil
	case o == nil:
		return nil, errFolder
	}
	return o, s.matches(ctx, o, only)
}

// matches is nil if a condition holds for an object that is there.
func (s *Source) matches(ctx context.Context, o fs.Object, only gateway.If) error {
	if only.Absent {
		return gateway.ErrConflict
	}
	if only.Version == "" {
		return nil
	}
	i, err := s.info(ctx, o)
	if err == nil && i.Version != only.Version {
		err = gateway.ErrConflict
	}
	return err
}

var errFolder = fmt.Errorf("it is a folder: %w", iofs.ErrPermission)

// direct uploads what appears whole or not at all.
func (s *Source) direct(ctx context.Context, name string, body *measured, fields http.Header, _ gateway.If) (fs.Object, error) {
	src := static.NewStaticObjectInfo(name, s.now(), body.size, true, nil, s.f).WithMimeType(fields.Get("Content-Type"))
	var options []fs.OpenOption
	if s.f.Features().BucketBased { // to others it is a field of a request, not of the object
		for name := range fields {
			options = append(options, &fs.HTTPOption{Key: name, Value: fields.Get(name)})
		}
	}
	if body.size == 0 {
		_, _ = body.Read(nil) // no backend might; the body remembers its error
	}
	put := s.f.Put
	if body.size < 0 {
		put = s.f.Features().PutStream
	}
	o, err := made(func() (fs.Object, error) { return put(ctx, body, src, options...) })
	if broken := body.from.broken(); broken != nil {
		return nil, broken // not all backends pass it on
	}
	return o, err
}

// stage uploads under another name and renames.
func (s *Source) stage(ctx context.Context, name string, body *measured, fields http.Header, only gateway.If) (fs.Object, error) {
	if s.f.Features().Move == nil {
		return nil, errRename
	}
	temporary := gateway.NewDraft(name)
	o, err := s.direct(ctx, temporary, body, fields, only)
	var old fs.Object
	if err == nil {
		old, err = s.holds(ctx, name, only)
	}
	if err != nil {
		after, cancel := alone(ctx)
		defer cancel()
		return nil, s.swept(after, err, temporary)
	}
	return s.replace(ctx, o, temporary, name, old)
}

var errRename = fmt.Errorf("the remote cannot rename, and half an upload can be seen: %w", iofs.ErrPermission)

// Delete looks an object up and removes it. Another writer can come between.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	if err := errors.Join(s.check(name), noRoot(name)); err != nil {
		return err
	}
	err := s.call(ctx, func(ctx context.Context) error {
		o, err := s.look(ctx, name)
		switch {
		case err != nil:
			return err
		case o == nil:
			return errFolder
		}
		if err := s.matches(ctx, o, only); err != nil {
			return err
		}
		return o.Remove(ctx)
	})
	return wrap(s.label, name, err)
}
