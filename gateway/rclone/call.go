package rclone

import (
	"context"
	"fmt"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// guarded runs f, which calls code of others: its panic is an error and not the end of
// the process.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("rclone panicked: %v: %w", p, gateway.ErrUnavailable)
		}
	}()
	return f()
}

var errNothing = fmt.Errorf("rclone gave neither an object nor an error: %w", gateway.ErrUnavailable)

// made is guarded for what makes an object.
func made(f func() (fs.Object, error)) (o fs.Object, err error) {
	err = guarded(func() (err error) {
		if o, err = f(); err == nil && o == nil {
			err = errNothing
		}
		return err
	})
	return o, err
}

// find is made for an object that is there.
func (s *Source) find(ctx context.Context, name string) (fs.Object, error) {
	return made(func() (fs.Object, error) { return s.f.NewObject(ctx, name) })
}

// move is made for an object that gets another name.
func (s *Source) move(ctx context.Context, o fs.Object, name string) (fs.Object, error) {
	return made(func() (fs.Object, error) { return s.f.Features().Move(ctx, o, name) })
}

// call runs f with rclone's configuration. When ctx ends before f, which not all of
// rclone heeds, f is left to itself, and what it writes to nobody may read.
func (s *Source) call(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return ours{err}
	}
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return ours{ctx.Err()}
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-s.calls }()
		done <- guarded(func() error { return f(fs.CopyConfig(ctx, s.config)) })
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ours{ctx.Err()}
	}
}

// wait returns when no call runs, or when patience ends.
func (s *Source) wait() {
	late := time.After(patience)
	for range cap(s.calls) {
		select {
		case s.calls <- struct{}{}:
			defer func() { <-s.calls }()
		case <-late:
			return
		}
	}
}
