package webhdfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// maxListing is how many octets of a listing are read. One entry is some 400.
const maxListing = 8 << 20

// settled is how long a file must have been left alone for its version to be certain.
const settled = 2 * time.Second

// A Source is a folder of HDFS. It must come from Open. Any number of goroutines may
// use it.
type Source struct {
	scheme, host string
	base         []string   // segments of the path of the root
	who          url.Values // parameters that say who asks
	transport    http.RoundTripper
	pool         *http.Transport // nil: the transport is not ours
	now          func() time.Time
}

var _ gateway.Writer = (*Source)(nil)

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
	return fmt.Errorf("webhdfs %s: %q: %w", s.host, name, err)
}

// A status is a FileStatus of WebHDFS.
type status struct {
	FileID           int64  `json:"fileId"`
	Length           int64  `json:"length"`
	ModificationTime int64  `json:"modificationTime"` // in ms since 1970
	PathSuffix       string `json:"pathSuffix"`
	Type             string `json:"type"`
}

func (st status) folder() bool { return st.Type == "DIRECTORY" }

// modified is zero if it is not known.
func (st status) modified() time.Time {
	if st.ModificationTime == 0 {
		return time.Time{}
	}
	return time.UnixMilli(st.ModificationTime)
}

// same tells whether other is of the same octets.
func (st status) same(other status) bool {
	return st.FileID == other.FileID && st.Length == other.Length && st.ModificationTime == other.ModificationTime && st.Type == other.Type
}

func (s *Source) info(st status) gateway.Info {
	if st.folder() {
		return gateway.Info{Folder: true}
	}
	i := gateway.Info{Size: st.Length, Modified: st.modified()}
	if st.FileID == 0 {
		i.Version, i.Certain = gateway.ByTime(i.Size, i.Modified, s.now(), gateway.Grain)
		return i
	}
	i.Version = fmt.Sprintf("%x-%x-%x", st.FileID, uint64(st.ModificationTime), st.Length)
	i.Certain = s.now().Sub(time.UnixMilli(st.ModificationTime)) >= settled
	return i
}

// Open finds a file or folder by one request. want is not used: octets take other
// requests in any case.
func (s *Source) Open(ctx context.Context, name string, _ gateway.Want) (gateway.Object, error) {
	st, err := s.status(ctx, name)
	if err != nil {
		return nil, s.wrong(name, err)
	}
	return &object{source: s, name: name, status: st, info: s.info(st)}, nil
}

// status asks for the status of a file or folder.
func (s *Source) status(ctx context.Context, name string) (status, error) {
	if err := check(name); err != nil {
		return status{}, err
	}
	resp, err := s.ask(ctx, http.MethodGet, "GETFILESTATUS", name, nil)
	if err != nil {
		return status{}, err
	}
	var body struct{ FileStatus status }
	if err := reply(resp, &body); err != nil {
		return status{}, err
	}
	switch st := body.FileStatus; {
	case st.Type == "SYMLINK":
		return status{}, fmt.Errorf("it is a symbolic link: %w", fs.ErrNotExist)
	case st.Type != "FILE" && !st.folder() || st.Length < 0:
		return status{}, fmt.Errorf("the name node says that it is a %.20q of %d octets", st.Type, st.Length)
	}
	return body.FileStatus, nil
}

// List tells what is in a folder, with size and time of modification. More than 8 MiB
// of answer is an error, unless limit is reached before.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	list, err := s.list(ctx, folder, limit)
	if err != nil {
		return nil, s.wrong(folder, err)
	}
	return list, nil
}

func (s *Source) list(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	if err := check(folder); err != nil {
		return nil, err
	}
	resp, err := s.ask(ctx, http.MethodGet, "LISTSTATUS", folder, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read only
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp)
	}
	var list []gateway.Info
	err = statuses(resp.Body, func(st status) (more bool, err error) {
		switch i := s.info(st); {
		case st.PathSuffix == "":
			return false, errNoFolder // a file is listed so, in a listing of its own
		case len(list) == limit:
			return false, nil
		case st.Type != "SYMLINK" && !bad(st.PathSuffix):
			i.Name = st.PathSuffix
			list = append(list, i)
		}
		return true, nil
	})
	return list, err
}

