package rclone

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/file"
)

// A failure is an error of rclone, told without secrets.
type failure struct {
	text string
	errs []error // what it is, and where it came from
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.errs }

// secrets are what URLs in errors can have: user information and queries, where
// signatures are.
var secrets = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"@]*@|\?[^\s"]*`)

// wrap says where err happened, and what it is to a Handler.
func wrap(label, name string, err error) error {
	if err == nil {
		return nil
	}
	text := secrets.ReplaceAllString(err.Error(), "$1")
	if name != "" {
		text = fmt.Sprintf("%q: %s", name, text)
	}
	f := &failure{text: label + ": " + text, errs: []error{err}}
	if is := meaning(err); is != nil && !errors.Is(err, is) {
		f.errs = append(f.errs, is)
	}
	return f
}

// ours is the end of a context or of a body: no fault of the storage, whatever it wraps.
type ours struct{ error }

func (o ours) Unwrap() error { return o.error }

// absent are errors for what is not there, or is another kind of thing.
var absent = []error{
	iofs.ErrNotExist, fs.ErrorObjectNotFound, fs.ErrorDirNotFound, fs.ErrorIsDir, fs.ErrorIsFile, fs.ErrorNotAFile,
	fs.ErrorFileNameTooLong, syscall.ENOTDIR, syscall.ENAMETOOLONG,
}

// ofStatus is what a status of HTTP comes to. Only backends by the AWS library tell it.
func ofStatus(status int) error {
	switch {
	case status == http.StatusNotFound:
		return iofs.ErrNotExist
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return iofs.ErrPermission
	case status == http.StatusInsufficientStorage:
		return gateway.ErrFull
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return gateway.ErrUnavailable
	}
	return nil
}

// outages are what errors say that cannot be told otherwise; rclone has such a list too.
var outages = []string{
	"connection lost", "connection reset", "connection refused", "connection closed",
	"broken pipe", "too many connections",
}

// says tells whether err says one of phrases.
func says(err error, phrases []string) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(text, p) })
}

// meaning is the error of the contract that err comes to, nil if there is none. What
// rclone would try again is unavailable.
func meaning(err error) error {
	if err == nil {
		return nil
	}
	var fault ours
	if errors.As(err, &fault) || errors.Is(err, context.Canceled) {
		return nil
	}
	for _, e := range absent {
		if errors.Is(err, e) {
			return iofs.ErrNotExist
		}
	}
	if errors.Is(err, gateway.ErrUnavailable) {
		return gateway.ErrUnavailable
	}
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		if is := ofStatus(answer.HTTPStatusCode()); is != nil {
			return is
		}
	}
	var network net.Error
	switch {
	case errors.Is(err, iofs.ErrPermission), errors.Is(err, fs.ErrorPermissionDenied):
		return iofs.ErrPermission
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, file.ErrDiskFull):
		return gateway.ErrFull
	case fserrors.IsRetryError(err), fserrors.IsRetryAfterError(err), fserrors.ShouldRetry(err), errors.As(err, &network), says(err, outages):
		return gateway.ErrUnavailable
	}
	return nil
}
