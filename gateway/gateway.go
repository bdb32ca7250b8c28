// Package gateway makes a storage system an HTTP origin that caches can rely
// on: validators that are true, ranges, and no octet of two versions in one
// answer.
//
// A Source is a kind of storage; the packages below this one have some. New makes
// a Handler of one:
//
//	import (
//		"github.com/larderhq/larder/gateway"
//		"github.com/larderhq/larder/gateway/file"
//	)
//
//	source, err := file.Open("/srv/files")
//	if err != nil {
//		log.Fatal(err)
//	}
//	h := gateway.New(source, gateway.Options{Default: time.Minute, Precompressed: gateway.Codings()})
//	defer h.Close()
//	log.Fatal(http.ListenAndServe("127.0.0.1:8000", h))
package gateway

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// Options says how a Source is served. The zero value shows no listings, serves no
// dotfiles and lets nobody write. Set Default, or caches guess how long answers are fresh.
type Options struct {
	// Listing shows what is in a folder without an index, at most 10 000
	// entries, as HTML or, where Accept prefers it, JSON. False: such a folder is not found.
	Listing bool

	// Dotfiles serves names with segments that begin with a dot. False: they do
	// not exist, except below /.well-known (RFC 8615).
	Dotfiles bool

	// Fresh are lifetimes by name; the first Rule that matches counts. A rule
	// goes before what the storage keeps as Cache-Control, and that before
	// Default.
	Fresh []Rule

	// Default is how long caches may use an answer without asking again, in whole
	// seconds; not found is told for 5 s at most. Zero: no Cache-Control is sent,
	// and caches guess from Last-Modified (RFC 9111 §4.2.2). Negative: no-cache.
	Default time.Duration

	// Precompressed are the codings of which finished copies are looked for
	// beside an object, among "br", "zstd" and "gzip", the preferred first: NAME.br,
	// NAME.zst, NAME.gz, if no older than NAME, and if the storage or the end of
	// NAME tells its type. Nil: none. Each costs a look, which for remote storage
	// is a round trip.
	Precompressed []string

	// Download are patterns as in Rule; what they match is offered for saving
	// (Content-Disposition: attachment, RFC 6266), under its own name.
	Download []string

	// Write opens PUT and DELETE, if the Source is a Writer, to whoever can ask.
	Write bool

	// Patience bounds what remote storage is asked. The zero value has defaults.
	Patience Patience

	// Wrote, where set, is told of each change made through the Handler, before
	// its client is.
	Wrote func(Change)

	// Failed, where set, is told of each fault of the storage that a client
	// is answered 500 or above for, or has its answer broken off for. It is called by many goroutines.
	// Nil: nobody is told, for clients are not either.
	Failed func(r *http.Request, err error)
}

// A Rule gives what its pattern matches a lifetime.
type Rule struct {
	// Pattern is a glob. Without a slash it is for the last segment of a name: *.css.
	// With one it is for the whole: assets/**, where ** stands for any number of
	// segments. See ValidPattern.
	Pattern string
	// For is the lifetime, in whole seconds. Zero or negative: no-cache, every use is
	// validated.
	For time.Duration
}

// ValidPattern tells whether a pattern can be one.
func ValidPattern(pattern string) bool {
	return pattern != "" && doublestar.ValidatePattern(strings.TrimPrefix(pattern, "/"))
}

// matches tells whether name is of a pattern. A pattern that is none matches nothing.
func matches(pattern, name string) bool {
	if !strings.Contains(pattern, "/") {
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	return doublestar.MatchUnvalidated(strings.TrimPrefix(pattern, "/"), name)
}

// New returns a Handler for src, which it takes over. It asks src for nothing yet.
func New(src Source, o Options) *Handler {
	traits := src.Traits()
	h := &Handler{src: src, opt: o, traits: traits, allowed: "GET, HEAD, OPTIONS"}
	if w, ok := src.(Writer); ok && o.Write {
		h.writer, h.allowed = w, "GET, HEAD, PUT, DELETE, OPTIONS"
	}
	if traits.Remote {
		h.ask = newAsking(o.Patience)
	}
	return h
}

// A Handler answers GET, HEAD and OPTIONS from a Source, and PUT and DELETE where
// Options.Write. It must come from New. Any number of goroutines may use it.
//
// Each object has one path: "." and ".." and an escaped slash are not found or
// refused, never resolved, and so are empty segments and backslashes where the
// storage has folders. Queries mean nothing.
//
// An object that changes while it is read aborts the answer by
// http.ErrAbortHandler, so that no answer that ends well is of two versions.
type Handler struct {
	src     Source
	writer  Writer // nil: read-only
	opt     Options
	traits  Traits
	allowed string
	ask     *asking // nil: storage of this machine
}

// Close closes the Source. Requests after it fail with 500.
func (h *Handler) Close() error { return h.src.Close() }

// CanWrite tells whether a Source can be written to at all.
func CanWrite(src Source) bool {
	_, ok := src.(Writer)
	return ok
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Handler: h, w: w, r: r}
	x.begin()
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", h.allowed)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writes := h.writer != nil && (r.Method == http.MethodPut || r.Method == http.MethodDelete)
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !writes {
		w.Header().Set("Allow", h.allowed)
		x.refuse(http.StatusMethodNotAllowed, "Allow says what can be done here")
		return
	}
	name, folder, status := h.locate(r.URL)
	if status != 0 {
		why := "no object can have this path"
		if status == http.StatusNotFound {
			_, why = statusOf(fs.ErrNotExist)
		}
		x.refuse(status, why)
		return
	}
	switch {
	case writes && folder:
		x.refuse(http.StatusConflict, aFolder)
	case r.Method == http.MethodPut:
		x.put(name)
	case r.Method == http.MethodDelete:
		x.remove(name)
	case folder:
		x.folder(name)
	default:
		x.object(name)
	}
}