// statuses reads a FileStatuses one by one, until each has enough.
func statuses(r io.Reader, each func(status) (more bool, err error)) error {
	limit := &io.LimitedReader{R: r, N: maxListing}
	d := json.NewDecoder(limit)
	wrong := func(err error) error {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case limit.N == 0:
			return fmt.Errorf("the listing is longer than %d octets", maxListing)
		case errors.As(err, &syntax), errors.As(err, &kind):
			return fmt.Errorf("the name node's answer is not as WebHDFS has it: %w", err)
		}
		return conduit.Unavailable(err)
	}
	for _, want := range []json.Token{json.Delim('{'), "FileStatuses", json.Delim('{'), "FileStatus", json.Delim('[')} {
		switch t, err := d.Token(); {
		case err != nil:
			return wrong(err)
		case t != want:
			return fmt.Errorf("the name node's answer is not as WebHDFS has it: %.20q for %q", fmt.Sprint(t), fmt.Sprint(want))
		}
	}
	for d.More() {
		var st status
		if err := d.Decode(&st); err != nil {
			return wrong(err)
		}
		if more, err := each(st); !more {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the end of the list, or that of the octets
		return wrong(err)
	}
	return nil
}

// An object is one version of a file, or a folder.
type object struct {
	source *Source
	name   string
	status status
	info   gateway.Info
}

func (o *object) Info() gateway.Info { return o.info }

func (o *object) Close() error { return nil }

// Range asks the name node for a data node, and that for the octets.
func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if o.info.Folder {
		return nil, o.source.wrong(o.name, errFolder)
	}
	body, err := o.read(ctx, off, n)
	if err != nil {
		return nil, o.source.wrong(o.name, err)
	}
	r := &reader{ReadCloser: body, failed: func(err error) error { return o.source.wrong(o.name, ended(ctx, err)) }}
	return gateway.Reader(r, n, func() error { return o.source.wrong(o.name, o.still(ctx)) }), nil
}

// still fails unless the file is the version that was opened.
func (o *object) still(ctx context.Context) error {
	st, err := o.source.status(ctx, o.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.same(o.status) {
		return gateway.ErrChanged
	}
	return err
}

// read gets n octets from off on. Where the server does not tell how many come, what
// follows them shows whether it obeys, and before octets that are not the first ones are
// taken, obedient looks.
func (o *object) read(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	resp, err := o.source.octets(ctx, o.name, off, n)
	if err != nil {
		return nil, err
	}
	switch got := resp.ContentLength; {
	case got >= 0 && got < n:
		err = gateway.ErrChanged // it is shorter than it was
	case got > n, resp.Header.Get("Content-Encoding") != "":
		err = fmt.Errorf("%d octets were asked for, and %d come", n, got)
	case got < 0 && off > 0:
		err = o.obedient(ctx)
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{conduit.Exactly(resp.Body, n), resp.Body}, nil
}

// obedient fails unless the server obeys offset: it asks for two octets where only the
// last one is left.
func (o *object) obedient(ctx context.Context) error {
	resp, err := o.source.octets(ctx, o.name, o.status.Length-1, 2)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read only
	switch n, err := io.CopyN(io.Discard, resp.Body, 2); {
	case n == 1 && errors.Is(err, io.EOF):
		return nil
	case n == 0 && errors.Is(err, io.EOF):
		return gateway.ErrChanged // it is shorter than it was
	case n < 2:
		return ended(ctx, err)
	}
	if err := o.still(ctx); err != nil {
		return err // it grew
	}
	return errors.New("the server ignores offset")
}

// octets opens a file for n octets from off on.
func (s *Source) octets(ctx context.Context, name string, off, n int64) (*http.Response, error) {
	resp, err := s.ask(ctx, http.MethodGet, "OPEN", name, url.Values{"offset": {strconv.FormatInt(off, 10)}, "length": {strconv.FormatInt(n, 10)}})
	if err == nil && resp.StatusCode == http.StatusTemporaryRedirect {
		done(resp)
		var u string
		if u, err = s.redirected(resp); err == nil {
			resp, err = s.send(ctx, http.MethodGet, u, nil, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer done(resp)
		return nil, refused(resp)
	}
	return resp, nil
}

// A reader gives its errors a meaning.
type reader struct {
	io.ReadCloser
	failed func(error) error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && n == 0 {
		err = r.failed(err)
	} else {
		err = nil // it comes with the next
	}
	return n, err
}
