package evict

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// What follows are the algorithms in their most obvious form: lists as slices,
// oldest first, and nothing remembered that can be counted.

type naive struct {
	room  Room
	sizes []int64
}

func (n *naive) cost(o uint32) int64 { return n.sizes[o] + n.room.Overhead }

func (n *naive) total(list []uint32) (sum int64) {
	for _, o := range list {
		sum += n.cost(o)
	}
	return sum
}

func (n *naive) fits(o uint32, limit int64) bool {
	most := n.room.MaxObject
	if most <= 0 {
		most = n.room.Capacity / 4
	}
	return n.sizes[o] <= min(most, limit) && n.cost(o) <= n.room.Capacity
}

func without(list []uint32, o uint32) []uint32 {
	return slices.DeleteFunc(list, func(x uint32) bool { return x == o })
}

type naiveLRU struct {
	naive
	list []uint32
}

func (c *naiveLRU) Request(o uint32) bool {
	if slices.Contains(c.list, o) {
		c.list = append(without(c.list, o), o)
		return true
	}
	if c.fits(o, 1<<62) {
		for c.list = append(c.list, o); c.total(c.list) > c.room.Capacity; {
			c.list = c.list[1:]
		}
	}
	return false
}

func (c *naiveLRU) all() []uint32 { return c.list }

type naiveSIEVE struct {
	naive
	list    []uint32
	visited map[uint32]bool
	hand    int // index of whom to look at next
}

func (c *naiveSIEVE) Request(o uint32) bool {
	if slices.Contains(c.list, o) {
		c.visited[o] = true
		return true
	}
	if c.fits(o, 1<<62) {
		for c.total(c.list)+c.cost(o) > c.room.Capacity {
			if c.hand >= len(c.list) {
				c.hand = 0
			}
			if at := c.list[c.hand]; c.visited[at] {
				c.visited[at] = false
				c.hand++
			} else {
				c.list = without(c.list, at) // the hand now points to the next younger
				if c.hand == len(c.list) {
					c.hand = 0
				}
			}
		}
		c.list = append(c.list, o)
	}
	return false
}

func (c *naiveSIEVE) all() []uint32 { return c.list }

type naiveS3 struct {
	naive
	small, main, ghost []uint32
	uses               map[uint32]int
}

func (c *naiveS3) Request(o uint32) bool {
	if slices.Contains(c.all(), o) {
		c.uses[o] = min(c.uses[o]+1, 3)
		return true
	}
	tenth := c.room.Capacity / 10
	if !c.fits(o, tenth-c.room.Overhead) {
		return false
	}
	for c.total(c.all())+c.cost(o) > c.room.Capacity {
		if c.total(c.small) >= tenth || len(c.main) == 0 {
			first := c.small[0]
			c.small = c.small[1:]
			if c.uses[first] > 1 {
				c.uses[first] = 0
				c.main = append(c.main, first)
				continue
			}
			for c.ghost = append(c.ghost, first); c.total(c.ghost) > c.room.Capacity-tenth; {
				c.ghost = c.ghost[1:]
			}
			continue
		}
		for c.uses[c.main[0]] > 0 {
			c.uses[c.main[0]]--
			c.main = append(c.main[1:], c.main[0])
		}
		c.main = c.main[1:]
	}
	c.uses[o] = 0
	if slices.Contains(c.ghost, o) {
		c.ghost = without(c.ghost, o)
		c.main = append(c.main, o)
	} else {
		c.small = append(c.small, o)
	}
	return false
}

func (c *naiveS3) all() []uint32 { return slices.Concat(c.small, c.main) }

