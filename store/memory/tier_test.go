package memory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// A copied is an Object that outlasts the call.
type copied struct {
	key, head, body []byte
	store.Object
}

func copyOf(t *testing.T, o *store.Object) copied {
	t.Helper()
	body, err := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Size+1))
	if err != nil || int64(len(body)) != o.Size {
		t.Errorf("the body of %q reads as %d octets of %d, or %v", o.Key, len(body), o.Size, err)
	}
	c := copied{key: bytes.Clone(o.Key), head: bytes.Clone(o.Head.Octets), body: body, Object: *o}
	c.Key, c.Head.Octets, c.Body = c.key, c.head, bytes.NewReader(body)
	return c
}

// What leaves says all about itself while Lookup still finds it, and comes
// back as it was.
func TestLeaving(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		var left []copied
		var s *Store
		now := int64(1000)
		s = New(Options{Budget: 4 << 20, MaxObject: 1 << 20, Heap: heap, Now: func() int64 { return now }, Leaving: func(o *store.Object) {
			if sh, hash := s.locate(o.Key); o.Head.Until != 1 {
				if n, _ := sh.of(hash, o.Key, o.ID); sh.book.at(n).id != o.ID {
					t.Errorf("%q leaves and is gone already", o.Key)
				}
			} else {
				t.Errorf("%q leaves and had expired", o.Key)
			}
			left = append(left, copyOf(t, o))
		}})
		defer s.Close()
		want := map[string]copied{}
		for i := range 400 {
			key := fmt.Sprint("key ", i)
			size := []int{10, 3000, 5000, 20_000, 100_000}[i%5]
			body := make([]byte, size)
			fillOctets(body, uint64(i))
			until := int64(5000 + i)
			if i%4 == 3 {
				until = 1
			}
			o := store.Object{
				Key: store.Key(key), ID: store.ID(i + 1), Rev: uint32(i % 3), Mark: uint64(i * 7),
				Head: store.Head{Octets: []byte("head of " + key), Until: until},
				Size: int64(size), Body: bytes.NewReader(body),
			}
			for range 3 { // known the second time
				if err := s.Put(&o); err == nil {
					break
				} else if !errors.Is(err, store.ErrFull) {
					t.Fatal(err)
				}
			}
			want[key] = copied{body: body, head: o.Head.Octets, Object: o}
			if i == 200 {
				if err := s.Remove(ctx, o.Key, o.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		audit(t, s)
		check := func(c copied) {
			w := want[string(c.key)]
			if c.ID != w.ID || c.Rev != w.Rev || c.Mark != w.Mark || c.Head.Until != w.Head.Until || !bytes.Equal(c.head, w.head) || !bytes.Equal(c.body, w.body) {
				t.Errorf("%q left as %d/%d, mark %d, until %d, %d octets of head, %d of body; want %d/%d, %d, %d, %d, %d", c.key,
					c.ID, c.Rev, c.Mark, c.Head.Until, len(c.head), len(c.body), w.ID, w.Rev, w.Mark, w.Head.Until, len(w.head), len(w.body))
			}
		}
		for _, c := range left {
			check(c)
		}
		kept := 0
		s.Each(func(o *store.Object) bool {
			check(copyOf(t, o))
			kept++
			return true
		})
		if st := s.Stats(); kept != st.Objects || len(left) == 0 || uint64(len(left)) > st.Evictions {
			t.Errorf("%d kept, %d left: %+v", kept, len(left), st)
		}
		seen := 0
		s.Each(func(*store.Object) bool { seen++; return seen < 3 })
		if seen != 3 {
			t.Errorf("Each went on to %d entries", seen)
		}

		again := New(Options{Heap: heap})
		defer again.Close()
		for _, i := range rand.Perm(len(left)) {
			if err := again.Put(&left[i].Object); err != nil {
				t.Fatal(err)
			}
		}
		again.Each(func(o *store.Object) bool { check(copyOf(t, o)); return true })
		if e := mustPut(t, again, "next", 0); e.ID <= left[len(left)-1].ID {
			t.Errorf("the ID %d was given after Put brought %d", e.ID, left[len(left)-1].ID)
		}
		audit(t, again)
	})
}

// What Put brings takes its place by ID; an earlier revision gives way to it,
// a later one does not; and Amend takes the mark off.
func TestPutOrder(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	object := func(id store.ID, rev uint32) *store.Object {
		return &store.Object{Key: store.Key("k"), ID: id, Rev: rev, Head: store.Head{Octets: fmt.Append(nil, rev)}, Body: bytes.NewReader(nil), Mark: 9}
	}
	for _, o := range []*store.Object{object(5, 1), object(9, 0), object(2, 0), object(7, 0), object(5, 3), object(5, 2)} {
		if err := s.Put(o); err != nil {
			t.Fatal(err)
		}
	}
	es, _ := s.Lookup(ctx, store.Key("k"), nil)
	if want := []store.Entry{{ID: 9}, {ID: 7}, {ID: 5, Rev: 3}, {ID: 2}}; !slices.Equal(es, want) {
		t.Errorf("Lookup returned %+v, want %+v", es, want)
	}
	if head, err := s.Head(ctx, store.Key("k"), 5, 3); string(head) != "3" || err != nil {
		t.Errorf("the head is %q, or %v", head, err)
	}
	marks := func(want map[store.ID]uint64) {
		t.Helper()
		s.Each(func(o *store.Object) bool {
			if o.Mark != want[o.ID] {
				t.Errorf("entry %d has the mark %d, want %d", o.ID, o.Mark, want[o.ID])
			}
			return true
		})
	}
	marks(map[store.ID]uint64{9: 9, 7: 9, 5: 9, 2: 9})
	if err := s.Amend(ctx, store.Key("k"), 7, store.Head{Octets: []byte("0")}); err != nil {
		t.Fatal(err)
	}
	marks(map[store.ID]uint64{9: 9, 5: 9, 2: 9})
	audit(t, s)

	broken := object(20, 0)
	for _, size := range []int64{1000, 100_000} {
		broken.Size = size
		if err := s.Put(broken); err == nil {
			t.Error("an object whose body is cut short was kept")
		}
	}
	broken.Size = 64 << 20
	if err := s.Put(broken); err != store.ErrFull {
		t.Errorf("Put beyond the longest body: %v", err)
	}
	audit(t, s)
}

// What has expired leaves before all that has not, however useful.
func TestExpiredFirst(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		now := int64(1000)
		s := New(Options{Budget: 1 << 20, Heap: heap, Now: func() int64 { return now }})
		defer s.Close()
		const size = 9000
		keep := func(i int, until int64) store.Entry {
			e, err := putUntil(s, fmt.Sprint(i), make([]byte, size), size, size, until)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		for i := range 60 { // as many as the policy looks at, or less
			until := int64(0)
			if i%3 == 0 {
				until = now + 10
			}
			e := keep(i, until)
			if i%3 == 0 { // in much use
				for range 50 {
					mustOpen(t, s, fmt.Sprint(i), e.ID).Close()
				}
			}
		}
		if st := s.Stats(); st.Evictions > 0 {
			t.Fatalf("no room for the test: %+v", st)
		}
		now += 10
		for i := 60; has(s, "0") || has(s, "57"); i++ {
			before := s.Stats()
			keep(i, 0)
			if s.Stats().Evictions == before.Evictions {
				continue
			}
			expired, others := 0, 0
			for j := range i {
				switch there := has(s, fmt.Sprint(j)); {
				case j < 60 && j%3 == 0 && there:
					expired++
				case (j >= 60 || j%3 != 0) && !there:
					others++
				}
			}
			if expired > 0 && others > 0 {
				t.Fatalf("%d others left before %d that have expired", others, expired)
			}
		}
	})
}

