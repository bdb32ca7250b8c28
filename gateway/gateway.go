// Package gateway makes a storage system an HTTP origin that caches can rely
// on: validators that are true, ranges, and no octet of two versions in one
// answer.
package gateway

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of what a request may ask for.
const (
	maxPath    = 4096  // octets of a path
	maxListing = 10000 // entries of a folder shown

	// settled is how long a file must have been left alone before size and
	// time of modification identify its octets. Within the granularity of
	// the clock of a file system (2 s on FAT) a file can change and keep both.
	settled = 2 * time.Second

	indexName = "index.html"
)

// Options says how a folder is served. The zero value is the careful choice.
type Options struct {
	// Listing shows what is in a folder without index.html, at most 10 000
	// entries. False: such a folder is not found.
	Listing bool

	// MaxAge is how long caches may use an answer without asking again, in
	// whole seconds. Zero or negative: no Cache-Control is sent, and caches
	// guess from Last-Modified (RFC 9111 §4.2.2).
	MaxAge time.Duration

	// Now is the clock that ages of files are told by. Nil: time.Now.
	Now func() time.Time
}

// Dir returns a Handler for the folder at path with the zero Options.
func Dir(path string) (*Handler, error) { return Options{}.Dir(path) }

// Dir returns a Handler for the folder at path. The folder is opened here and
// stays the same one if it is renamed. The caller closes the Handler.
func (o Options) Dir(path string) (*Handler, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("folder %q does not exist; create it or name another: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("folder %q cannot be used; check its permissions: %w", path, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%q is a file, not a folder; name the folder that it is in", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("folder %q cannot be opened; check its permissions: %w", path, err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{root: root, opt: o}, nil
}

// A Handler answers GET, HEAD and OPTIONS from a folder. It must come from
// Dir. Any number of goroutines may use it.
//
// Each file has one path: empty segments, "." and "..", an escaped slash or a
// backslash are not found or refused, never resolved. Nothing outside the
// folder is served, whichever symbolic links lead there, and nothing that is
// no regular file. Names that begin with a dot do not exist, except
// /.well-known (RFC 8615).
//
// A file that changes while it is read aborts the answer by
// http.ErrAbortHandler before an octet read after the change is sent. What is
// within one tick of the file system's clock cannot be seen.
type Handler struct {
	root *os.Root
	opt  Options
}

// Close gives the folder back. Requests after it fail with 500; those that
// have their file open finish.
func (h *Handler) Close() error { return h.root.Close() }

const allowed = "GET, HEAD, OPTIONS"

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Allow", allowed)
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", allowed)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	name, folder, status := locate(r.URL)
	if status != 0 {
		refuse(w, status)
		return
	}
	f, info, err := h.open(name)
	if err != nil {
		refuse(w, statusOf(err))
		return
	}
	defer f.Close() // opened for reading: nothing to lose
	switch {
	case info.IsDir() && folder:
		h.serveFolder(w, r, name, f)
	case info.IsDir():
		h.redirect(w, r, name)
	case folder:
		refuse(w, http.StatusNotFound) // a file has no slash after it
	default:
		h.serveFile(w, r, f, info)
	}
}

// locate finds the name that u stands for in the folder, and whether it has a
// slash after it; or the status to refuse u with.
func locate(u *url.URL) (name string, folder bool, status int) {
	p := u.Path
	switch {
	case len(p) > maxPath:
		return "", false, http.StatusNotFound
	case !strings.HasPrefix(p, "/"), strings.ContainsAny(p, "\x00\\"):
		return "", false, http.StatusBadRequest
	case strings.Contains(strings.ToLower(u.RawPath), "%2f"):
		return "", false, http.StatusNotFound // no name has a slash in it
	case p == "/":
		return ".", true, 0
	}
	name, folder = strings.CutSuffix(p[1:], "/")
	for i, s := range strings.Split(name, "/") {
		switch {
		case s == "." || s == "..":
			return "", false, http.StatusBadRequest
		case s == "", hidden(s) && !(i == 0 && s == ".well-known"):
			return "", false, http.StatusNotFound
		}
	}
	return name, folder, 0
}

func hidden(segment string) bool { return strings.HasPrefix(segment, ".") }

// errKind is the error for what is neither file nor folder.
var errKind = fmt.Errorf("neither a regular file nor a folder: %w", fs.ErrNotExist)

// open opens a regular file or a folder. What name leads to may change at any
// time, so that what counts is the opened file; looking before keeps devices
// from being opened at all, and not blocking is for those that come between.
func (h *Handler) open(name string) (*os.File, fs.FileInfo, error) {
	info, err := h.root.Stat(name)
	if err == nil && !serveable(info) {
		err = errKind
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := h.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil && !serveable(info) {
		err = errKind
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func serveable(info fs.FileInfo) bool { return info.Mode().IsRegular() || info.IsDir() }

// statusOf tells absence, which may be remembered, from our own trouble, which
// may not.
func statusOf(err error) int {
	var no syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden
	case errors.Is(err, fs.ErrClosed):
		return http.StatusInternalServerError
	case errors.As(err, &no):
		switch no {
		case syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EXDEV:
			return http.StatusNotFound
		}
		return http.StatusInternalServerError
	}
	return http.StatusNotFound // os.Root: the name leads outside
}

// refuse answers with a status and its name.
func refuse(w http.ResponseWriter, status int) {
	if status >= http.StatusInternalServerError {
		w.Header().Set("Cache-Control", "no-store")
	}
	http.Error(w, http.StatusText(status), status)
}

// fresh gives the answer its lifetime.
func (h *Handler) fresh(w http.ResponseWriter) {
	if s := int64(h.opt.MaxAge / time.Second); s > 0 {
		w.Header().Set("Cache-Control", "max-age="+strconv.FormatInt(s, 10))
	}
}

// redirect leads to the same folder with a slash after it. The target is
// relative to the request's, so that it holds behind any prefix and host; the
// "./" keeps a colon in the name from making it a scheme (RFC 3986 §4.2).
func (h *Handler) redirect(w http.ResponseWriter, r *http.Request, name string) {
	to := "./" + url.PathEscape(path.Base(name)) + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	h.fresh(w)
	w.Header().Set("Location", to) // http.Redirect would make it absolute
	w.WriteHeader(http.StatusMovedPermanently)
}

// serveFolder answers with the index of a folder, or a listing.
func (h *Handler) serveFolder(w http.ResponseWriter, r *http.Request, name string, dir *os.File) {
	f, info, err := h.open(path.Join(name, indexName))
	switch {
	case err == nil && info.IsDir():
		_ = f.Close() // opened for reading
	case err == nil:
		defer f.Close() // opened for reading
		h.serveFile(w, r, f, info)
		return
	case statusOf(err) != http.StatusNotFound:
		refuse(w, statusOf(err))
		return
	}
	if !h.opt.Listing {
		refuse(w, http.StatusNotFound)
		return
	}
	h.list(w, r, name, dir)
}

// serveFile answers with a file, or a part of it, or that it did not change
// (RFC 9110 §§13, 14).
func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request, f *os.File, info fs.FileInfo) {
	src := &source{f: f, was: info}
	modified := info.ModTime()
	tag := fmt.Sprintf(`"%x-%x"`, info.Size(), modified.UnixNano())
	if h.opt.Now().Sub(modified) < settled {
		// It may change again and keep size and time: no strong validator,
		// and no date, which If-Range would take for one (RFC 9110 §8.8).
		tag = "W/" + tag
		modified = time.Time{}
	}
	w.Header().Set("ETag", tag)
	h.fresh(w)
	http.ServeContent(w, r, path.Base(f.Name()), modified, src)
	if src.err != nil {
		panic(http.ErrAbortHandler)
	}
}

// A source reads a file as it was when it was opened, and fails once it is not
// the same any more.
type source struct {
	f   *os.File
	was fs.FileInfo
	err error // why nothing may be read any more
}

var errChanged = errors.New("the file changed while it was read")

// Read fails rather than return octets that may be of a newer version.
func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.f.Read(p)
	now, statErr := s.f.Stat()
	switch {
	case statErr != nil:
		s.err = statErr
	case now.Size() != s.was.Size() || !now.ModTime().Equal(s.was.ModTime()):
		s.err = errChanged
	case err != nil && !errors.Is(err, io.EOF):
		s.err = err
	}
	if s.err != nil {
		return 0, s.err
	}
	return n, err
}

// Seek knows the size that the file had.
func (s *source) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset, whence = s.was.Size()+offset, io.SeekStart
	}
	return s.f.Seek(offset, whence)
}

