package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"github.com/larderhq/larder/gateway"
)

// Watch implements gateway.Watcher. What links lead to outside of the folder's own tree
// is not watched.
func (s *Source) Watch(ctx context.Context, ready func(), changed func(gateway.Change)) error {
	top, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	n, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return fmt.Errorf("folder %s cannot be watched: %w", s.path, err)
	}
	defer n.Close() // nothing is lost that counts
	w := &watch{top: top, n: n, folders: map[string]bool{}, changed: changed}
	if err := w.add(top); err != nil {
		return err
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.Events:
			if err := w.see(e); err != nil {
				return err
			}
		case err := <-n.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("folder %s cannot be watched any more: %w", s.path, err)
			}
			if err := w.add(top); err != nil { // folders may have been missed
				return err
			}
			changed(gateway.Change{Under: true})
		}
	}
}

type watch struct {
	top     string
	n       *fsnotify.Watcher
	folders map[string]bool // that are watched, by full path
	changed func(gateway.Change)
}

// add watches a folder and those below. What goes meanwhile needs no watch.
func (w *watch) add(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // what cannot be read is not served either
		}
		switch err := w.n.Add(path); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EMFILE):
			return fmt.Errorf("the folders below %s are more than this system lets one watch (%d so far); raise fs.inotify.max_user_watches: %w", w.top, len(w.folders), err)
		case err != nil:
			return fmt.Errorf("folder %s cannot be watched: %w", path, err)
		}
		w.folders[path] = true
		return nil
	})
}

// drop ends the watches of a folder that went and of those below, which would tell of
// them by their old names if it lives on under another.
func (w *watch) drop(dir string) {
	for path := range w.folders {
		if path == dir || strings.HasPrefix(path, dir+string(filepath.Separator)) {
			_ = w.n.Remove(path) // it may have ended by itself
			delete(w.folders, path)
		}
	}
}

// see passes an event on.
func (w *watch) see(e fsnotify.Event) error {
	rel, err := filepath.Rel(w.top, e.Name)
	if err != nil {
		return fmt.Errorf("folder %s: an event of %s: %w", w.top, e.Name, err)
	}
	name := filepath.ToSlash(rel)
	if name == "." {
		name = ""
	}
	under := false
	switch {
	case e.Has(fsnotify.Create):
		before := len(w.folders)
		if err := w.add(e.Name); err != nil { // nothing, if it is a file
			return err
		}
		under = len(w.folders) > before // what is in it may have come before the watch
	case e.Has(fsnotify.Remove), e.Has(fsnotify.Rename):
		if under = w.folders[e.Name]; under {
			w.drop(e.Name)
		}
	}
	w.changed(gateway.Change{Name: name, Under: under})
	return nil
}
