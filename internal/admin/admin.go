// Package admin is the door for those who run the program: what operators want and
// storage tells, apart from what clients ask. Both ends of it are here.
package admin

import (
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/larderhq/larder/gateway"
)

// Options are what an API is made of.
type Options struct {
	// Token is what a request has to know (Authorization: Bearer, RFC 6750). Empty:
	// whoever reaches the listener may ask, which is right for a socket in the
	// file system alone.
	Token string

	// Host is the name under which the listener may be asked for besides the addresses of the
	// machine: a page whose name leads here by a trick of its DNS may not. Unused without
	// Token.
	Host string

	// Purges is asked about purges. Nil: there are none.
	Purges Purges

	// Events reads a notification of the storage. Nil: there are none.
	Events func(body []byte) ([]gateway.Change, error)

	// Changed is told of each change, before the notification is answered.
	Changed func(gateway.Change)

	// Refused, where set, is told why a request was refused.
	Refused func(why string)
}

// leastToken is how many characters a token has at least.
const leastToken = 16

// maxBody is how long a request may be, in octets.
const maxBody = 1 << 20

//go:embed openapi.json
var openAPI []byte

// Handler returns the API that openapi.json describes.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range o.routes() {
		mux.HandleFunc(pattern, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := o.admit(r); err != nil {
			o.refused(err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// routes are all there is, by method and path.
func (o *Options) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/purge":              o.purge,
		"POST /v1/preview":            o.preview,
		"GET /v1/purges":              o.list,
		"GET /v1/purges/{id}":         o.receipt,
		"DELETE /v1/purges/{id}":      o.cancel,
		"POST /v1/purges/{id}/undo":   o.undo,
		"POST /v1/purges/{id}/repeat": o.repeat,
		"POST /v1/events":             o.events,
		"GET /v1/openapi.json":        describe,
	}
}

func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // the client has gone
}

// admit tells who may ask. A browser may not, whatever it knows: a page of another site
// could have it ask.
func (o *Options) admit(r *http.Request) error {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return errors.New("browsers have no business here")
	}
	if o.Token == "" {
		return nil
	}
	if !o.local(r.Host) {
		return fmt.Errorf("the host asked for is neither an address nor localhost nor the name given to --admin: ask by one of those")
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(strings.TrimSpace(token)), []byte(o.Token)) != 1 {
		return errors.New("the token is missing or wrong: send Authorization: Bearer TOKEN")
	}
	return nil
}

// local tells whether a Host is none that a stranger's DNS could have led here.
func (o *Options) local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost") || o.Host != "" && strings.EqualFold(host, o.Host)
}

func (o *Options) refused(why error) {
	if o.Refused != nil {
		o.Refused(why.Error())
	}
}

// A Problem is what an answer of the API says that is no success (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// fail answers with what went wrong.
func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, "application/problem+json", Problem{http.StatusText(status), status, err.Error()})
}

func answer(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the client has gone
}

// read returns the JSON that a request brings, or answers it.
func (o *Options) read(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	// What else there is a page of another site can have a browser send.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, errors.New("send JSON, as application/json"))
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		fail(w, status, fmt.Errorf("the request cannot be read: %w", err))
		return nil, false
	}
	return body, true
}

// events takes a notification.
func (o *Options) events(w http.ResponseWriter, r *http.Request) {
	if o.Events == nil {
		fail(w, http.StatusNotFound, errors.New("what is served here is told of changes in another way"))
		return
	}
	body, ok := o.read(w, r)
	if !ok {
		return
	}
	changes, err := o.Events(body)
	if err != nil {
		o.refused(err)
		fail(w, http.StatusBadRequest, fmt.Errorf("this is no notification: %w", err))
		return
	}
	for _, c := range changes {
		o.Changed(c)
	}
	answer(w, http.StatusOK, "application/json", map[string]int{"changes": len(changes)})
}

// Listen listens at the path of a socket, which only this user may use, or at
// host:port, for which there has to be a token.
func Listen(where, token string) (net.Listener, error) {
	if !strings.Contains(where, "/") {
		if len(token) < leastToken {
			return nil, fmt.Errorf("over TCP the admin API needs a token: put a random word of %d characters or more into LARDER_ADMIN_TOKEN, as from openssl rand -hex 16", leastToken)
		}
		return net.Listen("tcp", where)
	}
	return listenPrivately(where)
}
