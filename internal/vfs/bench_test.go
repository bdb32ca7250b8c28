package vfs

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const segment = 64 << 20 // octets

// BenchmarkMem is what the disk store's crash tests do most.
func BenchmarkMem(b *testing.B) {
	for _, size := range []int{512, 4 << 10, 64 << 10} {
		p := make([]byte, size)
		at := func(i int) int64 { return int64(i) * int64(size) % segment }
		b.Run(fmt.Sprintf("write/%d", size), func(b *testing.B) {
			f := openFile(b, &Mem{}, "a", create)
			b.SetBytes(int64(size))
			for i := range b.N {
				_, err := f.WriteAt(p, at(i))
				must(b, err)
				if i%64 == 63 {
					must(b, f.Sync())
				}
			}
		})
		b.Run(fmt.Sprintf("read/%d", size), func(b *testing.B) {
			f := openFile(b, &Mem{}, "a", create)
			must(b, f.Allocate(segment))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := range b.N {
				_, err := f.ReadAt(p, at(i))
				must(b, err)
			}
		})
	}
}

// BenchmarkCrash crashes a store of 16 segments of 1 MiB each, with 20
// unsynced writes.
func BenchmarkCrash(b *testing.B) {
	m, p := &Mem{}, make([]byte, 1<<20)
	var last File
	for i := range 16 {
		last = openFile(b, m, fmt.Sprint(i), create)
		_, err := last.WriteAt(p, 0)
		must(b, err)
		must(b, last.Sync())
	}
	must(b, m.Sync())
	for i := range int64(20) {
		_, err := last.WriteAt(p[:2048], i*2048)
		must(b, err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, mode := range []CrashMode{ProcessDied, UnsyncedLost, PowerCut} {
		b.Run(fmt.Sprintf("mode/%d", mode), func(b *testing.B) {
			for range b.N {
				m.Clone().Crash(r, mode)
			}
		})
	}
}
