package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// downloads gets sources from the web.
type downloads struct {
	client    http.Client
	userAgent string
}

// maxRedirects is how often a source may say that it is elsewhere.
const maxRedirects = 5

func newDownloads(timeout time.Duration, userAgent string) *downloads {
	own := http.DefaultTransport.(*http.Transport).Clone() // so that close ends no others' connections
	return &downloads{http.Client{Transport: own, Timeout: timeout, CheckRedirect: stay}, userAgent}
}

// stay follows redirects within a host, as from http to https. Whoever answers may
// not send us where it cannot go itself.
func stay(r *http.Request, via []*http.Request) error {
	switch {
	case !sameHost(via[0].URL, r.URL):
		return fmt.Errorf("it redirects to another host: name %s, if that is meant", r.URL.Redacted())
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// get returns the body of u, which the caller closes.
func (d *downloads) get(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if d.userAgent != "" {
		r.Header.Set("User-Agent", d.userAgent)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return nil, plain(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("it answers %s", status(resp.StatusCode))
	}
	return resp.Body, nil
}

func (d *downloads) close() { d.client.CloseIdleConnections() }

// plain is err in words for people: a URL is named where it is told, and a
// deadline is one.
func plain(err error) error {
	var e *url.Error
	var slow interface{ Timeout() bool }
	switch {
	case errors.As(err, &slow) && slow.Timeout():
		return errors.New("it takes too long: give it more time")
	case errors.As(err, &e):
		return e.Err
	}
	return err
}

func status(code int) string {
	if text := http.StatusText(code); text != "" {
		return fmt.Sprintf("%d %s", code, text)
	}
	return fmt.Sprint(code)
}
