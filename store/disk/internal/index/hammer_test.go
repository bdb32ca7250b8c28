package index

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// The hammer uses four kinds of entries, by the last bits of a number: pinned
// ones are always there, moving ones are always there at one of two addresses,
// the others come and go. All that a Ref says follows from the hash and a
// version, so that one made of two is noticed.
const (
	pinned = iota
	moving
	coming
	bulk
)

// hammerHash has few partitions, and homes close together, so that buckets
// overflow and tables change their size.
func hammerHash(i uint64) uint64 {
	h := hashAt(i)
	if i&8 != 0 {
		h &^= 0xff << 48
	}
	return h &^ (0x7f << 56)
}

func hammerRef(hash, version uint64) Ref {
	return Ref{Addr: hash&(1<<32-1)<<8 | version, Class: uint8(hash >> 32 & MaxClass), Flags: Flags(hash >> 38)}
}

// whole tells that ref was inserted under hash.
func whole(hash uint64, ref Ref) bool {
	want := hammerRef(hash, ref.Addr&0xff)
	want.Hits = ref.Hits
	return ref == want
}

// Readers see whole entries, none twice, and each that is there all the time,
// whatever writers do.
func TestHammer(t *testing.T) {
	const kinds, each = 4, 250
	r := seeded(t)
	x := New(Options{})
	for i := range uint64(kinds * each) {
		if i%kinds == pinned || i%kinds == moving {
			x.Insert(hammerHash(i), hammerRef(hammerHash(i), 0))
		}
	}
	stream := saved(t, x)

	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		seed := r.Uint64()
		readers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			var into []Ref
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := r.Uint64N(kinds * each)
				hash := hammerHash(i)
				into = x.Find(hash, into[:0])
				for _, ref := range into {
					if !whole(hash, ref) {
						t.Errorf("%016x has %+v", hash, ref)
						return
					}
					x.Touch(hash, ref.Addr)
				}
				if n := len(into); (i%kinds == pinned || i%kinds == moving) && n != 1 || n > 1 && (n > 2 || into[0].Addr == into[1].Addr) {
					t.Errorf("%016x of kind %d has %+v", hash, i%kinds, into)
					return
				}
			}
		})
	}
	rounds := max(2, many/100_000)
	writers.Go(func() { // replaces
		for v := range uint64(rounds * 8) {
			for i := uint64(moving); i < kinds*each; i += kinds {
				hash := hammerHash(i)
				if !x.Replace(hash, hammerRef(hash, v&1).Addr, hammerRef(hash, 1-v&1)) {
					t.Errorf("%016x is gone", hash)
				}
			}
		}
	})
	for range 2 { // insert and remove the same ones
		seed := r.Uint64()
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			for range rounds * 8 * each {
				hash := hammerHash(r.Uint64N(each)*kinds + coming)
				ref := hammerRef(hash, r.Uint64N(2))
				if r.IntN(2) == 0 {
					x.Insert(hash, ref)
				} else {
					x.Remove(hash, ref.Addr)
				}
			}
		})
	}
	writers.Go(func() { // lets tables grow and shrink
		for range rounds * 4 {
			for i := uint64(bulk); i < kinds*each; i += kinds {
				x.Insert(hammerHash(i), hammerRef(hammerHash(i), 7))
				x.Update(hammerHash(i), hammerRef(hammerHash(i), 7).Addr, 0, 0)
			}
			for i := uint64(bulk); i < kinds*each; i += kinds {
				if hash := hammerHash(i); !x.Remove(hash, hammerRef(hash, 7).Addr) {
					t.Errorf("%016x is gone", hash)
				}
			}
		}
	})
	writers.Go(func() { // saves, loads what is known, and fails to load
		for range rounds {
			if err := x.Save(io.Discard); err != nil {
				t.Error(err)
			}
			if err := x.Load(bytes.NewReader(stream), func(ref Ref) bool { return ref.Addr&0xff == 2 }); err != nil {
				t.Error(err)
			}
			if err := x.Load(bytes.NewReader(stream[:len(stream)-1]), nil); err == nil {
				t.Error("a stream cut short was loaded")
			}
			x.DropAddrs(MaxAddr, MaxAddr+1)
		}
	})
	writers.Wait()
	close(stop)
	readers.Wait()
	checkRules(t, x)
}

// Two keys take turns in one slot, and one entry is replaced by another that is
// there already. What a Find says is always one of the states that were.
func TestEachStateIsWhole(t *testing.T) {
	x := New(Options{})
	hashes := []uint64{1 << 40, 1<<40 | 1}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, hash := range hashes {
		a, b := hammerRef(hash, 0), hammerRef(hash, 1)
		c := b
		c.Hits = 1
		states := [][]Ref{{}, {a}, {a, b}, {c}}
		readers.Go(func() {
			var into []Ref
			for {
				select {
				case <-stop:
					return
				default:
				}
				into = x.Find(hash, into[:0])
				if !slices.ContainsFunc(states, func(s []Ref) bool { return slices.Equal(s, into) }) {
					t.Errorf("%016x has %+v", hash, into)
					return
				}
			}
		})
	}
	for range many / 5 {
		for _, hash := range hashes {
			a, b := hammerRef(hash, 0), hammerRef(hash, 1)
			x.Insert(hash, a)
			x.Insert(hash, b)
			c := b
			c.Hits = 1
			x.Replace(hash, a.Addr, c)
			x.Remove(hash, c.Addr)
		}
	}
	close(stop)
	readers.Wait()
}

// A chunk that one partition gave back serves another while readers of the first
// may still be in it: the sequence tells them that what they find is not theirs.
func TestReadersOfReplacedTables(t *testing.T) {
	hash := func(partition, i uint64) uint64 { return hashAt(i)&^(0xff<<56) | partition<<56 }
	for name, replace := range map[string]func(x *Index, stream []byte){
		"grow": func(x *Index, _ []byte) {
			for i := range uint64(chunkSlots) {
				x.Insert(hash(0, i+2000), Ref{Addr: 1})
			}
		},
		"shrink": func(x *Index, _ []byte) {
			for i := range uint64(1000) {
				x.Remove(hash(0, i+1), 1)
			}
		},
		"load": func(x *Index, stream []byte) {
			if err := load(x, stream); err != nil {
				t.Error(err)
			}
		},
	} {
		x := New(Options{})
		for i := range uint64(1000) {
			x.Insert(hash(0, i), Ref{Addr: 1})
		}
		stream := saved(t, x)

		// A reader that takes its time: it has the table,
		p := &x.partitions[0]
		seq, table := p.seq.Load(), p.table.Load()
		replace(x, stream)
		for i := range uint64(1000) { // and now its chunks are in another partition,
			x.Insert(hash(1, i), Ref{Addr: 2})
		}
		foreign := 0
		for i := range uint64(1000) {
			for _, ref := range table.find(keyOf(hash(0, i)), nil) {
				foreign += int(ref.Addr) - 1
			}
		}
		if foreign == 0 {
			t.Errorf("%s: no chunk was used again", name)
		}
		if p.seq.Load() == seq { // but it will look again.
			t.Errorf("%s: the sequence is as it was", name)
		}
		checkRules(t, x)
	}
}
