package rclone

import (
	"context"
	"time"

	"github.com/rclone/rclone/fs"
)

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
		done <- f(fs.CopyConfig(ctx, s.config))
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
