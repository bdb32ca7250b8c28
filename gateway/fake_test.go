package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

// A fake is a Source in memory that does what a test says, and remembers what it was
// asked for.
type fake struct {
	traits gateway.Traits

	mu      sync.Mutex
	objects map[string]thing
	calls   []string
	names   []string // of all calls
	open    int      // objects that are

	// These go before what the fake does, if set. A nil reader is none.
	onOpen  func(ctx context.Context, name string) error
	onRange func(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)
	onList  func(ctx context.Context, folder string) ([]gateway.Info, error)
	onWrite func(ctx context.Context, name string, body io.Reader) error
}

// A thing is stored; the zero Info is completed.
type thing struct {
	text string
	info gateway.Info
}

// holding is a fake with these texts, all of the same, certain version.
func holding(traits gateway.Traits, texts map[string]string) *fake {
	f := &fake{traits: traits, objects: map[string]thing{}}
	for name, text := range texts {
		f.objects[name] = thing{text: text, info: gateway.Info{Version: "v1", Certain: true, Modified: past}}
	}
	return f
}

// with adds one object.
func (f *fake) with(name, text string, i gateway.Info) *fake {
	f.objects[name] = thing{text, i}
	return f
}

// called notes a question about name.
func (f *fake) called(name, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = append(f.names, name)
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// asked are the questions since it was asked last.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.calls
	f.calls = nil
	return c
}

func (f *fake) Traits() gateway.Traits { return f.traits }
func (f *fake) Close() error           { f.called("", "close source"); return nil }

