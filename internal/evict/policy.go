package evict

// A Policy is a cache without bodies: what a simulation asks for hits. It is
// for one goroutine. Objects are numbered from 0 and keep their size.
type Policy interface {
	// Request asks for an object. It reports whether the object was there;
	// if not, it may be there from now on.
	Request(object uint32) (hit bool)
	// Used returns the octets charged. It never exceeds Room.Capacity.
	Used() int64
	// Len returns the number of objects that are there.
	Len() int
}

// Room is the space that a Policy has. All are octets.
type Room struct {
	// Capacity is for everything together. Zero or less holds nothing.
	Capacity int64
	// Overhead is charged for each object beside its size.
	Overhead int64
	// MaxObject is the largest size that is kept. Zero or less means a quarter
	// of Capacity.
	MaxObject int64
}

// A space is a Room and what is used of it.
type space struct {
	Room
	sizes []int64 // by object; shared, not changed
	used  int64
	n     int
}

func newSpace(room Room, sizes []int64) space {
	if room.MaxObject <= 0 {
		room.MaxObject = room.Capacity / 4
	}
	return space{Room: room, sizes: sizes}
}

func (s *space) Used() int64 { return s.used }
func (s *space) Len() int    { return s.n }

func (s *space) cost(object uint32) int64 { return s.sizes[object] + s.Overhead }

// fits tells whether an object may be kept at all.
func (s *space) fits(object uint32) bool {
	return s.sizes[object] <= s.MaxObject && s.cost(object) <= s.Capacity
}

// short tells whether something must leave before an object comes.
func (s *space) short(object uint32) bool { return s.used+s.cost(object) > s.Capacity }

func (s *space) add(object uint32) {
	s.used += s.cost(object)
	s.n++
}

func (s *space) drop(object uint32) {
	s.used -= s.cost(object)
	s.n--
}

// shdCache runs an SHD as a store would.
type shdCache struct {
	space
	shd    *SHD
	slotOf []uint32 // by object; one more than the slot, or 0
	object []uint32 // by slot
	free   []uint32 // slots
}

// NewSHD returns the Policy of Larder's own stores, of one shard. The sizes
// are those of the objects, which must not change while the Policy is used.
func NewSHD(room Room, sizes []int64, opts Options) Policy {
	return &shdCache{space: newSpace(room, sizes), shd: New(opts), slotOf: make([]uint32, len(sizes))}
}

func (c *shdCache) Request(object uint32) bool {
	if slot := c.slotOf[object]; slot != 0 {
		c.shd.Hit(slot - 1)
		return true
	}
	if c.fits(object) {
		c.shd.Miss(hashOf(object))
		if c.makeRoom(object) {
			c.insert(object)
		}
	}
	return false
}

// makeRoom reports false if the object is not admitted.
func (c *shdCache) makeRoom(object uint32) bool {
	for asked := false; c.short(object); asked = true {
		v, ok := c.shd.Victim(nil)
		if !ok || !asked && !c.shd.Admit(hashOf(object), c.sizes[object], v) {
			return false
		}
		leaves := c.object[v.Slot]
		c.shd.Evict(v, hashOf(leaves))
		c.slotOf[leaves] = 0
		c.free = append(c.free, v.Slot)
		c.drop(leaves)
	}
	return true
}

func (c *shdCache) insert(object uint32) {
	slot := uint32(len(c.object))
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
	} else {
		c.object = append(c.object, 0)
	}
	if c.shd.Insert(slot, hashOf(object), c.sizes[object]) {
		c.object[slot] = object
		c.slotOf[object] = slot + 1
		c.add(object)
	}
}

func hashOf(object uint32) uint64 { return mix(uint64(object) + 1) }
