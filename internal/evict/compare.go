package evict

// What stands here is for comparison only: no store uses it.

// A queue is a list of objects, newest first. Names are one more than the
// object's number; 0 is nobody.
type queue struct {
	links  []link // by object; may be shared by queues that have no object in common
	newest uint32
	oldest uint32
	octets int64
}

type link struct{ newer, older uint32 }

func (q *queue) push(object uint32) {
	name := object + 1
	q.links[object] = link{older: q.newest}
	if q.newest != 0 {
		q.links[q.newest-1].newer = name
	} else {
		q.oldest = name
	}
	q.newest = name
}

func (q *queue) remove(object uint32) {
	l := q.links[object]
	if l.newer != 0 {
		q.links[l.newer-1].older = l.older
	} else {
		q.newest = l.older
	}
	if l.older != 0 {
		q.links[l.older-1].newer = l.newer
	} else {
		q.oldest = l.newer
	}
}

// lru lets the least recently used object leave.
type lru struct {
	space
	queue
	here []bool
}

// NewLRU returns a Policy that lets the least recently used object leave. The
// sizes must not change while it is used.
func NewLRU(room Room, sizes []int64) Policy {
	return &lru{space: newSpace(room, sizes), queue: queue{links: make([]link, len(sizes))}, here: make([]bool, len(sizes))}
}

func (c *lru) Request(object uint32) bool {
	if c.here[object] {
		c.remove(object)
		c.push(object)
		return true
	}
	if !c.fits(object) {
		return false
	}
	for c.short(object) {
		leaves := c.oldest - 1
		c.remove(leaves)
		c.here[leaves] = false
		c.drop(leaves)
	}
	c.push(object)
	c.here[object] = true
	c.add(object)
	return false
}

// sieve is SIEVE (Zhang et al., NSDI 2024): a queue by age in which a hand
// goes from old to new and takes the first that was not used since it passed.
type sieve struct {
	space
	queue
	mark []mark
	hand uint32 // a name; 0 is the oldest
}

type mark uint8

const (
	absent mark = iota
	unused
	used
)

// NewSIEVE returns a Policy by the algorithm SIEVE. The sizes must not change
// while it is used.
func NewSIEVE(room Room, sizes []int64) Policy {
	return &sieve{space: newSpace(room, sizes), queue: queue{links: make([]link, len(sizes))}, mark: make([]mark, len(sizes))}
}

func (c *sieve) Request(object uint32) bool {
	if c.mark[object] != absent {
		c.mark[object] = used
		return true
	}
	if !c.fits(object) {
		return false
	}
	for c.short(object) {
		c.evict()
	}
	c.push(object)
	c.mark[object] = unused
	c.add(object)
	return false
}

func (c *sieve) evict() {
	at := c.hand
	for {
		if at == 0 {
			at = c.oldest
		}
		if c.mark[at-1] == unused {
			break
		}
		c.mark[at-1] = unused
		at = c.links[at-1].newer
	}
	c.hand = c.links[at-1].newer
	c.remove(at - 1)
	c.mark[at-1] = absent
	c.drop(at - 1)
}

// s3fifo is S3-FIFO (Yang et al., SOSP 2023), its queues measured in octets:
// newcomers stand in a small queue of a tenth of the room; who is asked for
// twice there, or again soon after, goes to the main queue.
type s3fifo struct {
	space
	small, main, ghost queue // ghost: who left small, as many octets as main may have
	where              []place3
	uses               []uint8
}

type place3 uint8

const (
	nowhere place3 = iota
	inSmall
	inMain
	inGhost
)

// NewS3FIFO returns a Policy by the algorithm S3-FIFO. Objects larger than a
// tenth of the room are not kept. The sizes must not change while it is used.
func NewS3FIFO(room Room, sizes []int64) Policy {
	c := &s3fifo{space: newSpace(room, sizes), where: make([]place3, len(sizes)), uses: make([]uint8, len(sizes))}
	c.MaxObject = min(c.MaxObject, c.smallRoom()-c.Overhead)
	links := make([]link, len(sizes))
	c.small.links, c.main.links, c.ghost.links = links, links, links
	return c
}

func (c *s3fifo) smallRoom() int64 { return c.Capacity / 10 }

func (c *s3fifo) Request(object uint32) bool {
	if c.where[object] == inSmall || c.where[object] == inMain {
		c.uses[object] = min(c.uses[object]+1, 3)
		return true
	}
	if !c.fits(object) {
		return false
	}
	for c.short(object) {
		if c.small.octets >= c.smallRoom() || c.main.oldest == 0 {
			c.leaveSmall()
		} else {
			c.leaveMain()
		}
	}
	c.uses[object] = 0
	c.add(object)
	if c.where[object] == inGhost {
		c.take(&c.ghost, object)
		c.put(&c.main, object, inMain)
	} else {
		c.put(&c.small, object, inSmall)
	}
	return false
}

func (c *s3fifo) put(q *queue, object uint32, at place3) {
	q.push(object)
	q.octets += c.cost(object)
	c.where[object] = at
}

func (c *s3fifo) take(q *queue, object uint32) {
	q.remove(object)
	q.octets -= c.cost(object)
	c.where[object] = nowhere
}

// leaveSmall moves the oldest newcomer to the main queue or to the ghosts.
func (c *s3fifo) leaveSmall() {
	object := c.small.oldest - 1
	c.take(&c.small, object)
	if c.uses[object] > 1 {
		c.uses[object] = 0
		c.put(&c.main, object, inMain)
		return
	}
	c.drop(object)
	c.put(&c.ghost, object, inGhost)
	for c.ghost.octets > c.Capacity-c.smallRoom() {
		c.take(&c.ghost, c.ghost.oldest-1)
	}
}

// leaveMain lets the oldest object go that was not used of late.
func (c *s3fifo) leaveMain() {
	for {
		object := c.main.oldest - 1
		c.take(&c.main, object)
		if c.uses[object] == 0 {
			c.drop(object)
			return
		}
		c.uses[object]--
		c.put(&c.main, object, inMain)
	}
}
