package conduit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/larderhq/larder/gateway"
)

// Transport keeps connections. It bounds those that are idle, and not those in use: a
// reader may need a second one for its last look while its first is busy, and were there
// a bound, many readers could wait for one another.
func Transport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        60 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
}

// Unavailable says that a request, or reading its answer, failed; unless the caller had
// enough of it, or another try finds the same.
func Unavailable(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrLonger) || errors.As(err, &untrusted) {
		return err
	}
	return fmt.Errorf("%w: %w", gateway.ErrUnavailable, err)
}
