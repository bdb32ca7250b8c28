//go:build !linux && !darwin && !dragonfly && !freebsd

package vfs

import (
	"errors"
	"os"
)

func free(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