// An exchange is one request and its answer.
type exchange struct {
	*Handler
	w http.ResponseWriter
	r *http.Request
}

// begin sets what each answer has.
func (x *exchange) begin() { x.w.Header().Set("X-Content-Type-Options", "nosniff") }

// refuse answers with a status and says why.
func (x *exchange) refuse(status int, why string) {
	switch {
	case status >= http.StatusInternalServerError:
		x.w.Header().Set("Cache-Control", "no-store")
	case status == http.StatusNotFound:
		x.forAWhile()
	}
	http.Error(x.w, http.StatusText(status)+": "+why, status)
}

// brief is how long an answer is fresh at most that may soon be another.
const brief = 5 * time.Second

// forAWhile lets caches remember what is not there, shortly: it may come.
func (x *exchange) forAWhile() {
	x.w.Header().Del("Cache-Control")
	if d := min(x.opt.Default, brief); d != 0 {
		x.w.Header().Set("Cache-Control", maxAge(d))
	}
}

// fail answers for an error, and tells those who run the storage of its faults.
func (x *exchange) fail(err error) {
	status, why := statusOf(err)
	if status == http.StatusServiceUnavailable {
		x.w.Header().Set("Retry-After", "1")
	}
	if status >= http.StatusInternalServerError {
		x.told(err)
	}
	x.refuse(status, why)
}

func (x *exchange) told(err error) {
	if x.opt.Failed != nil && x.r.Context().Err() == nil {
		x.opt.Failed(x.r, err)
	}
}

// startOver answers for an error in place of what was begun, of which nothing was sent.
func (x *exchange) startOver(err error) {
	clear(x.w.Header())
	x.begin()
	x.fail(err)
}

// abort breaks the answer off: what was sent is not whole.
func (x *exchange) abort(err error) {
	x.told(err)
	panic(http.ErrAbortHandler)
}

// statusOf tells absence, which may be remembered, from trouble, which may not.
func statusOf(err error) (status int, why string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound, "there is nothing of this name"
	case errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden, "the storage does not allow it"
	case errors.Is(err, ErrConflict):
		return http.StatusPreconditionFailed, "the object is not as the request's conditions say"
	case errors.Is(err, ErrFull):
		return http.StatusInsufficientStorage, "the storage has no room"
	case errors.Is(err, errors.ErrUnsupported):
		return http.StatusNotImplemented, "the storage has it in a form that cannot be read"
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, "the storage did not answer in time"
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrChanged), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "the storage cannot be had at the moment"
	}
	return http.StatusInternalServerError, "the storage failed"
}

// fresh gives an answer about name its lifetime.
func (x *exchange) fresh(name string, i *Info) {
	head := x.w.Header()
	most := func(d time.Duration) time.Duration {
		if !i.Certain && !i.Unchanged {
			return min(d, brief) // it has no validator yet, and soon will
		}
		return d
	}
	for _, r := range x.opt.Fresh {
		if matches(r.Pattern, name) {
			head.Set("Cache-Control", maxAge(most(r.For)))
			return
		}
	}
	switch v := i.Fields.Get("Cache-Control"); {
	case v != "":
		head.Set("Cache-Control", v)
	case i.Unchanged: // what the storage keeps may not have been told; what the client has stays
	case x.opt.Default != 0:
		head.Set("Cache-Control", maxAge(most(x.opt.Default)))
	}
}

// maxAge is a lifetime as Cache-Control; none is one that ends at once.
func maxAge(d time.Duration) string {
	if s := int64(d / time.Second); s > 0 {
		return "max-age=" + strconv.FormatInt(s, 10)
	}
	return "no-cache"
}