// Each policy answers each request as its obvious form does, and charges what
// that one holds.
func TestPoliciesAgainstObvious(t *testing.T) {
	random := chance(t)
	for range 12 {
		sizes := make([]int64, 200)
		for i := range sizes {
			sizes[i] = random.Int64N(1 << (4 + random.IntN(8)))
		}
		room := Room{Capacity: 4000 + random.Int64N(30_000), Overhead: random.Int64N(100)}
		if random.IntN(2) == 0 {
			room.MaxObject = room.Capacity
		}
		base := naive{room, sizes}
		for name, pair := range map[string]struct {
			fast Policy
			slow interface {
				Request(uint32) bool
				all() []uint32
			}
		}{
			"lru":     {NewLRU(room, sizes), &naiveLRU{naive: base}},
			"sieve":   {NewSIEVE(room, sizes), &naiveSIEVE{naive: base, visited: map[uint32]bool{}}},
			"s3-fifo": {NewS3FIFO(room, sizes), &naiveS3{naive: base, uses: map[uint32]int{}}},
		} {
			for n := range 3000 {
				o := uint32(float64(len(sizes)) * random.Float64() * random.Float64())
				got, want := pair.fast.Request(o), pair.slow.Request(o)
				held := pair.slow.all()
				if got != want || pair.fast.Len() != len(held) || pair.fast.Used() != base.total(held) {
					t.Fatalf("%s, request %d of object %d in %+v: %v, %d objects, %d octets; want %v, %d, %d",
						name, n, o, room, got, pair.fast.Len(), pair.fast.Used(), want, len(held), base.total(held))
				}
			}
		}
	}
}

func policies(room Room, sizes []int64) map[string]Policy {
	return map[string]Policy{
		"shd":     NewSHD(room, sizes, Options{Seed: 1}),
		"lru":     NewLRU(room, sizes),
		"sieve":   NewSIEVE(room, sizes),
		"s3-fifo": NewS3FIFO(room, sizes),
	}
}

// No policy ever holds more than its room, counts a hit that it cannot have
// had, or keeps what is too large; a room for nothing holds nothing.
func TestPoliciesKeepToTheirRoom(t *testing.T) {
	random := chance(t)
	sizes := make([]int64, 3000)
	for i := range sizes {
		sizes[i] = random.Int64N(1 << (3 + random.IntN(15)))
	}
	for _, room := range []Room{{}, {Capacity: -5}, {Capacity: 1}, {Capacity: 100, Overhead: 101}, {Capacity: 5000, Overhead: 64}, {Capacity: 1 << 20, Overhead: 64}, {Capacity: 1 << 40}, {Capacity: 50_000, MaxObject: 1 << 40}} {
		for name, p := range policies(room, sizes) {
			seen := map[uint32]bool{}
			for range 20_000 {
				o := uint32(float64(len(sizes)) * random.Float64() * random.Float64())
				hit := p.Request(o)
				if hit && (!seen[o] || sizes[o]+room.Overhead > room.Capacity) {
					t.Fatalf("%s in %+v: object %d of %d octets cannot be there", name, room, o, sizes[o])
				}
				seen[o] = true
				if p.Used() > max(room.Capacity, 0) || p.Used() < 0 || p.Len() < 0 {
					t.Fatalf("%s in %+v holds %d objects, %d octets", name, room, p.Len(), p.Used())
				}
			}
			if room.Capacity == 1<<40 && p.Len() != len(seen) {
				t.Errorf("%s: there was room for all, and %d of %d are there", name, p.Len(), len(seen))
			}
		}
	}
}

// A scan of objects asked for once takes less from SHD than from LRU.
func TestSHDWithstandsScans(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := make([]int64, 50_000)
	for i := range sizes {
		sizes[i] = 1000
	}
	hits := map[string]int{}
	for name, p := range policies(Room{Capacity: 500_000, Overhead: 64}, sizes) {
		for n := range 40_000 {
			p.Request(uint32(10_000 + n)) // once
			if p.Request(uint32(400 * random.Float64() * random.Float64())) {
				hits[name]++
			}
		}
	}
	if hits["shd"] < hits["lru"]+4000 {
		t.Error("hits of 40000:", fmt.Sprint(hits))
	}
}
