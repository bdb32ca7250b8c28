package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"github.com/larderhq/larder/gateway"
)

// Watch implements gateway.Watcher. Where there are symbolic links below the folder, or a
// file has several names, a change shows in more places than one, and is told as one of
// everything. Folders that may not be read are not watched: nothing of them is served.
// On file systems of a network only changes made by this machine are told.
func (s *Source) Watch(ctx context.Context, ready func(), changed func(gateway.Change)) error {
	top, err := filepath.Abs(s.path)
	if err == nil {
		top, err = filepath.EvalSymlinks(top)
	}
	if err != nil {
		return fmt.Errorf("folder %s cannot be watched: %w", s.path, err)
	}
	n, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return fmt.Errorf("folder %s cannot be watched: %w", s.path, err)
	}
	defer n.Close() // nothing is lost that counts
	w := &watch{ctx: ctx, top: top, n: n, folders: map[string]bool{}, changed: changed}
	if err := w.add(top); err != nil {
		return w.ended(err)
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.Events:
			if err := w.see(e); err != nil {
				return w.ended(err)
			}
		case err := <-n.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("folder %s cannot be watched any more: %w", s.path, err)
			}
			if err := w.add(top); err != nil { // folders may have been missed
				return w.ended(err)
			}
			changed(gateway.Change{Under: true})
		}
	}
}

type watch struct {
	ctx     context.Context
	top     string
	n       *fsnotify.Watcher
	folders map[string]bool // that are watched, by full path
	links   bool            // there are symbolic links
	changed func(gateway.Change)
}

// ended is err, unless the watch was to end.
func (w *watch) ended(err error) error {
	if w.ctx.Err() != nil {
		return nil
	}
	return err
}

// add watches a folder and those below. What goes meanwhile needs no watch.
func (w *watch) add(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case w.ctx.Err() != nil:
			return w.ctx.Err()
		case err != nil:
			return nil // what cannot be read is not served either
		case d.Type()&fs.ModeSymlink != 0:
			w.links = true
		}
		if !d.IsDir() {
			return nil
		}
		switch err := w.n.Add(path); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return nil
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EMFILE):
			return fmt.Errorf("the folders below %s are more than this system lets one watch (%d so far); raise fs.inotify.max_user_watches: %w", w.top, len(w.folders), err)
		case err != nil:
			return fmt.Errorf("folder %s cannot be watched: %w", path, err)
		}
		w.folders[path] = true
		return nil
	})
	if err == nil && dir == w.top && !w.folders[w.top] {
		err = fmt.Errorf("folder %s cannot be watched: it may not be read, or has gone", w.top)
	}
	return err
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
	if strings.HasPrefix(filepath.Base(e.Name), gateway.Draft) {
		return nil // nobody sees it
	}
	came, went, folder := e.Has(fsnotify.Create), e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename), w.folders[e.Name]
	switch {
	case went && e.Name == w.top:
		return fmt.Errorf("folder %s has gone, or has another name; what was in it is still served. Start Larder again when the folder is there", w.top)
	case went && folder:
		w.drop(e.Name)
	case came:
		before := len(w.folders)
		if err := w.add(e.Name); err != nil { // nothing, if it is a file
			return err
		}
		folder = len(w.folders) > before // what is in it may have come before the watch
	}
	rel, err := filepath.Rel(w.top, e.Name)
	if err != nil {
		return fmt.Errorf("folder %s: an event of %s: %w", w.top, e.Name, err)
	}
	c := gateway.Change{Name: filepath.ToSlash(rel), Under: folder, Inside: !came && !went && !folder}
	if w.links || c.Name == "." || severalNames(e.Name) {
		c = gateway.Change{Under: true}
	}
	w.changed(c)
	return nil
}

// severalNames tells whether a file can be had by another name too.
func severalNames(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !info.IsDir() && links(info) > 1
}
