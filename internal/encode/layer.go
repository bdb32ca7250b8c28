package encode

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/field"
)

// Options say what is compressed. The zero value is a sensible choice.
type Options struct {
	// Codings are those to use, in lower case and in order of preference; nil is
	// br, zstd, gzip. Others are not known and never chosen. Empty but not nil
	// switches the layer off.
	Codings []string
	// MinSize is how many octets content has at least, if its length is known;
	// 0 is 256. Of content of unknown length all is compressed.
	MinSize int64
	// Types tells whether content of a media type, in lower case and without
	// parameters, pays. It may be called concurrently. nil is text, JSON, XML,
	// scripts, wasm and uncompressed fonts and icons. text/event-stream and what
	// has no type are never compressed.
	Types func(mediaType string) bool
	// Bodies is how many are compressed at the same time; 0 is 16. One more waits
	// for a second, and is left as it is if none has ended by then.
	Bodies int
}

const (
	minSize = 256
	bodies  = 16
	// patience is how long a response waits for others to end.
	patience = time.Second
)

// RoundTripper compresses what base, which must not be nil, answers to GET with
// status 200, 203 or an error, and describes the same in answer to HEAD. It may
// be used concurrently if base may. Its errors are those of base. It changes
// neither requests nor the header maps of base.
//
// Left alone is what the client does not accept by Choose, what has a
// Content-Encoding or a Content-Range, is too short or of a type that does not
// pay, asks by Surrogate-Control for processing, and what the request or the response says no-transform of (RFC 9110,
// 7.7). Whether compressed or not, what is of a type that pays or has a
// Content-Encoding varies on Accept-Encoding, and so does a 304 that may speak of
// it. Accept-Encoding goes on to base as it came: an origin that encodes itself
// may.
//
// The tag of the coded form is weak, W/"x-br" for "x" and W/"x~br" for W/"x". A
// strong one would promise the same octets each time (RFC 9110, 8.8.1), but
// they depend on when the origin's octets came and on the version of the
// compressor, and parts of two runs must never be joined. So ranges of it come only
// from a complete coded form that the cache holds. A malformed tag, which means
// nothing to anybody but would be that of two forms, is removed.
//
// In If-None-Match, our tags for the coding that the client would get become the
// origin's, as strong or weak as they were, and the one that a 304 confirms
// becomes ours again. With other methods than GET and HEAD, all of ours do. Other
// tags go on as they are. A tag of the origin's that looks like ours, as where two
// such layers follow each other, is W/"x-br~identity" on this side.
//
// If-Match compares strongly, so our tags, like all weak ones, fail there and go
// on as they are. Nor do they match in If-Range, and who has one may not send a
// date there instead (RFC 9110, 13.1.5). Who got no tag may, and holds octets
// that may be coded, which those of a 206 from the origin never are: a request
// with If-Range and a date goes on without its Range if its answer could be
// compressed. All other 206 pass, under the origin's own tag.
//
// What is true of the uncoded form alone is removed: Content-Length, digests (RFC
// 9530, in trailers too) and Accept-Ranges. ContentLength is -1 then, and the body
// compresses as it is read. What the origin has sent is readable at once, at a
// cost of up to 5 % in size where it comes in small pieces. An error or a length
// that is not the one declared ends the body with an error, never with io.EOF.
// From the first Read to the end or Close a body takes 32 KiB, and a coder from a
// pool: up to 3.5 MiB for br, 2.5 MiB for zstd, 1.1 MiB for gzip. So each is to be
// read to its end, or closed: it takes the place of another.
func RoundTripper(base http.RoundTripper, o Options) http.RoundTripper {
	l := &layer{base: base, minSize: o.MinSize, pays: o.Types}
	if o.Codings == nil {
		o.Codings = preferred
	}
	for _, coding := range o.Codings {
		if _, ok := coders[coding]; ok {
			l.codings = append(l.codings, coding)
		}
	}
	if len(l.codings) == 0 {
		return base
	}
	l.places = make(chan struct{}, cmp.Or(max(o.Bodies, 0), bodies))
	if l.minSize <= 0 {
		l.minSize = minSize
	}
	if l.pays == nil {
		l.pays = compressible
	}
	return l
}

type layer struct {
	base    http.RoundTripper
	codings []string // at least one, all known
	minSize int64    // at least 1
	pays    func(mediaType string) bool
	places  chan struct{} // has one for each body that is compressed
}

