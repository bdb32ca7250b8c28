// Package ask puts requests to the handlers of the examples, as clients would.
package ask

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// An Answer is what a handler answered; Cache is its Cache-Status.
type Answer struct {
	Code        int
	Body, Cache string
}

// Site is where the examples are, as Purge and Touch would call it.
const Site = "http://example.org"

// Get asks h for a path of Site. Fields are lines such as "Cookie: a=b".
func Get(h http.Handler, path string, fields ...string) Answer {
	return Send(h, http.MethodGet, path, fields...)
}

// Send asks h by another method.
func Send(h http.Handler, method, path string, fields ...string) Answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(method, path, fields))
	return Answer{w.Code, w.Body.String(), w.Header().Get("Cache-Status")}
}

func request(method, path string, fields []string) *http.Request {
	r := httptest.NewRequest(method, Site+path, nil)
	for _, line := range fields {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// Want fails the test if an answer is not as it should be: cache is part of its
// Cache-Status, and body the whole of it.
func Want(t *testing.T, got Answer, code int, body, cache string) {
	t.Helper()
	if got.Code != code || got.Body != body || !strings.Contains(got.Cache, cache) {
		t.Errorf("got %d %q (%s), want %d %q (… %s …)", got.Code, got.Body, got.Cache, code, body, cache)
	}
}

// Stream asks h for a path and says what arrived when, such as "1s: text". It is for
// tests in a bubble of testing/synctest, where time passes at once.
func Stream(h http.Handler, path string) []string {
	w := &watched{ResponseRecorder: httptest.NewRecorder(), began: time.Now()}
	h.ServeHTTP(w, request(http.MethodGet, path, nil))
	return w.seen
}

// A watched answer remembers when its parts came.
type watched struct {
	*httptest.ResponseRecorder
	began time.Time
	seen  []string
}

func (w *watched) Write(p []byte) (int, error) {
	w.seen = append(w.seen, fmt.Sprintf("%s: %s", time.Since(w.began), p))
	return w.ResponseRecorder.Write(p)
}
