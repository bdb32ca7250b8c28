package sftp

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/pkg/sftp"

	"github.com/larderhq/larder/gateway"
)

// List implements gateway.Source. Links are listed as what they lead to, and not at
// all if that is nothing that Open would find.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	c, err := s.get(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer s.conns.put(c)
	entries, err := c.list(ctx, folder, limit)
	if err != nil {
		return nil, s.failed(folder, err)
	}
	infos := make([]gateway.Info, len(entries))
	for i, e := range entries {
		infos[i] = s.info(e.info)
		infos[i].Name = e.name
	}
	return infos, nil
}

// An entry is what a folder has under a name. Where that is a link, info tells of what it
// leads to.
type entry struct {
	name string
	info os.FileInfo // nil: of nothing that Open would find
}

func (c *conn) list(ctx context.Context, folder string, limit int) ([]entry, error) {
	p, err := call(ctx, c, func() (place, error) { return c.locate(folder) }, nil)
	if err != nil {
		return nil, err
	}
	if !p.info.IsDir() {
		return nil, fs.ErrNotExist
	}
	infos, err := c.readDir(ctx, p.path, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(infos))
	for i, info := range infos {
		entries[i] = entry{info.Name(), info}
	}
	return call(ctx, c, func() ([]entry, error) { return c.followed(ctx, folder, entries, limit) }, nil)
}

// abreast is how many links are followed at a time.
const abreast = 32

// followed returns the first files and folders of entries, limit at most.
func (c *conn) followed(ctx context.Context, folder string, entries []entry, limit int) (found []entry, err error) {
	for len(entries) > 0 && len(found) < limit && ctx.Err() == nil {
		some := entries[:min(abreast, len(entries))]
		entries = entries[len(some):]
		errs := make([]error, len(some))
		var wg sync.WaitGroup
		for i, e := range some {
			if e.info.Mode()&fs.ModeSymlink != 0 {
				wg.Go(func() {
					some[i].info, errs[i] = guarded(c.kill, func() (os.FileInfo, error) { return c.target(folder, e.name) })
				})
			}
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for _, e := range some {
			if e.info != nil && check(e.name) == nil && (e.info.IsDir() || e.info.Mode().IsRegular() && e.info.Size() >= 0) && len(found) < limit {
				found = append(found, e)
			}
		}
	}
	return found, ctx.Err()
}

// target tells what a link leads to, nil if that is nothing that may be had.
func (c *conn) target(folder, name string) (os.FileInfo, error) {
	if folder != "" {
		name = folder + "/" + name
	}
	if check(name) != nil {
		return nil, nil
	}
	p, err := c.locate(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.As(err, new(*sftp.StatusError)) {
		return nil, nil
	}
	return p.info, err
}

// readDir reads a folder until it has limit entries for sure.
func (c *conn) readDir(ctx context.Context, path string, limit int) ([]os.FileInfo, error) {
	select {
	case c.listing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	enough, cancel := context.WithCancel(ctx)
	c.stopAfter((int64(limit)+100)*longest, cancel)
	defer func() {
		c.stopAfter(0, nil)
		cancel()
		<-c.listing
	}()
	infos, err := call(ctx, c, func() ([]os.FileInfo, error) { return c.sftp.ReadDirContext(enough, path) }, nil)
	if enough.Err() != nil && ctx.Err() == nil {
		err = nil // it was broken off, and returned what it had
	}
	return infos, err
}
