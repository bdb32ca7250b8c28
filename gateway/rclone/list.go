package rclone

import (
	"context"
	"errors"
	iofs "io/fs"
	"strings"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// List asks for no more pages than it needs where the backend has pages; other
// backends hold the whole folder in memory. What cannot be opened is left out.
func (s *Source) List(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	if err := s.check(folder); err != nil {
		return nil, err
	}
	var infos []gateway.Info
	err := s.call(ctx, func(ctx context.Context) (err error) {
		if infos, err = s.entries(ctx, folder, limit); err != nil && !s.flat {
			err = s.explained(ctx, folder, err)
		}
		return err
	})
	if err != nil {
		return nil, wrap(s.label, folder, err)
	}
	if s.flat && len(infos) == 0 {
		return nil, wrap(s.label, folder, iofs.ErrNotExist)
	}
	return infos, nil
}

var errEnough = errors.New("enough entries")

// entries are at most limit of a folder.
func (s *Source) entries(ctx context.Context, folder string, limit int) ([]gateway.Info, error) {
	var infos []gateway.Info
	take := func(entries fs.DirEntries) error {
		for _, e := range entries {
			if len(infos) >= limit {
				return errEnough
			}
			if i, ok := s.entry(ctx, folder, e); ok {
				infos = append(infos, i)
			}
		}
		return nil
	}
	if list := s.f.Features().ListP; list != nil {
		if err := list(ctx, folder, take); err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		return infos, nil
	}
	entries, err := s.f.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	_ = take(entries) // enough are enough
	return infos, nil
}

// entry is false for what Open would refuse.
func (s *Source) entry(ctx context.Context, folder string, e fs.DirEntry) (gateway.Info, bool) {
	name := e.Remote()
	if folder != "" {
		name = strings.TrimPrefix(name, folder+"/")
	}
	if name == "" || strings.Contains(name, "/") || !s.safe(name) {
		return gateway.Info{}, false
	}
	o, ok := e.(fs.Object)
	if !ok {
		return gateway.Info{Name: name, Folder: true}, true
	}
	if o.Size() < 0 || !o.Storable() {
		return gateway.Info{}, false
	}
	i := gateway.Info{Name: name, Size: o.Size()}
	if t := o.ModTime(ctx); !s.f.Features().SlowModTime && t.Unix() > 0 {
		i.Modified = t
	}
	return i, true
}
