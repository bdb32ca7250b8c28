package index

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeded returns a source of chance, and tells its seed if the test fails.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// A model is what an index must come to: entries by hash and address.
type model map[uint64]map[uint64]Ref

func (m model) insert(hash uint64, ref Ref) {
	if m[hash] == nil {
		m[hash] = map[uint64]Ref{}
	}
	m[hash][ref.Addr] = ref
}

func (m model) remove(hash, addr uint64) bool {
	_, ok := m[hash][addr]
	delete(m[hash], addr)
	return ok
}

func (m model) dropAddrs(lo, hi uint64) (n int) {
	for _, refs := range m {
		for addr := range refs {
			if lo <= addr && addr < hi {
				delete(refs, addr)
				n++
			}
		}
	}
	return n
}

func (m model) len() (n int) {
	for _, refs := range m {
		n += len(refs)
	}
	return n
}

// check compares all that x knows with m, and that x keeps its own rules.
func (m model) check(t testing.TB, x *Index) {
	t.Helper()
	if x.Len() != m.len() {
		t.Fatalf("Len is %d, want %d", x.Len(), m.len())
	}
	for hash, want := range m {
		if got := x.Find(hash, nil); !sameRefs(got, want) {
			t.Fatalf("%016x has %+v, want %+v", hash, got, want)
		}
	}
	checkRules(t, x)
}

func sameRefs(got []Ref, want map[uint64]Ref) bool {
	for _, ref := range got {
		if want[ref.Addr] != ref {
			return false
		}
	}
	byAddr := func(a, b Ref) int { return cmp.Compare(a.Addr, b.Addr) }
	slices.SortFunc(got, byAddr)
	return len(got) == len(want) && len(slices.Compact(got)) == len(want)
}

// checkRules tells whether tables are filled as they should be, and whether all
// chunks are somewhere.
func checkRules(t testing.TB, x *Index) {
	t.Helper()
	entries, chunks := 0, len(x.pool.free)+len(x.pool.fresh)/chunkWords
	for i := range x.partitions {
		p := &x.partitions[i]
		n := 0
		for range p.table.Load().all {
			n++
		}
		if n != p.n {
			t.Fatalf("partition %d has %d entries and counts %d", i, n, p.n)
		}
		entries += n
		if table := p.table.Load(); table != nil {
			chunks += len(table.chunks)
			if n*16 > table.slots()*maxFill || len(table.chunks) > 8 && n*16 < table.slots()*(minFill-1) {
				t.Fatalf("partition %d has %d entries in %d slots", i, n, table.slots())
			}
		}
	}
	if entries != x.Len() {
		t.Fatalf("%d entries, Len is %d", entries, x.Len())
	}
	if int64(chunks)*chunkOctets != x.pool.slabs {
		t.Fatalf("%d chunks in %d octets: some are lost", chunks, x.pool.slabs)
	}
}

// randomRef returns any Ref at addr.
func randomRef(r *rand.Rand, addr uint64) Ref {
	return Ref{Addr: addr, Class: uint8(r.IntN(MaxClass + 1)), Hits: uint8(r.IntN(MaxHits + 1)), Flags: Flags(r.Uint32())}
}

// A world says which hashes a model test uses. Those of few partitions make them
// grow, those of few values make collisions and runs that go around the end.
type world struct {
	name   string
	hashes func(r *rand.Rand) uint64
	addrs  uint64
}

var worlds = []world{
	{"spread", func(r *rand.Rand) uint64 { return hashAt(r.Uint64N(3000)) }, 4},
	{"two partitions", func(r *rand.Rand) uint64 { return hashAt(r.Uint64N(3000)) &^ (0x7f << 56) }, 4},
	{"few hashes", func(r *rand.Rand) uint64 { return hashAt(r.Uint64N(20)) }, 60},
	{"one hash", func(*rand.Rand) uint64 { return 0 }, 300},
	{"last bucket", func(r *rand.Rand) uint64 { return ^(r.Uint64N(100) << 46) }, 4},
	{"ends of the ring", func(r *rand.Rand) uint64 { return (r.Uint64N(100)<<44 - 50<<44) & (1<<56 - 1) }, 4},
}

