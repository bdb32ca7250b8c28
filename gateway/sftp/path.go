package sftp

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// deepest is how many segments a name has at most: each costs a request.
const deepest = 100

// check refuses names that could mean something else to a server. A backslash
// separates, and blanks and dots at the end are nothing, on some.
func check(name string) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f }
	if strings.ContainsFunc(name, bad) {
		return fmt.Errorf("a control character: %w", fs.ErrNotExist)
	}
	if name == "" {
		return nil
	}
	segments := strings.Split(name, "/")
	if len(segments) > deepest {
		return fmt.Errorf("more than %d segments: %w", deepest, fs.ErrNotExist)
	}
	for _, s := range segments {
		for part := range strings.SplitSeq(s, `\`) {
			if strings.Trim(part, " .") == "" && (part != "" || s == "") {
				return fmt.Errorf("a segment %q: %w", s, fs.ErrNotExist)
			}
		}
	}
	return nil
}

// split returns the folder of a name, and its last segment.
func split(name string) (folder, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// A place is a file or folder inside the root.
type place struct {
	path string // as the server resolved it
	info os.FileInfo
}

// at is the path of a name before links are resolved.
func (c *conn) at(name string) string {
	if name == "" {
		return c.root
	}
	return below(c.root, name)
}

// below is the path of a name in a folder.
func below(folder, name string) string { return strings.TrimSuffix(folder, "/") + "/" + name }

// inside returns the name that a resolved path has, if it is inside the root.
func (c *conn) inside(path string) (name string, ok bool) {
	if path == c.root {
		return "", true
	}
	return strings.CutPrefix(path, below(c.root, ""))
}

// locate finds what name is, and that it is inside the root. It takes one round trip, two
// if there is a symbolic link.
func (c *conn) locate(name string) (place, error) {
	p, linked, err := c.look(name)
	if err != nil || !linked {
		return p, err
	}
	name, ok := c.inside(p.path)
	if !ok || check(name) != nil {
		return place{}, fmt.Errorf("it leads out of the root: %w", fs.ErrNotExist)
	}
	if p, linked, err = c.look(name); err == nil && linked {
		// Not every server resolves links in REALPATH.
		err = fmt.Errorf("where it leads to the server does not tell: %w", fs.ErrNotExist)
	}
	return p, err
}

// look looks at each segment of name and at its REALPATH, all at the same time. If
// there is a link on the way, only the path of the place is set.
func (c *conn) look(name string) (p place, linked bool, err error) {
	if name == "" {
		info, err := c.sftp.Stat(c.root)
		return place{c.root, info}, false, err
	}
	var (
		wg    sync.WaitGroup
		steps = strings.Split(name, "/")
		infos = make([]os.FileInfo, len(steps))
		errs  = make([]error, len(steps))
	)
	for i := range steps {
		wg.Go(func() {
			infos[i], errs[i] = guarded(c.kill, func() (os.FileInfo, error) { return c.sftp.Lstat(c.at(strings.Join(steps[:i+1], "/"))) })
		})
	}
	path, pathErr := c.sftp.RealPath(c.at(name))
	wg.Wait()
	for i, info := range infos {
		switch {
		case errs[i] != nil:
			return place{}, false, errs[i]
		case info.Mode()&fs.ModeSymlink != 0:
			return place{path: path}, true, pathErr
		case i < len(infos)-1 && !info.IsDir():
			return place{}, false, fs.ErrNotExist
		}
	}
	if pathErr != nil {
		return place{}, false, pathErr
	}
	if _, ok := c.inside(path); !ok {
		return place{}, false, fmt.Errorf("it leads out of the root: %w", fs.ErrNotExist)
	}
	last := infos[len(infos)-1]
	if !last.IsDir() && !last.Mode().IsRegular() {
		return place{}, false, fmt.Errorf("neither file nor folder: %w", fs.ErrNotExist)
	}
	return place{path, last}, false, nil
}
