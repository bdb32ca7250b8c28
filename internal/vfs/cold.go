package vfs

import "sync"

// coldPage is in how many octets a Cold has what was read.
const coldPage = 4 << 10

// A Cold has files that are Prompts for what was read before with ReadAt, and for
// nothing else: as if the system had kept that, and none of what was written.
type Cold struct{ FS }

// Open is as FS says.
func (c Cold) Open(name string, flag int) (File, error) {
	f, err := c.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &coldFile{File: f, kept: make(map[int64]bool)}, nil
}

type coldFile struct {
	File
	mu   sync.Mutex
	kept map[int64]bool // pages
}

// each calls f for the pages of n octets from off, until it returns false.
func (c *coldFile) each(off int64, n int, f func(page int64) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for page := off / coldPage; page*coldPage < off+int64(n); page++ {
		if !f(page) {
			return false
		}
	}
	return true
}

// ReadAt is as File says.
func (c *coldFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	c.each(off, n, func(page int64) bool { c.kept[page] = true; return true })
	return n, err
}

// ReadNow is as Prompt says.
func (c *coldFile) ReadNow(p []byte, off int64) (int, error) {
	if !c.each(off, len(p), func(page int64) bool { return c.kept[page] }) {
		return 0, nil
	}
	return c.File.ReadAt(p, off)
}
