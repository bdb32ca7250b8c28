package ftp

import (
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/larderhq/larder/gateway"
)

// An entry is what the server tells of a file or folder.
type entry struct {
	folder   bool
	size     int64
	modified time.Time // zero if the server does not tell, or not to the second
}

// info is what e means.
func (s *Source) info(e entry) gateway.Info {
	if e.folder {
		return gateway.Info{Folder: true}
	}
	info := gateway.Info{Size: e.size, Modified: e.modified}
	info.Version, info.Certain = gateway.ByTime(e.size, e.modified, s.opt.Now(), gateway.Grain)
	return info
}

// stat finds out what there is: by MLST, else by SIZE and MDTM, else by the listing of
// the folder that it is in.
func (c *conn) stat(name string) (entry, error) {
	c.listen(-1)
	found, err := c.GetEntry(c.at(name))
	if err == nil {
		return c.sized(c.at(name), found)
	} else if !unknown(err) {
		return entry{}, err
	}
	e, err := c.ask(name)
	if unknown(err) {
		return c.search(name)
	}
	return e, err
}

// ask finds out what there is without MLST.
func (c *conn) ask(name string) (entry, error) {
	if name == "" || c.blurry {
		if folder, err := c.isFolder(name); err != nil || folder {
			return entry{folder: true}, err
		}
	}
	size, err := c.sizeOf(c.at(name))
	if err != nil && code(err) == 0 {
		return entry{}, err
	} else if err != nil && !unknown(err) {
		folder, cwdErr := c.isFolder(name)
		if cwdErr == nil && !folder {
			cwdErr = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return entry{folder: true}, cwdErr
	}
	e := entry{size: size}
	if err == nil && c.IsGetTimeSupported() {
		e.modified, err = c.GetTime(c.at(name))
	}
	return e, err
}

// sized makes an entry of what MLST said. If it told no size, the library makes it zero, which SIZE
// has to confirm.
func (c *conn) sized(path string, found *ftp.Entry) (entry, error) {
	if found.Type == ftp.EntryTypeFolder {
		return entry{folder: true}, nil
	}
	e := entry{size: int64(found.Size), modified: found.Time}
	if found.Size > math.MaxInt64 {
		return e, fmt.Errorf("a size of %d: %w", found.Size, gateway.ErrUnavailable)
	}
	if e.size > 0 {
		return e, nil
	}
	size, err := c.sizeOf(path)
	if unknown(err) {
		return e, nil
	}
	e.size = size
	return e, err
}

// sizeOf asks for a size.
func (c *conn) sizeOf(path string) (int64, error) {
	size, err := c.FileSize(path)
	if err == nil && size < 0 {
		err = fmt.Errorf("a size of %d: %w", size, gateway.ErrUnavailable)
	}
	return size, err
}

// isFolder tells whether there is a folder; it is where the server works from then on.
func (c *conn) isFolder(name string) (bool, error) {
	err := c.ChangeDir(c.at(name))
	if err != nil && code(err) != ftp.StatusFileUnavailable {
		return false, err
	}
	return err == nil, nil
}

// search looks for name in its folder.
func (c *conn) search(name string) (entry, error) {
	folder, base := split(name)
	if name == "" {
		return entry{}, fs.ErrNotExist
	}
	entries, err := c.list(folder, math.MaxInt32)
	if err != nil {
		return entry{}, err
	}
	for _, e := range entries {
		if e.name == base {
			return e.entry, nil
		}
	}
	return entry{}, fs.ErrNotExist
}

// A named entry is one of a listing.
type named struct {
	name string
	entry
}

// longest is more octets than a line of a listing has.
const longest = 1 << 10

// most is how many octets of a listing are read at most.
const most = 64 << 20

// list reads a folder until it has limit entries for sure. Links are what they lead to, if the
// server tells.
func (c *conn) list(folder string, limit int) ([]named, error) {
	c.listen(min((int64(limit)+100)*longest, most))
	defer c.listen(-1)
	// Not as an argument: many servers take * and [ in it for a pattern, and "-" for an option.
	if err := c.ChangeDir(c.at(folder)); err != nil {
		return nil, err
	}
	found, err := c.List("")
	if err != nil {
		if len(found) <= limit {
			return nil, err
		}
		c.kill()                     // more would come
		found = found[:len(found)-1] // half a line, perhaps
	}
	var entries []named
	for _, f := range found {
		if check(f.Name) != nil || f.Name == "" || strings.Contains(f.Name, "/") || f.Size > math.MaxInt64 {
			continue
		}
		e := named{f.Name, entry{folder: f.Type == ftp.EntryTypeFolder, size: int64(f.Size)}}
		if c.IsTimePreciseInList() {
			e.modified = f.Time
		}
		if f.Type == ftp.EntryTypeLink {
			if e.entry, err = c.ask(below(folder, f.Name)); fatal(err) {
				return nil, err
			} else if err != nil {
				continue
			}
		}
		if entries = append(entries, e); len(entries) == limit {
			break
		}
	}
	return entries, nil
}
