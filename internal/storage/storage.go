// Package storage opens what can stand in place of an origin: it knows how each kind of
// storage is addressed.
package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/archive"
	"github.com/larderhq/larder/gateway/file"
	"github.com/larderhq/larder/gateway/ftp"
	"github.com/larderhq/larder/gateway/s3"
	"github.com/larderhq/larder/gateway/sftp"
	"github.com/larderhq/larder/gateway/webdav"
	"github.com/larderhq/larder/gateway/webhdfs"
)

// An Opener opens storage by its whole address.
type Opener func(address string) (gateway.Source, error)

// Kinds are Openers by scheme, without its colon.
type Kinds map[string]Opener

// Known are the kinds that are built in. The caller may change what is returned.
func Known() Kinds {
	return Kinds{
		"file": func(a string) (gateway.Source, error) { return folder(after(a)) },
		"zip":  func(a string) (gateway.Source, error) { return inArchive(after(a), archive.Zip) },
		"tar":  func(a string) (gateway.Source, error) { return inArchive(after(a), archive.Tar) },
		"s3":   parsed(s3.Parse, s3.Open),

		"sftp": parsed(func(a string, get func(string) string) (sftp.Options, error) {
			return sftp.Parse(a, sftp.Env{Get: get})
		}, sftp.Open),
		"ftp": parsed(ftp.Parse, ftp.Open), "ftps": parsed(ftp.Parse, ftp.Open), "ftpes": parsed(ftp.Parse, ftp.Open),
		"webdav": parsed(webdav.Parse, webdav.Open), "webdavs": parsed(webdav.Parse, webdav.Open),
		"hdfs": parsed(webhdfs.Parse, webhdfs.Open),
	}
}

func inArchive(path string, open func(string, archive.Options) (*archive.Source, error)) (gateway.Source, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, noArchive(path, err)
	}
	s, err := open(path, archive.Options{})
	if err != nil {
		return nil, err // and no nil *archive.Source, which would be a Source
	}
	return s, nil
}

// parsed opens what an address says.
func parsed[O any, S gateway.Source](parse func(string, func(string) string) (O, error), open func(O) (S, error)) Opener {
	return func(address string) (gateway.Source, error) {
		o, err := parse(address, os.Getenv)
		if err != nil {
			return nil, err
		}
		s, err := open(o)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// after is the path that follows the scheme.
func after(address string) string {
	_, rest, _ := strings.Cut(address, ":")
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		return strings.TrimPrefix(path, "localhost") // RFC 8089 §2
	}
	return rest
}

// scheme is that of an address; a single letter, and what has a slash before the colon, is none.
func scheme(address string) string {
	s, _, ok := strings.Cut(address, ":")
	if !ok || len(s) < 2 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		return ""
	}
	return strings.ToLower(s)
}

// IsOrigin tells whether an address is that of a web server.
func IsOrigin(address string) bool {
	s := scheme(address)
	return (s == "http" || s == "https") && strings.Contains(address, "://")
}

// Show is an address as others may see it: without what could be a secret. Of one that
// cannot be read it is the scheme alone.
func Show(address string) string {
	s := scheme(address)
	_, err := os.Stat(address)
	switch {
	case s == "" || err == nil || slices.Contains([]string{"file", "zip", "tar"}, s):
		return address
	case s == "rclone": // which takes passwords between its commas
		before, _, _ := strings.Cut(address, ",")
		return before
	}
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		return s + " storage"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	u.RawQuery = ""
	return u.String()
}

// Name tells storage apart from all other, without secrets: an address that means the
// same wherever it is said.
func Name(address string) string {
	path := address
	if s := scheme(address); s == "file" || s == "zip" || s == "tar" {
		path = after(address)
	} else if _, err := os.Stat(address); err != nil {
		if u, err := url.Parse(address); err == nil && u.User != nil {
			u.User = url.User(u.User.Username())
			return u.String()
		}
		for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE"} {
			address += "\n" + os.Getenv(name) // which say what an s3 address means
		}
		sum := sha256.Sum256([]byte(address))
		return hex.EncodeToString(sum[:])
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Open opens the storage at an address: a folder, an archive, or the URL of a kind.
func (k Kinds) Open(address string) (gateway.Source, error) {
	if _, err := os.Stat(address); err == nil {
		return k.local(address)
	}
	s := scheme(address)
	open, ok := k[s]
	switch {
	case ok:
		return open(address)
	case s == "rclone":
		return nil, errors.New("rclone is not built into this program: larder-rclone has it (cd gateway/rclone && go build -o ../../bin/ ./cmd/larder-rclone)")
	case s != "" && strings.Contains(address, "://"):
		return nil, fmt.Errorf("%s: is no kind of storage; there are %s, and http and https for a web server", s, strings.Join(slices.Sorted(maps.Keys(k)), ", "))
	}
	return k.local(address)
}

// local opens something that has no scheme.
func (k Kinds) local(path string) (gateway.Source, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() {
		if open, ok := k[strings.TrimPrefix(filepath.Ext(path), ".")]; ok && slices.Contains([]string{".zip", ".tar"}, filepath.Ext(path)) {
			return open("x:" + path)
		}
	}
	switch ext := filepath.Ext(path); {
	case errors.Is(err, fs.ErrNotExist) && (ext == ".zip" || ext == ".tar"):
		return nil, noArchive(path, err)
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(path, ".") && !strings.Contains(path, "/"):
		return nil, fmt.Errorf("folder %q does not exist; create it, or for a web server write http://%s: %w", path, path, err)
	case err == nil && info.Mode().IsRegular() && slices.Contains([]string{".tgz", ".gz", ".zst", ".bz2", ".xz"}, ext):
		return nil, fmt.Errorf("%q is compressed, and has no random access: decompress it and name the .tar, or use .zip", path)
	}
	return folder(path)
}

func folder(path string) (gateway.Source, error) {
	s, err := file.Open(path)
	if err != nil {
		return nil, err // and no nil *file.Source, which would be a Source
	}
	return s, nil
}

func noArchive(path string, err error) error {
	return fmt.Errorf("archive %q does not exist; name another: %w", path, err)
}