// enter takes a place for a body, if one gets free in time.
func (l *layer) enter(ctx context.Context) bool {
	select {
	case l.places <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case l.places <- struct{}{}:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// RoundTrip asks base and compresses its answer where it pays.
func (l *layer) RoundTrip(r *http.Request) (*http.Response, error) {
	coding := l.coding(r)
	sent := outgoing(r, coding)
	res, err := l.base.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	if res.Request == sent {
		res.Request = r
	}
	return l.answer(r, coding, res), nil
}

// coding is what the answer to r is compressed with if all else allows it.
func (l *layer) coding(r *http.Request) string {
	if !reads(r) || noTransform(r.Header) {
		return ""
	}
	return Choose(r.Header["Accept-Encoding"], l.codings)
}

func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == "" || r.Method == http.MethodHead
}

func noTransform(h http.Header) bool {
	lines := h["Cache-Control"]
	return len(lines) > 0 && field.ParseDirectives(lines).NoTransform
}

// outgoing is r in the words of the origin, which is r itself where they are
// the same.
func outgoing(r *http.Request, coding string) *http.Request {
	if !reads(r) {
		coding = anyCoding
	}
	line, renamed := asked(r.Header["If-None-Match"], coding)
	dated := coding != "" && resumesByDate(r.Header)
	if !renamed && !dated {
		return r
	}
	sent := r.WithContext(r.Context())
	sent.Header = maps.Clone(r.Header)
	if renamed {
		sent.Header["If-None-Match"] = []string{line}
	}
	if dated {
		delete(sent.Header, "Range")
		delete(sent.Header, "If-Range")
	}
	return sent
}

// resumesByDate tells whether octets are asked for on the condition that a date,
// or something that nobody knows, still holds (RFC 9110, 13.1.5).
func resumesByDate(h http.Header) bool {
	if len(h["Range"]) == 0 || len(h["If-Range"]) == 0 {
		return false
	}
	_, tagged := parse(h["If-Range"])
	return !tagged
}

// answer is res in our words. What becomes of it is decided by its head alone.
func (l *layer) answer(r *http.Request, coding string, res *http.Response) *http.Response {
	h := maps.Clone(res.Header)
	switch {
	case reads(r) && res.StatusCode == http.StatusNotModified:
		l.confirm(h, r.Header["If-None-Match"], coding)
	case coding != "" && l.compresses(res) && (r.Method == http.MethodHead || l.enter(r.Context())):
		return l.compressed(r, coding, res, h)
	default:
		if t, ok := parse(h["Etag"]); ok {
			h["Etag"] = []string{text(escaped(t))}
		}
		if reads(r) && l.varied(h) {
			vary(h)
		}
	}
	res.Header = h
	return res
}

// compresses tells whether a response is worth it and may be changed.
func (l *layer) compresses(res *http.Response) bool {
	h := res.Header
	return whole(res.StatusCode) && l.eligible(h) &&
		len(h["Content-Encoding"]) == 0 && len(h["Content-Range"]) == 0 &&
		(res.ContentLength < 0 || res.ContentLength >= l.minSize) && !noTransform(h)
}

// whole tells the statuses whose content is a representation of its own, and may
// be long. 204, 205 and 304 have none, 206 has a part, 226 a difference.
func whole(status int) bool {
	return status == http.StatusOK || status == http.StatusNonAuthoritativeInfo || status >= 400
}

func (l *layer) eligible(h http.Header) bool {
	if len(h["Surrogate-Control"]) > 0 { // pages may be assembled of it (ESI 1.0)
		if s, _ := field.ParseSurrogate(h["Surrogate-Control"], "larder"); s.Content != "" {
			return false
		}
	}
	kind := mediaType(h["Content-Type"])
	return kind != "" && kind != eventStream && l.pays(kind)
}

// varied tells whether another Accept-Encoding may have got another response.
// Of what the origin encoded this holds also if it does not say so, lest it go to
// who excludes that coding.
func (l *layer) varied(h http.Header) bool {
	return len(h["Content-Encoding"]) > 0 || l.eligible(h)
}

// vary adds Accept-Encoding to what a response varies on.
func vary(h http.Header) {
	names, any := field.ParseVary(h["Vary"])
	if !any && !slices.Contains(names, "Accept-Encoding") {
		h["Vary"] = append(slices.Clip(h["Vary"]), "Accept-Encoding")
	}
}

// superseded are the fields that describe the uncoded form and not the coded.
var superseded = []string{"Accept-Ranges", "Content-Digest", "Content-Length", "Content-Md5", "Digest", "Repr-Digest"}

func supersede(h http.Header) {
	for _, name := range superseded {
		delete(h, name)
	}
}

// confirm turns h, the header of a 304, into one that speaks of what the client
// holds. Without a tag that may be the coded form, and nothing must overwrite what
// is right for it (RFC 9111, 3.2). A 304 need not repeat a type or a Vary; but a
// Vary takes the place of that of the stored response and has to be complete.
func (l *layer) confirm(h http.Header, lines []string, coding string) {
	t, _ := parse(h["Etag"])
	ours, c, ok := confirmed(lines, coding, t)
	if ok {
		h["Etag"] = []string{text(ours)}
	}
	coded := ok && c != asIs
	if coded || coding != "" && len(h["Etag"]) == 0 {
		supersede(h)
	}
	if coded || len(h["Vary"]) > 0 || l.varied(h) {
		vary(h)
	}
}

// compressed is res in the coding. It is another response, as what base does at
// the end of its body, trailers above all, it does to its own.
func (l *layer) compressed(r *http.Request, coding string, res *http.Response, h http.Header) *http.Response {
	supersede(h)
	vary(h)
	h["Content-Encoding"] = []string{coding}
	if t, ok := parse(h["Etag"]); ok {
		h["Etag"] = []string{text(variant(t, coding))}
	} else {
		delete(h, "Etag")
	}
	out := *res
	out.Header = h
	out.ContentLength = -1
	out.Uncompressed = false
	out.Trailer = trailers(nil, res.Trailer)
	if res.ContentLength >= 0 {
		out.TransferEncoding = []string{"chunked"} // or it would seem to end with the connection
	}
	if r.Method != http.MethodHead {
		out.Body = &body{coding: coding, from: res, to: &out, size: res.ContentLength, leave: sync.OnceFunc(func() { <-l.places })}
	}
	return &out
}
