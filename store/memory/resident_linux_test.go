package memory

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/larderhq/larder/store"
)

// resident asks the kernel how much memory s has: of its mappings, page by
// page.
func resident(t *testing.T, s *Store) (octets int64) {
	t.Helper()
	seen := map[*region]bool{}
	regions := append([]*region{s.sheets}, s.small...)
	regions = append(regions, s.large...)
	for i := range s.shards {
		sh := &s.shards[i]
		regions = append(regions, sh.book.pages, sh.index.places, sh.words.region)
	}
	var there []byte
	for _, r := range regions {
		if seen[r] || r.mem == nil {
			continue
		}
		seen[r] = true
		const piece = 1 << 30
		for at := 0; at < len(r.mem); at += piece {
			mem := r.mem[at:min(at+piece, len(r.mem))]
			if n := len(mem) / pageSize; len(there) < n {
				there = make([]byte, n)
			}
			_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(unsafe.Pointer(&there[0])))
			if errno != 0 {
				t.Fatal(errno)
			}
			for _, p := range there[:len(mem)/pageSize] {
				octets += int64(p&1) * pageSize
			}
		}
	}
	return octets
}

// Memory serves whatever comes: as the mix of sizes changes, the store goes on
// being full of what came last, and the kernel never gives it more than its
// budget.
func TestChangingMix(t *testing.T) {
	const budget = 24 << 20
	s := New(Options{Budget: budget, MaxObject: budget / 8})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	next := 0
	phase := func(name string, size func() int) {
		t.Helper()
		evictions, stored := s.Stats().Evictions, int64(0)
		for stored < 3*budget/2 {
			n := size()
			key := fmt.Sprint(next)
			next++
			body := make([]byte, n)
			for range 3 { // known on the second try, and admitted
				if _, err := put(s, key, body, int64(n), n+1); err == nil {
					break
				}
			}
			stored += int64(n) + 300
			if next%2048 == 0 {
				if got := resident(t, s); got > budget {
					t.Fatalf("%s: the kernel has given %d octets of %d", name, got, budget)
				}
			}
		}
		st := s.Stats()
		got := resident(t, s)
		if got > budget || got > st.Used || st.Used-got > budget/16 {
			t.Errorf("%s: the kernel has given %d octets, charged are %d of %d", name, got, st.Used, budget)
		}
		useful := float64(st.Bytes+int64(st.Objects)*overhead) / budget
		t.Logf("%s: %d objects, %.1f %% content, %.1f %% with what each costs, resident %.1f %%, %d evictions", name, st.Objects,
			float64(st.Bytes)*100/budget, useful*100, float64(got)*100/budget, st.Evictions-evictions)
		if useful < 0.85 {
			t.Errorf("%s: only %.1f %% of the budget is of use: %+v", name, useful*100, st)
		}
		audit(t, s)
	}
	tiny := func() int { return 100 + r.IntN(400) }
	phase("tiny", tiny)
	phase("64 KiB", func() int { return 50_000 + r.IntN(30_000) })
	phase("1 MiB", func() int { return 700_000 + r.IntN(600_000) })
	phase("tiny again", tiny)
	phase("5 KiB", func() int { return 4000 + r.IntN(2000) })
	phase("all", func() int { return 1 << r.IntN(20) })
	phase("16 KiB", func() int { return 16 << 10 })
	wantEmpty(t, s)
	if got := resident(t, s); got > 0 {
		t.Errorf("%d octets are left after Close", got)
	}
	runtime.KeepAlive(s) // or its addresses may be given back while they are looked at
}

// BenchmarkBookkeeping prints what each of a million objects of 1 KiB costs
// beside its key, head and body.
func BenchmarkBookkeeping(b *testing.B) {
	const objects = 1_000_000
	for b.Loop() {
		s := New(Options{Budget: 2 << 30})
		body, head := make([]byte, 1024), make([]byte, 200)
		for i := range objects {
			w, err := s.Create(ctx, fmt.Appendf(nil, "https://www.example.com/some/path/%d", i), store.Head{Octets: head}, int64(len(body)))
			if err != nil {
				b.Fatal(err)
			}
			w.Write(body)
			if _, err := w.Commit(ctx); err != nil {
				b.Fatal(err)
			}
		}
		st := s.Stats()
		var sheets, records int64
		for i := range s.shards {
			sh := &s.shards[i]
			sheets += sh.sheets.count * int64(sh.sheets.size)
			for n := range sh.book.top {
				records += sh.book.at(n).record()
			}
		}
		const inRecord = 4
		b.ReportMetric(float64(st.Bookkeeping)/objects+inRecord, "octets/object")
		b.ReportMetric(float64(records-st.Bytes-inRecord*objects)/objects, "rounding/object")
		b.ReportMetric(float64(sheets-records)/objects, "sheetwaste/object")
		b.ReportMetric(float64(s.fixed)/objects, "fixed/object")
		if st.Objects != objects {
			b.Fatalf("%+v", st)
		}
		s.Close()
	}
}
