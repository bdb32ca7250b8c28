package webdav

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
)

// A Source is a folder of a WebDAV server. It must come from Open. Any number of
// goroutines may use it.
type Source struct {
	scheme, host  string
	base          []string // segments of the path of the root, decoded
	authorization string
	transport     http.RoundTripper
	pool          *http.Transport // nil: the transport is not ours
	now           func() time.Time
}

var _ gateway.Writer = (*Source)(nil)

// errNoFolder is for what only a folder can be.
var errNoFolder = fmt.Errorf("it is no folder: %w", fs.ErrNotExist)

// Traits are of a server that has folders.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{Remote: true} }

// Close closes the connections that are idle. What is open stays usable.
func (s *Source) Close() error {
	if s.pool != nil {
		s.pool.CloseIdleConnections()
	}
	return nil
}

// wrong says what failed.
func (s *Source) wrong(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("webdav %s: %q: %w", s.host, name, err)
}

// List tells what is in a folder, with size and time of modification. More than 16 MiB
// of answer is an error, unless limit is reached before.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	if err := check(folder); err != nil {
		return nil, s.wrong(folder, err)
	}
	list, err := s.list(ctx, folder, limit)
	return list, s.wrong(folder, err)
}

// Open finds an object or folder by one request, or by two where the first does not
// tell which it is.
func (s *Source) Open(ctx context.Context, name string, want gateway.Want) (gateway.Object, error) {
	if err := check(name); err != nil {
		return nil, s.wrong(name, err)
	}
	o, err := s.open(ctx, name, want)
	if err != nil {
		return nil, s.wrong(name, err)
	}
	return o, nil
}

func (s *Source) open(ctx context.Context, name string, want gateway.Want) (*object, error) {
	if name == "" {
		e, err := s.stat(ctx, name, true)
		if err == nil && !e.folder {
			err = errNoFolder
		}
		return &object{source: s, name: name, folder: true}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	o, err := s.first(ctx, cancel, name, want)
	if err != nil || o.ready == nil {
		cancel()
	}
	return o, err
}

// first asks for name. cancel, which ends ctx, is for who reads what comes.
func (s *Source) first(ctx context.Context, cancel context.CancelFunc, name string, want gateway.Want) (*object, error) {
	a := ask{method: http.MethodHead, name: name, header: http.Header{}}
	if want.N != 0 {
		a.method = http.MethodGet
		if r := ranged(want); r != "" {
			a.header.Set("Range", r)
		}
	}
	switch {
	case tagged(want.Unless):
		a.header.Set("If-None-Match", `"`+want.Unless+`"`)
	case !want.UnlessSince.IsZero():
		a.header.Set("If-Modified-Since", want.UnlessSince.UTC().Format(http.TimeFormat))
	}
	resp, err := s.do(ctx, a)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return s.found(ctx, cancel, name, resp)
	case http.StatusNotModified:
		done(resp)
		if a.header["If-None-Match"] == nil && a.header["If-Modified-Since"] == nil {
			return nil, refused(resp)
		}
		o := s.unchanged(name, want, resp)
		if !o.believable(want) {
			return s.first(ctx, cancel, name, gateway.Want{Off: want.Off, N: want.N})
		}
		return o, nil
	case http.StatusRequestedRangeNotSatisfiable:
		done(resp)
		if a.header["Range"] == nil {
			return nil, refused(resp)
		}
		want.Off, want.N = 0, 0
		return s.first(ctx, cancel, name, want)
	case http.StatusMultiStatus, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		done(resp) // each is what some server answers for a folder
		e, err := s.stat(ctx, name, slashed(resp))
		switch {
		case err != nil:
			return nil, err
		case !e.folder:
			return nil, refused(resp)
		}
		return &object{source: s, name: name, folder: true}, nil
	}
	done(resp)
	return nil, refused(resp)
}

