//go:build !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package vfs

import (
	"errors"
	"os"
)

func flock(*os.File) error { return errors.ErrUnsupported }
