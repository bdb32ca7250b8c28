package esi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// An include is one include element on its way into the page.
type include struct {
	in      *document
	sources []string // src, then alt if there is one, as written
	proceed bool     // onerror="continue"
	late    bool     // it is started when its turn comes, not before

	ctx     context.Context
	release context.CancelFunc // ends ctx: the fragment has been used, or is not needed
	turn    chan struct{}      // closed when its turn has come
	place   bool               // it holds one of assembly.places
	number  int64              // of the source under way, among those of the page
	text    *queue

	// Set before anything is put into text, nor is it ended.
	came  bool // a fragment has come
	asks  bool // it is assembled itself
	tried int  // how many of the sources are used up
}

func newInclude(in *document, sources []string, proceed, late bool) *include {
	i := &include{in: in, sources: sources, proceed: proceed, late: late, turn: make(chan struct{}), text: newQueue(fragmentAhead, true)}
	i.ctx, i.release = context.WithCancel(in.ctx)
	return i
}

// start fetches the fragment of i as soon as there is a place. If what comes
// later in the page may hold all places, its turn is enough.
func (a *assembly) start(i *include) {
	i.number = a.tried.Add(1)
	turn := i.turn
	if i.in.parent == nil && !i.late {
		turn = nil // nothing later has been started, so that a place becomes free
	}
	select {
	case a.places <- struct{}{}:
		i.place = true
	case <-turn:
	case <-i.ctx.Done():
		i.tried = len(i.sources)
		i.text.end(context.Cause(i.ctx))
		return
	}
	a.running.Go(func() {
		i.text.end(a.fragment(i))
		<-i.ctx.Done() // what waits in the queue needs the place
		if i.place {
			<-a.places
		}
	})
}

// fragment puts the fragment of i into its queue.
func (a *assembly) fragment(i *include) error {
	var failure error
	for _, source := range i.sources {
		if i.tried++; i.tried > 1 {
			i.number = a.tried.Add(1)
		}
		expanded, err := a.variables().uri(source)
		if err == nil {
			source = expanded
			err = a.insert(i, source)
		}
		if err == nil {
			return nil
		}
		if i.ctx.Err() != nil {
			err = context.Cause(i.ctx)
		}
		failure = also(failure, &IncludeError{Document: i.in.name, Source: source, Err: err})
		if i.came || i.number > int64(a.limits.Includes) {
			break
		}
	}
	return failure
}

// insert gets the fragment from source and puts it into the queue of i.
func (a *assembly) insert(i *include, source string) error {
	doc, err := a.resolve(i, source)
	if err != nil {
		return err
	}
	if i.ctx.Err() != nil {
		return context.Cause(i.ctx)
	}
	if i.number > int64(a.limits.Includes) {
		return fmt.Errorf("%w: more than %d", ErrIncludes, a.limits.Includes)
	}
	u := *doc.url
	response, err := a.page.Fetch(i.ctx, &u)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := a.accept(response); err != nil {
		return err
	}
	body := &bounded{response.Body, a.limits.Fragment, a.limits.Fragment}
	var start bytes.Buffer
	if n := response.ContentLength; n > 0 {
		start.Grow(int(min(n, fragmentAhead)) + bytes.MinRead)
	}
	if _, err := start.ReadFrom(io.LimitReader(body, fragmentAhead)); err != nil {
		return err
	}
	i.came = true
	i.asks = Asks(response.Header, a.page.Device)
	if i.asks {
		return a.scan(i.ctx, doc, io.MultiReader(&start, body), i.text)
	}
	return pass(i.ctx, start.Bytes(), body, i.text)
}

// pass puts start, and what follows it in body, into q.
func pass(ctx context.Context, start []byte, body io.Reader, q *queue) error {
	if len(start) > 0 {
		if err := q.put(ctx, part{text: start}); err != nil {
			return err
		}
	}
	if len(start) < fragmentAhead {
		return nil
	}
	for buf := start[:readAhead]; ; {
		n, err := body.Read(buf)
		if n > 0 {
			if err := q.put(ctx, part{text: buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// resolve returns the document that source names, if i may include it.
func (a *assembly) resolve(i *include, source string) (*document, error) {
	u, err := parseURI(source)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	u = i.in.url.ResolveReference(u)
	u.Fragment, u.RawFragment = "", ""
	doc := &document{url: u, name: u.String(), key: canonical(u), parent: i.in, depth: i.in.depth + 1, ctx: i.ctx}
	if u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %q is no plain http or https URL", ErrRefused, doc.name)
	}
	if doc.depth > a.limits.Depth {
		return nil, fmt.Errorf("%w: more than %d", ErrDepth, a.limits.Depth)
	}
	for d := i.in; d != nil; d = d.parent {
		if d.key == doc.key {
			return nil, ErrLoop
		}
	}
	if !a.allowed(u) {
		return nil, fmt.Errorf("%w: %q is not among the allowed origins", ErrRefused, origin(u))
	}
	return doc, nil
}

func (a *assembly) allowed(u *url.URL) bool {
	if a.page.Allowed == nil {
		return SameOrigin(a.page.URL, u)
	}
	clone := *u
	return a.page.Allowed(&clone)
}

// canonical is u as text, the same for those that differ in their origin's form.
func canonical(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return origin(u) + path + "?" + u.RawQuery
}

// accept tells whether a response can be included: 200, 203 or 204, as a
// redirect is not followed and a part is not the whole, and without a coding.
func (a *assembly) accept(r *http.Response) error {
	switch r.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent:
	default:
		return fmt.Errorf("%w: status %d", ErrResponse, r.StatusCode)
	}
	if coding := strings.Join(r.Header["Content-Encoding"], ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		return fmt.Errorf("%w: Content-Encoding %q", ErrResponse, coding)
	}
	if r.ContentLength > a.limits.Fragment {
		return fragmentTooLong(a.limits.Fragment)
	}
	return nil
}

// A bounded reader gives up once there are more than left octets.
type bounded struct {
	in          io.Reader
	limit, left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	// One octet more than there may be, to tell the end from the excess.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.in.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, fragmentTooLong(b.limit)
	}
	return n, err
}

func fragmentTooLong(limit int64) error {
	return fmt.Errorf("%w: more than %d octets", ErrFragment, limit)
}
