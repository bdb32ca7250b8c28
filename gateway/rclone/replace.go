package rclone

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// alone is for what has to be brought to its end, whether or not anybody waits for it.
func alone(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

// replace renames o, called temporary, over old if the remote can, else by moving old
// aside; but not when it does not answer, for then old might not come back.
func (s *Source) replace(ctx context.Context, o fs.Object, temporary, name string, old fs.Object) (fs.Object, error) {
	moved, err := s.move(ctx, o, name)
	if err == nil {
		return moved, nil
	}
	if old == nil {
		return s.settle(ctx, err, name, temporary, "")
	}
	aside := gateway.NewDraft(name)
	if ctx.Err() != nil || errors.Is(meaning(err), gateway.ErrUnavailable) {
		return s.settle(ctx, err, name, temporary, aside)
	}
	after, cancel := alone(ctx) // from here on there may be no object of that name
	defer cancel()
	_, failed := s.move(after, old, aside)
	if failed == nil {
		moved, failed = s.move(after, o, name)
	}
	if failed != nil {
		return s.settle(ctx, fmt.Errorf("%w; then %w", err, failed), name, temporary, aside)
	}
	_ = s.swept(after, nil, aside) // what stays is shown to nobody
	return moved, nil
}

// settle finds out what is called name after renaming failed, for it may have been done
// all the same; err is why. If there is nothing, the new object gets that name, or else
// the old one, called aside; "" if there was none. Nothing is removed as long as
// there may be none of that name.
func (s *Source) settle(ctx context.Context, err error, name, temporary, aside string) (fs.Object, error) {
	ctx, cancel := alone(ctx)
	defer cancel()
	done := false
	o, failed := s.find(ctx, name)
	if failed == nil {
		_, gone := s.find(ctx, temporary)
		done = none(gone)
	} else if none(failed) && aside != "" {
		o, failed = s.rename(ctx, temporary, name)
		if done = failed == nil; !done {
			_, failed = s.rename(ctx, aside, name)
		}
	}
	switch {
	case failed != nil && aside != "":
		return nil, fmt.Errorf("%w; what is there may be called %q or %q now: %v", err, aside, temporary, failed)
	case !done:
		return nil, s.swept(ctx, err, temporary, aside)
	}
	_ = s.swept(ctx, nil, aside) // what stays is shown to nobody
	return o, nil
}

// none tells whether err says that there is no such object.
func none(err error) bool { return errors.Is(meaning(err), iofs.ErrNotExist) }

func (s *Source) rename(ctx context.Context, from, to string) (fs.Object, error) {
	o, err := s.find(ctx, from)
	if err != nil {
		return nil, err
	}
	return s.move(ctx, o, to)
}

// swept removes temporary objects, and is err, which says so if one stays.
func (s *Source) swept(ctx context.Context, err error, names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		o, missing := s.find(ctx, name)
		if missing != nil {
			continue // there is nothing, or it cannot be had
		}
		if stays := guarded(func() error { return o.Remove(ctx) }); stays != nil && err != nil {
			err = fmt.Errorf("%w; and %q stays: %v", err, name, stays)
		}
	}
	return err
}