func (f *fake) Open(ctx context.Context, name string, w gateway.Want) (gateway.Object, error) {
	note := fmt.Sprintf("open %s %d+%d", name, w.Off, w.N)
	if w.Unless != "" {
		note += " unless " + w.Unless
	}
	if !w.UnlessSince.IsZero() {
		note += " unless since " + w.UnlessSince.Format(time.TimeOnly)
	}
	f.called(name, "%s", note)
	if f.onOpen != nil {
		if err := f.onOpen(ctx, name); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.objects[name]
	if !ok {
		if !f.traits.Flat && (name == "" || f.under(name)) {
			f.open++
			return &fakeObject{f: f, name: name, info: gateway.Info{Folder: true}}, nil
		}
		return nil, fmt.Errorf("fake %s: %w", secretWord, fs.ErrNotExist)
	}
	t.info.Size = max(t.info.Size, int64(len(t.text)))
	if w.Unless != "" && w.Unless == t.info.Version && t.info.Certain ||
		!w.UnlessSince.IsZero() && !t.info.Modified.Truncate(time.Second).After(w.UnlessSince) {
		t.info = gateway.Info{Unchanged: true, Version: t.info.Version, Modified: t.info.Modified}
	}
	f.open++
	return &fakeObject{f: f, name: name, info: t.info, text: t.text}, nil
}

func (f *fake) under(folder string) bool {
	for name := range f.objects {
		if strings.HasPrefix(name, folder+"/") {
			return true
		}
	}
	return false
}

func (f *fake) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	f.called(folder, "list %s %d", folder, limit)
	if f.onList != nil {
		return f.onList(ctx, folder)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	entries := map[string]gateway.Info{}
	for name, t := range f.objects {
		rest, ok := name, true
		if folder != "" {
			rest, ok = strings.CutPrefix(name, folder+"/")
		}
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		if deeper {
			entries[first+"/"] = gateway.Info{Name: first, Folder: true}
			continue
		}
		t.info.Name, t.info.Size = first, int64(len(t.text))
		entries[first] = t.info
	}
	if len(entries) == 0 {
		return nil, fs.ErrNotExist
	}
	var infos []gateway.Info
	for _, i := range entries {
		if len(infos) < limit {
			infos = append(infos, i)
		}
	}
	return infos, nil
}

type fakeObject struct {
	f    *fake
	name string
	info gateway.Info
	text string
}

func (o *fakeObject) Info() gateway.Info { return o.info }

func (o *fakeObject) Close() error {
	o.f.called(o.name, "close %s", o.name)
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	o.f.open--
	return nil
}

func (o *fakeObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.f.called(o.name, "range %s %d+%d", o.name, off, n)
	if o.f.onRange != nil {
		if r, err := o.f.onRange(ctx, o.name, off, n); r != nil || err != nil {
			return r, err
		}
	}
	return io.NopCloser(strings.NewReader(o.text[off : off+n])), nil
}

// A fakeWriter is a fake that can be written to.
type fakeWriter struct {
	*fake
	fields http.Header // of the last Put
}

func (f *fakeWriter) Put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (gateway.Info, error) {
	f.called(name, "put %s %d absent=%t version=%s", name, size, only.Absent, only.Version)
	f.fields = fields
	if f.onWrite != nil {
		if err := f.onWrite(ctx, name, body); err != nil {
			return gateway.Info{}, err
		}
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return gateway.Info{}, fmt.Errorf("%s: %w", secretWord, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[name] = thing{string(b), gateway.Info{Version: "new", Certain: true, Modified: past}}
	return gateway.Info{Version: "new", Certain: true}, nil
}

func (f *fakeWriter) Delete(ctx context.Context, name string, only gateway.If) error {
	f.called(name, "delete %s absent=%t version=%s", name, only.Absent, only.Version)
	if f.onWrite != nil {
		if err := f.onWrite(ctx, name, nil); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.objects[name]; !ok {
		return fs.ErrNotExist
	}
	delete(f.objects, name)
	return nil
}

// secretWord is in the fake's errors; no client may see it.
const secretWord = "AKIASECRET"

// An answer is what came of a request.
type answer struct {
	*httptest.ResponseRecorder
	aborted any // what ServeHTTP panicked with
}

// ask makes a request; fields come in pairs, and those of one name add up.
func ask(h http.Handler, method, target string, body io.Reader, fields ...string) answer {
	req := httptest.NewRequest(method, "http://example.com/", body)
	req.URL.Path, req.URL.RawPath = target, ""
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return run(h, req)
}

func run(h http.Handler, req *http.Request) (a answer) {
	a.ResponseRecorder = httptest.NewRecorder()
	defer func() { a.aborted = recover() }()
	h.ServeHTTP(a.ResponseRecorder, req)
	return a
}

// is checks the status of an answer that was not broken off, and fields of it, which
// come in pairs; "" is none.
func (a answer) is(t *testing.T, status int, fields ...string) {
	t.Helper()
	if a.aborted != nil || a.Code != status {
		t.Errorf("status %d, aborted by %v, want %d: %q", a.Code, a.aborted, status, a.Body)
	}
	for i := 0; i < len(fields); i += 2 {
		if got := strings.Join(a.Header().Values(fields[i]), " | "); got != fields[i+1] {
			t.Errorf("%s: %q, want %q", fields[i], got, fields[i+1])
		}
	}
	if strings.Contains(a.Body.String(), secretWord) {
		t.Errorf("a client sees the storage's words: %s", a.Body)
	}
}

// A piece is a reader that gives octets and then an error. It tells when it is closed.
type piece struct {
	io.Reader
	err    error
	closed func()
}

func (p *piece) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil {
		err = p.err
	}
	return n, err
}

func (p *piece) Close() error {
	if p.closed != nil {
		p.closed()
	}
	return nil
}

// breaking gives text and then err.
func breaking(text string, err error) io.ReadCloser {
	return &piece{Reader: strings.NewReader(text), err: err}
}

// stalled is a reader that gives nothing until ctx ends.
type stalled struct{ ctx context.Context }

func (s stalled) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, fmt.Errorf("%s: %w", secretWord, s.ctx.Err())
}
func (stalled) Close() error { return nil }

// equal compares what was asked.
func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: asked\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// pattern are n octets that differ from place to place.
func pattern(n int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
