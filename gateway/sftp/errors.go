package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
)

// Status codes that version 3 has no names for, but servers send.
const (
	connectionLost = 7
	writeProtected = 12
	noSpace        = 14
	quotaExceeded  = 15
)

// meaning wraps err in what the gateway knows, where it can be told. Whatever is no
// answer of the server is a broken connection.
func meaning(err error) error {
	var status *sftp.StatusError
	switch {
	case settled(err), errors.As(err, new(*hostKeyError)):
		return err
	case errors.As(err, &status):
		switch status.Code {
		case noSpace, quotaExceeded:
			return fmt.Errorf("%w: %w", gateway.ErrFull, err)
		case writeProtected:
			return fmt.Errorf("%w: %w", fs.ErrPermission, err)
		case connectionLost - 1, connectionLost:
			return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
		}
		return err
	}
	return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
}

// settled tells whether err says already what it means.
func settled(err error) bool {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, fs.ErrNotExist, fs.ErrPermission,
		gateway.ErrChanged, gateway.ErrConflict, gateway.ErrFull, gateway.ErrUnavailable, errBody,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// fatal tells whether a connection is of no use after err: it is no answer, or none
// that the protocol allows.
func fatal(err error) bool {
	return err != nil && !settled(err) && !errors.As(err, new(*sftp.StatusError)) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrClosed)
}
