// Package admin is the door for those who run the program: what storage and operators
// tell it, apart from what clients ask.
package admin

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/larderhq/larder/gateway"
)

// Options are what an API is made of.
type Options struct {
	// Token is what a request has to know (Authorization: Bearer, RFC 6750). Empty:
	// whoever reaches the listener may ask, which is right for a socket in the
	// file system alone.
	Token string

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

// Handler returns the API: POST /v1/events takes a notification of changes in the
// storage.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", o.events)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := o.admit(r); err != nil {
			o.refused(err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
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
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(strings.TrimSpace(token)), []byte(o.Token)) != 1 {
		return errors.New("the token is missing or wrong: send Authorization: Bearer TOKEN")
	}
	return nil
}

func (o *Options) refused(why error) {
	if o.Refused != nil {
		o.Refused(why.Error())
	}
}

// events takes a notification.
func (o *Options) events(w http.ResponseWriter, r *http.Request) {
	if o.Events == nil {
		http.Error(w, "what is served here is told of changes in another way", http.StatusNotFound)
		return
	}
	// What else there is a page of another site can have a browser send.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "send JSON, as application/json", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, fmt.Sprintf("the notification cannot be read: %v", err), status)
		return
	}
	changes, err := o.Events(body)
	if err != nil {
		o.refused(err)
		http.Error(w, fmt.Sprintf("this is no notification: %v", err), http.StatusBadRequest)
		return
	}
	for _, c := range changes {
		o.Changed(c)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int{"changes": len(changes)}) // the client has gone
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