// ranged is want as a Range field (RFC 9110 §14.2), "" for all.
func ranged(want gateway.Want) string {
	switch {
	case want.Off < 0:
		return "bytes=" + strconv.FormatInt(want.Off, 10)
	case want.N < 0 && want.Off == 0:
		return ""
	case want.N < 0, want.Off+want.N <= want.Off:
		return fmt.Sprintf("bytes=%d-", want.Off)
	}
	return fmt.Sprintf("bytes=%d-%d", want.Off, want.Off+want.N-1)
}

// unchanged is an object of which the server said that it is as the client has it.
func (s *Source) unchanged(name string, want gateway.Want, resp *http.Response) *object {
	st := describe(resp)
	i := gateway.Info{Unchanged: true, Modified: st.modified, Version: want.Unless}
	if tag, ok := st.strong(); ok && want.Unless == "" {
		i.Version = tag
	}
	return &object{source: s, name: name, state: st, info: i}
}

// believable tells whether what did not change can be what want says that the client
// has. A cache on the way may mix it up.
func (o *object) believable(want gateway.Want) bool {
	if want.Unless != "" {
		return o.state.tag == "" || opaque(o.state.tag) == `"`+want.Unless+`"`
	}
	return !o.state.modified.After(want.UnlessSince)
}

// found makes an object of an answer, after it is sure that it is one.
func (s *Source) found(ctx context.Context, cancel context.CancelFunc, name string, resp *http.Response) (*object, error) {
	fail := func(err error) (*object, error) {
		_ = resp.Body.Close()
		return nil, err
	}
	st := describe(resp)
	ready, err := received(resp, &st)
	if err != nil {
		return fail(err)
	}
	if doubtful(resp, st) {
		e, err := s.stat(ctx, name, false)
		switch {
		case err != nil:
			return fail(err)
		case e.folder:
			_ = resp.Body.Close()
			return &object{source: s, name: name, folder: true}, nil
		case st.coding != "" && st.size != e.size:
			return fail(fmt.Errorf("the server codes what it has as %q although identity is asked for", st.coding))
		case st.size < 0 && e.size < 0:
			return fail(errSize)
		case st.size < 0:
			st.size = e.size
		}
	}
	o := &object{source: s, name: name, state: st, info: s.info(resp, st)}
	if resp.Request.Method == http.MethodHead || ready == nil {
		_ = resp.Body.Close()
		return o, nil
	}
	ready.cancel = cancel
	o.ready = ready
	return o, nil
}

// listings are the types that a page that lists a folder, or stands for it, may be of.
var listings = map[string]bool{
	"": true, "text/html": true, "application/xhtml+xml": true, "text/plain": true,
	"text/xml": true, "application/xml": true, "application/json": true,
}

// doubtful tells whether an answer might be of a folder, or might not be the octets that
// are stored, or does not tell enough.
func doubtful(resp *http.Response, st state) bool {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	_, strong := st.strong()
	return listings[strings.ToLower(strings.TrimSpace(kind))] ||
		!strong && st.modified.IsZero() || st.coding != "" || st.size < 0
}

// kept are the fields that belong to an object.
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control"}

// settled is how old an object has to be, by the clock of the server, for an entity
// tag made of seconds to be the tag of nothing else.
const settled = 2 * time.Second

// info is what an answer says of an object.
func (s *Source) info(resp *http.Response, st state) gateway.Info {
	i := gateway.Info{Size: st.size, Modified: st.modified, Fields: http.Header{}}
	for _, name := range kept {
		if v := resp.Header.Values(name); len(v) > 0 {
			i.Fields[name] = v
		}
	}
	tag, ok := st.strong()
	if !ok {
		i.Version, i.Certain = gateway.ByTime(st.size, st.modified, s.now(), gateway.Grain)
		return i
	}
	i.Version = tag
	date, err := http.ParseTime(resp.Header.Get("Date"))
	switch {
	case st.modified.IsZero():
		i.Certain = true
	case err == nil:
		i.Certain = date.Sub(st.modified) >= settled
	default:
		i.Certain = s.now().Sub(st.modified) >= gateway.Grain
	}
	return i
}