// list shows the entries of a folder that could be served.
func (h *Handler) list(w http.ResponseWriter, r *http.Request, name string, dir *os.File) {
	entries, err := dir.ReadDir(maxListing)
	if err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusInternalServerError)
		return
	}
	var names []string
	for _, e := range entries {
		if hidden(e.Name()) || strings.Contains(e.Name(), "\\") {
			continue
		}
		info, err := h.root.Stat(path.Join(name, e.Name())) // follows links
		switch {
		case err != nil || !serveable(info):
		case info.IsDir():
			names = append(names, e.Name()+"/")
		default:
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)

	title := "/"
	if name != "." {
		title = "/" + name + "/"
		names = slices.Insert(names, 0, "../")
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"+
		"<meta name=\"viewport\" content=\"width=device-width\">\n<title>%[1]s</title>\n<h1>%[1]s</h1>\n<ul>\n",
		html.EscapeString(title))
	for _, n := range names {
		ref := "../"
		if base, isDir := strings.CutSuffix(n, "/"); n != ref {
			ref = "./" + url.PathEscape(base)
			if isDir {
				ref += "/"
			}
		}
		fmt.Fprintf(&page, "<li><a href=\"%s\">%s</a></li>\n", html.EscapeString(ref), html.EscapeString(n))
	}
	page.WriteString("</ul>\n</html>\n")

	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", "default-src 'none'")
	head.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(page.Bytes())))
	h.fresh(w)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(page.Bytes()))
}