// The index is a set of Refs by hash, whatever is done in whatever order.
func TestModel(t *testing.T) {
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			r := seeded(t)
			x, m := New(Options{}), model{}
			for step := range 24_000 {
				// First more is inserted than removed, then less.
				tide := 5 - 4*(step/6_000%2)
				m.step(t, r, x, w, tide)
				if step%2_000 == 0 {
					m.check(t, x)
				}
			}
			m.check(t, x)
			n := x.DropAddrs(0, MaxAddr+1)
			if n != m.len() || x.Len() != 0 {
				t.Errorf("dropping all dropped %d of %d, and %d are left", n, m.len(), x.Len())
			}
			checkRules(t, x)
		})
	}
}

// step does one thing to x and m. Of ten steps, tide insert.
func (m model) step(t *testing.T, r *rand.Rand, x *Index, w world, tide int) {
	t.Helper()
	hash, addr := w.hashes(r), r.Uint64N(w.addrs)
	old, had := m[hash][addr]
	switch d := r.IntN(10); {
	case d < tide:
		ref := randomRef(r, addr)
		x.Insert(hash, ref)
		m.insert(hash, ref)
	case d < 6:
		if got := x.Remove(hash, addr); got != m.remove(hash, addr) {
			t.Fatalf("Remove said %v", got)
		}
	case d == 6:
		ref := randomRef(r, r.Uint64N(w.addrs))
		if got := x.Replace(hash, addr, ref); got != had {
			t.Fatalf("Replace said %v", got)
		}
		if had {
			m.remove(hash, addr)
			m.insert(hash, ref)
		}
	case d == 7:
		set, unset := Flags(r.Uint32()), Flags(r.Uint32())
		if got := x.Update(hash, addr, set, unset); got != had {
			t.Fatalf("Update said %v", got)
		}
		if had {
			old.Flags = (old.Flags | set) &^ unset
			m.insert(hash, old)
		}
	case d == 8:
		x.Touch(hash, addr)
		if had {
			old.Hits = min(old.Hits+1, MaxHits)
			m.insert(hash, old)
		}
	default:
		if r.IntN(1000) == 0 {
			lo := r.Uint64N(w.addrs)
			hi := lo + r.Uint64N(w.addrs/2)
			if got, want := x.DropAddrs(lo, hi), m.dropAddrs(lo, hi); got != want {
				t.Fatalf("DropAddrs removed %d, want %d", got, want)
			}
		} else if got := x.Find(hash, nil); !sameRefs(got, m[hash]) {
			t.Fatalf("Find says %+v, want %+v", got, m[hash])
		}
	}
}

