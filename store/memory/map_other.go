//go:build !linux

package memory

import (
	"errors"
	"os"
)

// mappable says whether this platform can keep memory outside the Go heap.
func mappable() bool { return false }

func reserve(int64) ([]byte, error) { return nil, errors.ErrUnsupported }

func reserveFile(int64) ([]byte, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func discard([]byte, bool) {}

func unmap([]byte) {}
