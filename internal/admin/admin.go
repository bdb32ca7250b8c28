// Package admin is the door for those who run the program: what operators want and
// storage tells, apart from what clients ask. Both ends of it are here.
package admin

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/larderhq/larder/gateway"
)

// Options are what an API is made of.
type Options struct {
	// Token is what a request has to know (Authorization: Bearer, RFC 6750). Empty:
	// whoever reaches the listener may ask, which is right for a socket in the
	// file system, and where clients have shown a certificate, alone.
	Token string

	// Host is the name under which the listener may be asked for besides the addresses of the
	// machine: a page whose name leads here by a trick of its DNS may not. Without Token any
	// name without a dot will do, for a socket has none. By https any name will do.
	Host string

	// Purges is asked about purges. Nil: there are none.
	Purges Purges

	// Events reads a notification of the storage. Nil: there are none.
	Events func(body []byte) ([]gateway.Change, error)

	// Changed is told of each change, before the notification is answered.
	Changed func(gateway.Change)

	// Refused, where set, is told whose request was refused, and why.
	Refused func(who, why string)
}

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
			o.refused(r, err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, err)
			return
		}
		_, pattern := mux.Handler(r)
		switch {
		case pattern == "" || path.Clean(r.URL.Path) != r.URL.Path:
			nowhere(w, r, mux)
		case r.URL.RawQuery != "" && pattern != waiting:
			fail(w, http.StatusBadRequest, fmt.Errorf("%s takes nothing behind a question mark", r.URL.Path))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// waiting is the route that takes a query.
const waiting = "GET /v1/purges/{id}"

// routes are all there is, by method and path.
func (o *Options) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/purge":              o.purge,
		"POST /v1/preview":            o.preview,
		"GET /v1/purges":              o.list,
		waiting:                       o.receipt,
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

// nowhere answers a request for what there is not.
func nowhere(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := r.WithContext(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" && path.Clean(r.URL.Path) == r.URL.Path {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		fail(w, http.StatusNotFound, errors.New("there is no such path: GET /v1/openapi.json tells what there is"))
		return
	}
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is not for this path: ask by %s", r.Method, allowed))
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
	if !typed(w, r) {
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	tooLong := (*http.MaxBytesError)(nil)
	switch {
	case errors.As(err, &tooLong):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the request has more than %d octets: name less at a time", maxBody))
	case err != nil:
		fail(w, http.StatusBadRequest, fmt.Errorf("the request cannot be read: %w", err))
	case len(body) == 0:
		fail(w, http.StatusBadRequest, errors.New("the request has no body: send JSON"))
	case !utf8.Valid(body): // what cannot be read would be replaced, and something else be named
		fail(w, http.StatusBadRequest, errors.New("the request is not UTF-8: in URLs write other octets as %E9"))
	default:
		return body, true
	}
	return nil, false
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
		o.refused(r, err)
		fail(w, http.StatusBadRequest, fmt.Errorf("this is no notification: %w", err))
		return
	}
	for _, c := range changes {
		o.Changed(c)
	}
	answer(w, http.StatusOK, "application/json", map[string]int{"changes": len(changes)})
}
