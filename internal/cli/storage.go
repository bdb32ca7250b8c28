package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/storage"
)

// storageFresh is how long an answer from storage is used without a look at it, unless
// --fresh or the storage says otherwise.
const storageFresh = 5 * time.Second

// storageFlags say how storage is served.
type storageFlags struct {
	Fresh         []freshRule `placeholder:"GLOB=TIME" sep:"none" help:"Storage: let caches use what matches for so long without asking;\n0s has each use validated. May be repeated: the first that matches\ncounts. *.css is for names, assets/** for paths, ** for all. Without:\nthe Cache-Control that the storage keeps, else 5s."`
	Listing       bool        `help:"Storage: show what is in folders without index.html, as HTML or\nJSON."`
	Write         bool        `help:"Storage: let clients PUT and DELETE. Whoever can ask can write."`
	Precompressed string      `placeholder:"WHEN" default:"auto" help:"Storage: answer with NAME.br, NAME.zst or NAME.gz in place of NAME\nto clients that accept it: on, off, or auto (on for files of this\nmachine), which is the default."`
	Download      []string    `placeholder:"GLOB" sep:"none" help:"Storage: offer what matches for saving; may be repeated."`
	Dotfiles      bool        `help:"Storage: serve names that begin with a dot, too."`
}

// A freshRule is a lifetime for names, written as *.css=1h.
type freshRule gateway.Rule

// UnmarshalText reads a freshRule.
func (r *freshRule) UnmarshalText(text []byte) error {
	i := strings.LastIndexByte(string(text), '=')
	if i < 0 {
		return fmt.Errorf("%q has no time: write it as *.css=1h", text)
	}
	d, err := parseSpan(string(text[i+1:]))
	if err != nil {
		return err
	}
	r.Pattern, r.For = string(text[:i]), d
	return checkPattern(r.Pattern)
}

func checkPattern(p string) error {
	if !gateway.ValidPattern(p) {
		return fmt.Errorf("%q is no pattern: write it as *.css, assets/** or **", p)
	}
	return nil
}

// used is a flag that was given, "" if none was.
func (s *storageFlags) used() string {
	switch {
	case len(s.Fresh) > 0:
		return "fresh"
	case s.Listing:
		return "listing"
	case s.Write:
		return "write"
	case s.Precompressed != "auto":
		return "precompressed"
	case len(s.Download) > 0:
		return "download"
	case s.Dotfiles:
		return "dotfiles"
	}
	return ""
}

// open checks the choices, opens the storage, and puts both into o.
func (s *storageFlags) open(address string, kinds storage.Kinds, o *daemon.Options) error {
	if !slices.Contains([]string{"auto", "on", "off"}, s.Precompressed) {
		return usagef("--precompressed %s: give one of on, off, auto", s.Precompressed)
	}
	for _, p := range s.Download {
		if err := checkPattern(p); err != nil {
			return usagef("--download: %v", err)
		}
	}
	src, err := kinds.Open(address)
	if err != nil {
		return explainSource(address, err)
	}
	if s.Write && !gateway.CanWrite(src) {
		return errors.Join(usagef("--write: %s cannot be written to; leave it out", storage.Show(address)), src.Close())
	}
	o.Storage, o.StorageName = src, storage.Name(address)
	o.Gateway = gateway.Options{Listing: s.Listing, Write: s.Write, Download: s.Download, Dotfiles: s.Dotfiles, Default: storageFresh}
	for _, r := range s.Fresh {
		o.Gateway.Fresh = append(o.Gateway.Fresh, gateway.Rule(r))
	}
	if s.Precompressed == "on" || s.Precompressed == "auto" && !src.Traits().Remote {
		o.Gateway.Precompressed = gateway.Codings()
	}
	return nil
}

// tell says in a line how storage is served.
func (s *storageFlags) tell() string {
	access, folders := "read-only", "folders without index.html are not shown (--listing)"
	if s.Write {
		access = "open for PUT and DELETE to whoever can ask"
	}
	if s.Listing {
		folders = "folders are listed"
	}
	fresh := fmt.Sprintf("fresh for as long as the storage says, else %v (--fresh)", storageFresh)
	if len(s.Fresh) > 0 {
		fresh = fmt.Sprintf("fresh as --fresh says, else as the storage says, else %v", storageFresh)
	}
	return fmt.Sprintf("storage: %s; %s; %s", access, folders, fresh)
}

// kindsOfStorage is for help texts.
const kindsOfStorage = `Storage: DIR, FILE.zip, FILE.tar, file:DIR, zip:FILE, tar:FILE, s3://BUCKET/PREFIX,
sftp:// ftp:// ftps:// ftpes:// webdav:// webdavs:// hdfs://; docs/gateway.md has each.
Credentials: LARDER_STORAGE_USER, LARDER_STORAGE_PASSWORD, LARDER_STORAGE_TOKEN; those of
s3 as the tools of AWS have them, those of sftp as OpenSSH has them.`

// explainSource says what to do about storage that cannot be opened.
func explainSource(address string, err error) error {
	_, port, perr := net.SplitHostPort(address)
	if _, nerr := strconv.Atoi(port); perr == nil && nerr == nil && errors.Is(err, fs.ErrNotExist) {
		return usagef("%q is neither a URL nor a folder: for a web server write http://%s", address, address)
	}
	msg := err.Error()
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		msg = strings.TrimSuffix(msg, ": "+cause.Error()) // the system's words add nothing
	}
	return usagef("%s", msg)
}
