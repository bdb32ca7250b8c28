package vfs

import "slices"

// The octets of a file in memory are a tree of pages, fan blocks wide. Trees
// share blocks: each block has an owner, who alone may change it in place, and
// whoever else wants to change it makes a copy. So to keep a file as it is at
// one moment costs nothing but a new owner.
const (
	pageLen = 4 << 10 // octets
	fanBits = 6
	fan     = 1 << fanBits
)

// maxLen is the longest file in memory, in octets.
const maxLen = 16 << 40

// maxHeight is how many levels of branches maxLen takes above the pages.
const maxHeight = 6

// An owner is known by its address.
type owner struct{ _ byte }

// A block is a page or a branch of a tree.
type block struct {
	owner *owner
	pages int64    // how many are there, or below
	kids  []*block // fan of them, of which any may be nil; nil in a page
	data  []byte   // pageLen octets; nil in a branch
}

// blanks are trees full of zeros, by height. Nobody owns them, so nobody
// changes them.
var blanks = func() (trees [maxHeight + 1]*block) {
	nobody := new(owner)
	trees[0] = &block{owner: nobody, pages: 1, data: make([]byte, pageLen)}
	for h := 1; h <= maxHeight; h++ {
		kids := slices.Repeat([]*block{trees[h-1]}, fan)
		trees[h] = &block{owner: nobody, pages: span(h), kids: kids}
	}
	return trees
}()

// span is how many pages a tree of this height can hold.
func span(height int) int64 { return 1 << (fanBits * height) }

// A content is a length and the octets before it. What is not in a page is
// zeros, and so is what a page has beyond size. The zero content is empty. It
// is copied by fork alone.
type content struct {
	owner  *owner
	root   *block
	height int // of root
	size   int64
}

// fork returns a copy that shares all pages with c. Neither may change them in
// place from now on.
func (c *content) fork() content {
	c.owner = new(owner)
	return content{new(owner), c.root, c.height, c.size}
}

// pages is how many there are.
func (c *content) pages() int64 {
	if c.root == nil {
		return 0
	}
	return c.root.pages
}

// page returns the page at index, or nil if there is none.
func (c *content) page(index int64) *block {
	if index >= span(c.height) {
		return nil
	}
	b := c.root
	for h := c.height - 1; h >= 0 && b != nil; h-- {
		b = b.kids[index>>(fanBits*h)%fan]
	}
	return b
}

// own returns the page at index such that c may change it.
func (c *content) own(index int64) *block {
	more := int64(0)
	if c.page(index) == nil {
		more = 1
	}
	c.raise(index + 1)
	slot := &c.root
	for h := c.height; ; h-- {
		b := c.take(slot, h)
		b.pages += more
		if h == 0 {
			b.pages = 1
			return b
		}
		slot = &b.kids[index>>(fanBits*(h-1))%fan]
	}
}

// raise makes the tree high enough for pages.
func (c *content) raise(pages int64) {
	for ; span(c.height) < pages; c.height++ {
		if c.root != nil {
			below := c.root
			c.root = nil
			c.take(&c.root, c.height+1).kids[0] = below
			c.root.pages = below.pages
		}
	}
}

// take puts a block that c may change into slot: the one that is there, a copy
// of it, or an empty one.
func (c *content) take(slot **block, height int) *block {
	switch b := *slot; {
	case b == nil && height == 0:
		*slot = &block{owner: c.owner, data: make([]byte, pageLen)}
	case b == nil:
		*slot = &block{owner: c.owner, kids: make([]*block, fan)}
	case b.owner != c.owner:
		*slot = &block{c.owner, b.pages, slices.Clone(b.kids), slices.Clone(b.data)}
	}
	return *slot
}

// read fills p with the octets from off, which must be there.
func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		n := min(len(p), int(pageLen-off%pageLen))
		if b := c.page(off / pageLen); b != nil {
			copy(p[:n], b.data[off%pageLen:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// write puts p at off. It makes at most room pages, and returns how many
// octets it came to write with them.
func (c *content) write(p []byte, off, room int64) (written int) {
	for len(p) > 0 {
		index, n := off/pageLen, min(len(p), int(pageLen-off%pageLen))
		if c.page(index) == nil {
			if room <= 0 {
				break
			}
			room--
		}
		copy(c.own(index).data[off%pageLen:], p[:n])
		p, off, written = p[n:], off+int64(n), written+n
		c.size = max(c.size, off)
	}
	return written
}

// resize sets the length: what is beyond is gone, what is new is zeros.
func (c *content) resize(size int64) {
	if size < c.size {
		c.prune(&c.root, c.height, pagesOf(size))
		if index := size / pageLen; c.page(index) != nil {
			clear(c.own(index).data[size%pageLen:])
		}
	}
	c.size = size
}

// prune drops all but the first keep pages of the tree in slot.
func (c *content) prune(slot **block, height int, keep int64) {
	if *slot == nil || keep >= span(height) {
		return
	}
	if keep <= 0 {
		*slot = nil
		return
	}
	b, below := c.take(slot, height), span(height-1)
	for i := keep / below; i < fan; i++ {
		c.prune(&b.kids[i], height-1, keep-i*below)
	}
	b.count()
}

// fill puts pages of zeros where there are none among the first n.
func (c *content) fill(n int64) {
	c.raise(n)
	c.fillTree(&c.root, c.height, n)
}

func (c *content) fillTree(slot **block, height int, n int64) {
	switch {
	case n <= 0, *slot != nil && (*slot).pages == span(height):
		return
	case *slot == nil && n >= span(height):
		*slot = blanks[height]
		return
	}
	b, below := c.take(slot, height), span(height-1)
	for i := int64(0); i < fan && i*below < n; i++ {
		c.fillTree(&b.kids[i], height-1, n-i*below)
	}
	b.count()
}

// count counts the pages of a branch anew.
func (b *block) count() {
	b.pages = 0
	for _, kid := range b.kids {
		if kid != nil {
			b.pages += kid.pages
		}
	}
}

// pagesOf is how many pages size octets take.
func pagesOf(size int64) int64 { return (size + pageLen - 1) / pageLen }
