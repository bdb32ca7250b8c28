package s3

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

var (
	errNoBucket = errors.New("the bucket does not exist; create it, or correct its name, the endpoint or the region")
	errTooLong  = errors.New("the answer is longer than any that is right")

	codes = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// maxRefusal is how many octets of an error are read.
const maxRefusal = 64 << 10

// A refusal is an answer that is not what was asked for.
type refusal struct {
	status int
	code   string // of the protocol, may be empty: HEAD has none
	region string // of the bucket, if the server told
	kind   error  // may be nil
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("status %d", r.status)
	if r.code != "" {
		text += " " + r.code
	}
	if r.region != "" {
		text += " (its region is " + r.region + ")"
	}
	if r.kind != nil {
		text += ": " + r.kind.Error()
	}
	return text
}

func (r *refusal) Unwrap() error { return r.kind }

// refusal reads what the server says; its text is not passed on, for it may quote
// the request. A precondition that failed is ErrConflict.
func (s *Source) refusal(resp *http.Response) error {
	r := &refusal{status: resp.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // half a text has no code
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Region  string
	}
	if xml.Unmarshal(text, &said) == nil && codes.MatchString(said.Code) {
		r.code = said.Code
	}
	for _, region := range []string{resp.Header.Get("X-Amz-Bucket-Region"), said.Region} {
		if p := s.place.Load(); regions.MatchString(region) && p != nil && p.region != region {
			r.region = region
		}
	}
	r.kind = kind(r.status, r.code)
	if stale(resp, r.code) && s.keys.forget() {
		r.kind = gateway.ErrUnavailable // until others are found
	}
	if r.code == "NoSuchKey" || errors.Is(r.kind, gateway.ErrConflict) {
		s.exists.Store(true)
	}
	return r
}

// stale tells whether a refusal may be of credentials that were good before. HEAD
// has no code; of what has, 400 is rarely of anything else.
func stale(resp *http.Response, code string) bool {
	switch code {
	case "ExpiredToken", "InvalidToken", "InvalidAccessKeyId":
		return true
	case "":
		return resp.StatusCode == http.StatusBadRequest && resp.Request.Method == http.MethodHead
	}
	return false
}

// kind is what a Handler should make of a refusal: nil for nothing it knows.
func kind(status int, code string) error {
	switch code {
	case "NoSuchBucket":
		return errNoBucket
	case "NoSuchUpload":
		return gateway.ErrUnavailable // somebody cleaned up
	case "KeyTooLongError":
		return fs.ErrNotExist
	case "ExpiredToken", "InvalidToken":
		return fs.ErrPermission // of status 400
	case "SlowDown", "RequestTimeout", "OperationAborted", "InternalError", "ServiceUnavailable":
		return gateway.ErrUnavailable // of status 400 and 409, too
	case "ConditionalRequestConflict", "PreconditionFailed":
		return gateway.ErrConflict
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded":
		return gateway.ErrFull
	}
	switch status {
	case http.StatusNotFound:
		return fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return fs.ErrPermission
	case http.StatusPreconditionFailed:
		return gateway.ErrConflict
	case http.StatusInsufficientStorage:
		return gateway.ErrFull
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return nil // another try finds the same
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return gateway.ErrUnavailable
	}
	if status >= http.StatusInternalServerError { // also 520 and the like, of proxies
		return gateway.ErrUnavailable
	}
	return nil
}

// unreachable is for what goes wrong with a connection.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = inner(err)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // no reader may take it for the end
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || errors.Is(err, conduit.ErrLonger) {
		return err // another try finds the same
	}
	return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
}

// inner is an error without the URL, which says nothing that wrap does not.
func inner(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