// Find appends, and neither it nor Touch allocates.
func TestFindAppends(t *testing.T) {
	x := New(Options{})
	ref := Ref{Addr: MaxAddr, Class: MaxClass, Hits: MaxHits, Flags: 0xff}
	x.Insert(7, ref)
	x.Insert(7, Ref{})
	into := make([]Ref, 1, 3)
	into[0] = Ref{Addr: 42}
	got := x.Find(7, into)
	if len(got) != 3 || got[0].Addr != 42 || !slices.Contains(got, ref) || !slices.Contains(got, Ref{}) || &got[0] != &into[0] {
		t.Errorf("Find says %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		x.Find(7, into[:0])
		x.Find(8, nil)
		x.Find(1<<60, nil)
		x.Touch(7, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Memory an entry, spare room included: at most 24 octets at any count from a
// million on, at most a MiB besides below.
func TestOctets(t *testing.T) {
	n := int64(many)
	x := New(Options{})
	check := func() {
		t.Helper()
		limit := 24 * int64(x.Len())
		if x.Len() < 1_000_000 {
			limit += 1 << 20
		}
		if x.Bytes() > limit {
			t.Fatalf("%d octets at %d entries, want at most %d", x.Bytes(), x.Len(), limit)
		}
	}
	for i := range uint64(n) {
		insert(x, i)
		if i%1000 == 0 {
			check()
		}
	}
	check()
	t.Logf("%.2f octets an entry", perEntry(x))

	// What goes makes room for what comes,
	for i := range uint64(n) {
		remove(x, i)
		insert(x, uint64(n)+i)
	}
	check()
	// also if it comes elsewhere.
	for i := range uint64(n) {
		remove(x, uint64(n)+i)
	}
	checkRules(t, x)
	for i := range uint64(n) {
		h := hashAt(i) &^ (0xf << 60) // a sixteenth of the partitions
		x.Insert(h, refOf(h))
	}
	check()
}

func insert(x *Index, i uint64) {
	h := hashAt(i)
	x.Insert(h, refOf(h))
}

func remove(x *Index, i uint64) bool {
	h := hashAt(i)
	return x.Remove(h, h&MaxAddr)
}

func TestAlloc(t *testing.T) {
	given := 0
	x := New(Options{Alloc: func(octets int) []uint64 {
		if octets < minSlab || octets%chunkOctets != 0 {
			t.Errorf("it asks for %d octets", octets)
		}
		given++
		switch given % 3 {
		case 0:
			return nil
		case 1:
			return make([]uint64, octets/8+1)
		}
		return make([]uint64, 1)
	}})
	m := model{}
	for i := range uint64(20_000) {
		h := hashAt(i)
		x.Insert(h, refOf(h))
		m.insert(h, refOf(h))
	}
	m.check(t, x)
	if given < 2 {
		t.Errorf("it asked %d times", given)
	}
}

// A Ref that does not fit is a mistake of the caller, and not stored cut off.
func TestOutOfRange(t *testing.T) {
	for _, ref := range []Ref{{Addr: MaxAddr + 1}, {Class: MaxClass + 1}, {Hits: MaxHits + 1}} {
		x := New(Options{})
		x.Insert(1, Ref{})
		for name, do := range map[string]func(){
			"Insert":  func() { x.Insert(1, ref) },
			"Replace": func() { x.Replace(1, 0, ref) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s took %+v", name, ref)
					}
				}()
				do()
			}()
		}
		if got := x.Find(1, nil); len(got) != 1 || got[0] != (Ref{}) {
			t.Errorf("after %+v there is %+v", ref, got)
		}
	}
}

func TestClass(t *testing.T) {
	for c, want := range []int64{512, 768, 1024, 1536, 2048, 3072} {
		if got := ClassSize(uint8(c)); got != want {
			t.Errorf("ClassSize(%d) = %d, want %d", c, got, want)
		}
	}
	for c := range uint8(MaxClass + 1) {
		size := ClassSize(c)
		if got := Class(size); got != c {
			t.Errorf("Class(%d) = %d, want %d", size, got, c)
		}
		if got := Class(size + 1); got != min(c+1, MaxClass) {
			t.Errorf("Class(%d) = %d, want %d", size+1, got, c+1)
		}
	}
	for _, size := range []int64{-1, 0, 1} {
		if Class(size) != 0 {
			t.Errorf("Class(%d) = %d", size, Class(size))
		}
	}
	if got := Class(1<<63 - 1); got != MaxClass {
		t.Errorf("the largest size has class %d", got)
	}
}

// The words of a slot have room for all that is in them.
func TestLayout(t *testing.T) {
	all := Ref{Addr: MaxAddr, Class: MaxClass, Hits: MaxHits, Flags: 0xff}
	if word := all.pack(); bits.OnesCount64(word) != wordBits || unpack(word) != all {
		t.Errorf("%+v becomes %x and then %+v", all, word, unpack(word))
	}
	for _, h := range []uint64{0, 1, 1 << 55, 1 << 56, 1 << 63, ^uint64(0)} {
		if got := hashOf(int(h>>56), keyOf(h)); got != h || keyOf(h) == 0 {
			t.Errorf("%016x becomes %016x", h, got)
		}
	}
}
