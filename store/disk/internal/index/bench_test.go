package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// hashAt returns the i-th of a sequence of hashes that are all different and
// evenly distributed.
func hashAt(i uint64) uint64 {
	i *= 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	return i ^ i>>31
}

// refOf returns a Ref that tells of which hash it is.
func refOf(hash uint64) Ref {
	return Ref{Addr: hash & MaxAddr, Class: uint8(hash >> 40 & MaxClass), Flags: Flags(hash >> 46)}
}

func filled(n int) *Index {
	x := New(Options{})
	for i := range n {
		h := hashAt(uint64(i))
		x.Insert(h, refOf(h))
	}
	return x
}

func perEntry(x *Index) float64 { return float64(x.Bytes()) / float64(x.Len()) }

func saved(t testing.TB, x *Index) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := x.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sizes are those of which the benchmarks tell.
var sizes = []int{1e6, 1e7}

func BenchmarkFind(b *testing.B) {
	for _, n := range sizes {
		x := filled(n)
		for _, kind := range []struct {
			name string
			from uint64
		}{{"present", 0}, {"absent", uint64(n)}} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				into := make([]Ref, 0, 8)
				r := rand.New(rand.NewPCG(1, 2))
				b.ReportAllocs()
				for b.Loop() {
					into = x.Find(hashAt(kind.from+r.Uint64N(uint64(n))), into[:0])
				}
				b.ReportMetric(perEntry(x), "octets/entry")
			})
		}
		b.Run(fmt.Sprintf("parallel/%d", n), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				into := make([]Ref, 0, 8)
				r := rand.New(rand.NewPCG(1, rand.Uint64()))
				for pb.Next() {
					into = x.Find(hashAt(r.Uint64N(uint64(n))), into[:0])
				}
			})
		})
		b.Run(fmt.Sprintf("touch/%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				h := hashAt(r.Uint64N(uint64(n)))
				x.Touch(h, h&MaxAddr)
			}
		})
	}
}

// BenchmarkInsert tells of an insertion on the way from an empty index to n.
func BenchmarkInsert(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				filled(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}

// BenchmarkChurn tells of taking one record out and putting another in, as
// a log does that is full.
func BenchmarkChurn(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := filled(n)
			at := uint64(0)
			for b.Loop() {
				old, h := hashAt(at), hashAt(at+uint64(n))
				x.Remove(old, old&MaxAddr)
				x.Insert(h, refOf(h))
				at++
			}
			b.ReportMetric(perEntry(x), "octets/entry")
		})
	}
}

func BenchmarkSave(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := filled(n)
			for b.Loop() {
				saved(b, x)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stream := saved(b, filled(n))
			for b.Loop() {
				x := New(Options{})
				if err := x.Load(bytes.NewReader(stream), nil); err != nil || x.Len() != n {
					b.Fatal(x.Len(), err)
				}
				b.ReportMetric(perEntry(x), "octets/entry")
			}
		})
	}
}

// BenchmarkOctets tells how much memory an entry takes at many counts on the
// way to ten million, and the worst of them.
func BenchmarkOctets(b *testing.B) {
	for b.Loop() {
		x := New(Options{})
		worst := 0.0
		for i := range uint64(1e7) {
			h := hashAt(i)
			x.Insert(h, refOf(h))
			if n := x.Len(); n >= 1e6 && n%10_000 == 0 {
				worst = max(worst, perEntry(x))
				if n == 1e6 || n == 2e6 || n == 3e6 || n == 5e6 || n == 7e6 || n == 1e7 {
					b.ReportMetric(perEntry(x), fmt.Sprintf("octets@%dM", n/1e6))
				}
			}
		}
		b.ReportMetric(worst, "octets@worst")
		if worst > 24 {
			b.Errorf("%.2f octets an entry at the worst, want at most 24", worst)
		}
	}
}
