package webhdfs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An inode is a file or folder of the fake. Its octets are replaced, never changed.
type inode struct {
	id     int64
	folder bool
	octets []byte
	mtime  int64
}

// A cluster is a fake name node and a fake data node. They do what WebHDFS.md,
// NamenodeWebHdfsMethods, FSDirRenameOp and WebHdfsHandler of Hadoop 3 say, as far as the
// Source asks for it: two steps by 307, exceptions that are 403 for the most part,
// RENAME into a folder unless it has options, an upload that breaks off closes the
// file with what came.
type cluster struct {
	name, data *httptest.Server

	// before may answer instead; it is set before anything is asked.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	down  bool
	files map[string]*inode
	last  int64
	asked []string
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{files: map[string]*inode{"/": {id: 16385, folder: true}}, last: 16385}
	c.name = httptest.NewServer(c.record("name", c.nameNode))
	c.data = httptest.NewServer(c.record("data", c.dataNode))
	t.Cleanup(c.name.Close)
	t.Cleanup(c.data.Close)
	return c
}

// record notes what is asked for.
func (c *cluster) record(node string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		down := c.down
		c.asked = append(c.asked, node+" "+r.Method+" "+r.URL.Query().Get("op")+" "+strings.TrimPrefix(r.URL.EscapedPath(), "/webhdfs/v1"))
		c.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if c.before == nil || !c.before(w, r) {
			next(w, r)
		}
	})
}

// requests are those since the last call.
func (c *cluster) requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.asked
	c.asked = nil
	return all
}

func (c *cluster) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// put makes a file as another client would.
func (c *cluster) put(path string, octets []byte, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.IsZero() {
		at = time.Now()
	}
	c.mkdirs(above(path))
	c.last++
	c.files[path] = &inode{id: c.last, octets: octets, mtime: at.UnixMilli()}
}

func (c *cluster) remove(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.files, path)
}

// below are the paths that begin with path and a slash.
func (c *cluster) below(path string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.under(path)
}

func (c *cluster) under(path string) []string {
	var all []string
	for _, p := range slices.Sorted(maps.Keys(c.files)) {
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(path, "/")+"/"); ok && rest != "" {
			all = append(all, p)
		}
	}
	return all
}

func above(path string) string {
	return "/" + strings.Trim(path[:strings.LastIndexByte(path, '/')], "/")
}

// An exception is one of Hadoop's.
type exception struct {
	status        int
	name, message string
}

func (e *exception) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	answer(w, map[string]any{"RemoteException": map[string]string{"exception": e.name, "javaClassName": "org.apache." + e.name, "message": e.message}})
}