// What is in use outlasts what is not.
func TestUsedStay(t *testing.T) {
	s := New(Options{Budget: 1 << 20})
	defer s.Close()
	hot := mustPut(t, s, "hot", 5000)
	for i := range 2000 {
		for range 2 {
			mustOpen(t, s, "hot", hot.ID).Close()
		}
		put(s, fmt.Sprint(i), make([]byte, 5000), 5000, 5000)
		if !has(s, "hot") {
			t.Fatalf("what is used all the time left after %d others", i)
		}
	}
	if st := s.Stats(); st.Evictions < 1500 {
		t.Errorf("others did not leave: %+v", st)
	}
}

// The variant that leaves for another is one that expired, if there is any.
func TestExpiredVariant(t *testing.T) {
	now := int64(100)
	s := New(Options{Now: func() int64 { return now }})
	defer s.Close()
	for i := range store.MaxVariants {
		until := int64(0)
		if i == 40 {
			until = 50
		}
		if _, err := putUntil(s, "k", nil, 0, 1, until); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := s.Lookup(ctx, store.Key("k"), nil)
	mustPut(t, s, "k", 0)
	after, _ := s.Lookup(ctx, store.Key("k"), nil)
	if want := slices.Delete(slices.Clone(before), 63-40, 63-40+1); !slices.Equal(after[1:], want) {
		t.Errorf("not the one that expired left")
	}
}

// The way of a hit allocates a reader and nothing else.
func TestAllocations(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	key := store.Key("k")
	for _, size := range []int{500, 5000, 50_000, 500_000} {
		e := mustPut(t, s, "k", size)
		var room [4]store.Entry
		for _, c := range []struct {
			name string
			most float64
			do   func()
		}{
			{"Lookup", 0, func() { s.Lookup(ctx, key, room[:0]) }},
			{"Head", 1, func() { s.Head(ctx, key, e.ID, 0) }},
			{"Open for use", 0, func() { r, _ := s.Open(ctx, key, e.ID, 0, 0); r.Close() }},
			{"Open", 1, func() { r, _ := s.Open(ctx, key, e.ID, 0, -1); r.(io.WriterTo).WriteTo(io.Discard); r.Close() }},
		} {
			if got := testing.AllocsPerRun(100, c.do); got > c.most {
				t.Errorf("%s of %d octets allocates %v times, want %v", c.name, size, got, c.most)
			}
		}
		s.Remove(ctx, key, e.ID)
	}
}

// A long body is in a file at the place that its reader names.
func TestFile(t *testing.T) {
	both(t, func(t *testing.T, heap bool) {
		s := New(Options{Budget: 32 << 20, Heap: heap})
		defer s.Close()
		mustPut(t, s, "first", 70_000)
		for _, size := range []int{10, 60_000, 65_537, 300_000, 2_000_000} {
			body := make([]byte, size)
			fillOctets(body, 1)
			e, err := put(s, "k", body, -1, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			r, _ := s.Open(ctx, store.Key("k"), e.ID, 3, int64(size-5))
			first := make([]byte, 2)
			io.ReadFull(r, first)
			f, off, n := r.(interface {
				File() (*os.File, int64, int64)
			}).File()
			if heap || size <= smallBody {
				if f != nil {
					t.Errorf("%d octets are in a file", size)
				}
			} else if f != nil || s.large[0].file != nil {
				s.Remove(ctx, store.Key("k"), e.ID) // it stays until Close
				got := make([]byte, n)
				if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, body[5:size-2]) {
					t.Errorf("%d octets are not in the file, or %v", size, err)
				}
			}
			r.Close()
			if f, _, _ := r.(interface {
				File() (*os.File, int64, int64)
			}).File(); f != nil {
				t.Error("a closed reader names a file")
			}
		}
	})
}

// The zero Options are a store of 64 MiB for bodies of 16 MiB.
func TestOptions(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	if s.budget != 64<<20 || s.maxObject != 16<<20 {
		t.Errorf("budget %d, longest body %d", s.budget, s.maxObject)
	}
	if _, err := s.Create(ctx, nil, store.Head{}, 16<<20+1); err != store.ErrFull {
		t.Errorf("Create beyond the longest body: %v", err)
	}
	if _, err := s.Create(ctx, nil, store.Head{Octets: make([]byte, 300_000)}, 0); err != store.ErrFull {
		t.Errorf("Create with a head that is too long: %v", err)
	}
	e := mustPut(t, s, "k", 1)
	for _, off := range []int64{-1, -1 << 63} {
		if _, err := s.Open(ctx, store.Key("k"), e.ID, off, 1); err == nil {
			t.Errorf("Open at the offset %d succeeded", off)
		}
	}
	ids := store.ID(1000)
	named := New(Options{IDs: func() store.ID { ids++; return ids }})
	defer named.Close()
	if e := mustPut(t, named, "k", 1); e.ID != 1001 {
		t.Errorf("the first ID is %d", e.ID)
	}
	large := New(Options{Budget: 2 << 30})
	defer large.Close()
	if len(large.shards) != 16 {
		t.Errorf("%d shards for 2 GiB", len(large.shards))
	}
	storetest.Hammer(t, large)
	audit(t, large)
}

// Address space is for the asking, memory is not: a store of any size costs
// little while it is empty.
func TestLargeBudget(t *testing.T) {
	s := New(Options{Budget: 64 << 30})
	defer s.Close()
	if !s.heap && s.fixed > s.budget/500 {
		t.Errorf("%d octets are charged for nothing", s.fixed)
	}
	mustPut(t, s, "k", 1000)
	mustPut(t, s, "l", 10<<20)
	if st := s.Stats(); st.Used > s.fixed+12<<20 {
		t.Errorf("two bodies cost %+v", st)
	}
	audit(t, s)
}

// BenchmarkFull stores bodies of 12 KiB where one leaves for each that comes.
func BenchmarkFull(b *testing.B) {
	s := New(Options{Budget: 64 << 20})
	defer s.Close()
	body := make([]byte, 12<<10)
	i := 0
	next := func() {
		i++
		put(s, fmt.Sprint("https://www.example.com/", i), body, int64(len(body)), len(body))
	}
	for s.Stats().Evictions == 0 {
		next()
	}
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
}
