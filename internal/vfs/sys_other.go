//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// fallocate is Linux's alone.
func fallocate(*os.File, int64) error { return errors.ErrUnsupported }

func datasync(f *os.File) error { return f.Sync() }
