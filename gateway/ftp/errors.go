package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/textproto"
	"strings"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
)

// code is what the server said, 0 if err is none of the server's.
func code(err error) int {
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		return e.Code
	}
	return 0
}

// unknown tells whether the server does not know the command, or does not want to.
func unknown(err error) bool {
	switch code(err) {
	case ftp.StatusBadCommand, ftp.StatusNotImplemented, ftp.StatusNotImplementedParameter:
		return true
	}
	return false
}

// meaning wraps err in what the gateway knows, where it can be told. Whatever is no
// answer of the server is a broken connection.
func meaning(err error) error {
	if settled(err) || errors.As(err, new(*tls.CertificateVerificationError)) {
		return err
	}
	kind := gateway.ErrUnavailable
	switch n := code(err); {
	case n == ftp.StatusFileUnavailable:
		kind = fs.ErrNotExist
		// The number is the same for both.
		for _, word := range []string{"permission", "denied", "not allowed", "forbidden"} {
			if strings.Contains(strings.ToLower(err.Error()), word) {
				kind = fs.ErrPermission
			}
		}
	case n == ftp.StatusNotLoggedIn, n == ftp.StatusStorNeedAccount, n == ftp.StatusBadFileName:
		kind = fs.ErrPermission
	case n == ftp.StatusExceededStorage, n == ftp.Status452:
		kind = gateway.ErrFull
	case n >= 500:
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// denied is what a refusal to change something means: that it is there is known.
func denied(err error) error {
	if code(err) == ftp.StatusFileUnavailable {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}

// settled tells whether err says already what it means.
func settled(err error) bool {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, fs.ErrNotExist, fs.ErrPermission, fs.ErrClosed,
		gateway.ErrChanged, gateway.ErrConflict, gateway.ErrFull, gateway.ErrUnavailable, errBody,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// fatal tells whether a connection is of no use after err: it is no answer, or one to something
// else, or a farewell.
func fatal(err error) bool {
	if n := code(err); n != 0 {
		return n < 400 || n == ftp.StatusNotAvailable
	}
	return err != nil && !settled(err)
}