// answer writes JSON. Nobody reads it if that fails.
func answer(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

// walk makes sure that all above path are folders.
func (c *cluster) walk(path string) *exception {
	for s := range strings.SplitSeq(path[1:], "/") {
		if strings.Contains(s, ":") || s == "." || s == ".." {
			return &exception{400, "InvalidPathException", "Invalid path name Invalid file name: " + path}
		}
	}
	for p := above(path); p != "/"; p = above(p) {
		if f := c.files[p]; f != nil && !f.folder {
			return &exception{403, "ParentNotDirectoryException", p + " (is not a directory)"}
		}
	}
	return nil
}

// mkdirs makes a folder and those above it.
func (c *cluster) mkdirs(path string) *exception {
	for p := path; p != "/"; p = above(p) {
		switch f := c.files[p]; {
		case f == nil:
			c.last++
			c.files[p] = &inode{id: c.last, folder: true, mtime: time.Now().UnixMilli()}
		case !f.folder:
			return &exception{403, "FileAlreadyExistsException", "Path is not a directory: " + p}
		}
	}
	return nil
}

func (f *inode) status(suffix string) map[string]any {
	kind := "FILE"
	if f.folder {
		kind = "DIRECTORY"
	}
	return map[string]any{
		"accessTime": f.mtime, "blockSize": 134217728, "childrenNum": 0, "fileId": f.id, "group": "supergroup", "length": len(f.octets),
		"modificationTime": f.mtime, "owner": "webuser", "pathSuffix": suffix, "permission": "644", "replication": 1, "storagePolicy": 0, "type": kind,
	}
}

func pathOf(r *http.Request) string {
	return "/" + strings.Trim(strings.TrimPrefix(r.URL.Path, "/webhdfs/v1"), "/")
}

func (c *cluster) nameNode(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, q := pathOf(r), r.URL.Query()
	e := c.walk(path)
	if e == nil {
		if n, _ := io.Copy(io.Discard, r.Body); n > 0 {
			e = &exception{400, "IllegalArgumentException", "octets for the name node"}
		} else {
			e = c.operate(w, r.Method+" "+q.Get("op"), path, q)
		}
	}
	if e != nil {
		e.send(w)
	}
}

// operate does one operation of the name node.
func (c *cluster) operate(w http.ResponseWriter, op, path string, q url.Values) *exception {
	f := c.files[path]
	absent := &exception{404, "FileNotFoundException", "File does not exist: " + path}
	switch op {
	case "GET GETFILESTATUS":
		if f == nil {
			return absent
		}
		answer(w, map[string]any{"FileStatus": f.status("")})
	case "GET LISTSTATUS":
		if f == nil {
			return absent
		}
		list := []any{}
		for _, p := range c.under(path) {
			if above(p) == path {
				list = append(list, c.files[p].status(p[strings.LastIndexByte(p, '/')+1:]))
			}
		}
		if !f.folder {
			list = append(list, f.status(""))
		}
		answer(w, map[string]any{"FileStatuses": map[string]any{"FileStatus": list}})
	case "GET OPEN":
		if f == nil {
			return absent
		}
		off, _ := strconv.ParseInt(q.Get("offset"), 10, 64)
		if n := int64(len(f.octets)); off < 0 || off >= n && n > 0 {
			return &exception{403, "IOException", fmt.Sprintf("Offset=%d out of the range [0, %d); OPEN, path=%s", off, n, path)}
		}
		c.redirect(w, path, q)
	case "PUT CREATE":
		c.redirect(w, path, q)
	case "PUT MKDIRS":
		if e := c.mkdirs(path); e != nil {
			return e
		}
		answer(w, map[string]bool{"boolean": true})
	case "PUT RENAME":
		return c.rename(w, path, q.Get("destination"), q.Get("renameoptions"))
	case "DELETE DELETE":
		if f != nil && len(c.under(path)) > 0 && q.Get("recursive") != "true" {
			return &exception{403, "PathIsNotEmptyDirectoryException", path + " is non empty"}
		}
		for _, p := range append(c.under(path), path) {
			delete(c.files, p)
		}
		answer(w, map[string]bool{"boolean": f != nil})
	default:
		return &exception{400, "UnsupportedOperationException", op + " is not supported"}
	}
	return nil
}

// redirect sends to the data node, with all that was asked.
func (c *cluster) redirect(w http.ResponseWriter, path string, q url.Values) {
	q.Set("namenoderpcaddress", "localhost:8020")
	u := url.URL{Scheme: "http", Host: strings.TrimPrefix(c.data.URL, "http://"), Path: "/webhdfs/v1" + path, RawQuery: q.Encode()}
	w.Header().Set("Location", u.String())
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// rename is rename2 of HDFS if it has options, and otherwise rename.
func (c *cluster) rename(w http.ResponseWriter, from, to, options string) *exception {
	src, dst := c.files[from], c.files[to]
	if options == "" {
		if dst != nil && dst.folder {
			to = strings.TrimSuffix(to, "/") + from[strings.LastIndexByte(from, '/'):]
		}
		done := src != nil && c.files[to] == nil && c.files[above(to)] != nil
		if done {
			c.files[to] = src
			delete(c.files, from)
		}
		answer(w, map[string]bool{"boolean": done})
		return nil
	}
	e := c.walk(to)
	switch up := c.files[above(to)]; {
	case e != nil:
		return e
	case src == nil:
		return &exception{404, "FileNotFoundException", "rename source " + from + " is not found."}
	case dst != nil && dst.folder != src.folder:
		return &exception{403, "IOException", "Source " + from + " and destination " + to + " must both be directories"}
	case dst != nil && options != "OVERWRITE":
		return &exception{403, "FileAlreadyExistsException", "rename destination " + to + " already exists"}
	case up == nil:
		return &exception{404, "FileNotFoundException", "rename destination parent " + to + " not found."}
	case !up.folder:
		return &exception{403, "ParentNotDirectoryException", "rename destination parent " + to + " is a file."}
	}
	c.files[to] = src
	delete(c.files, from)
	return nil
}

func (c *cluster) dataNode(w http.ResponseWriter, r *http.Request) {
	path, q := pathOf(r), r.URL.Query()
	w.Header().Set("Connection", "close")
	switch r.Method + " " + q.Get("op") {
	case "GET OPEN":
		c.read(w, path, q)
	case "PUT CREATE":
		c.create(w, r, path, q)
	default:
		(&exception{400, "IllegalArgumentException", "Invalid operation"}).send(w)
	}
}

func (c *cluster) read(w http.ResponseWriter, path string, q url.Values) {
	c.mu.Lock()
	f := c.files[path]
	c.mu.Unlock()
	if f == nil || f.folder {
		(&exception{404, "FileNotFoundException", "Path is not a file: " + path}).send(w)
		return
	}
	off, _ := strconv.ParseInt(q.Get("offset"), 10, 64)
	octets := f.octets[min(off, int64(len(f.octets))):]
	if n, err := strconv.ParseInt(q.Get("length"), 10, 64); err == nil {
		octets = octets[:min(n, int64(len(octets)))]
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(octets)))
	_, _ = io.Copy(w, bytes.NewReader(octets)) // the client may leave
}

func (c *cluster) create(w http.ResponseWriter, r *http.Request, path string, q url.Values) {
	c.mu.Lock()
	e := c.walk(path)
	if e == nil {
		e = c.mkdirs(above(path))
	}
	if old := c.files[path]; e == nil && old != nil && (old.folder || q.Get("overwrite") != "true") {
		e = &exception{403, "FileAlreadyExistsException", path + " already exists"}
	}
	if e != nil {
		c.mu.Unlock()
		e.send(w)
		return
	}
	c.last++
	f := &inode{id: c.last, mtime: time.Now().UnixMilli()}
	c.files[path] = f
	c.mu.Unlock()
	octets, err := io.ReadAll(r.Body)
	c.mu.Lock()
	f.octets, f.mtime = octets, time.Now().UnixMilli()
	c.mu.Unlock()
	if err != nil {
		return
	}
	w.Header().Set("Location", "hdfs://localhost:8020"+path)
	w.WriteHeader(http.StatusCreated)
}
