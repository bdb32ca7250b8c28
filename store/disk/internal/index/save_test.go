package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func load(x *Index, stream []byte) error { return x.Load(bytes.NewReader(stream), nil) }

// What is saved is what is loaded.
func TestSaveAndLoad(t *testing.T) {
	for _, w := range worlds {
		r := seeded(t)
		x, m := New(Options{}), model{}
		for range 3_000 {
			m.step(t, r, x, w, 5)
		}
		stream := saved(t, x)
		again := New(Options{})
		if err := load(again, stream); err != nil {
			t.Fatal(w.name, err)
		}
		m.check(t, again)
		again = New(Options{})
		if err := again.Load(iotest.OneByteReader(bytes.NewReader(stream)), nil); err != nil {
			t.Fatal(w.name, err)
		}
		m.check(t, again)
	}
}

// Load reads its own and no more, and keep says what comes in.
func TestLoadKeeps(t *testing.T) {
	x := New(Options{})
	for i := range uint64(5_000) {
		insert(x, i)
	}
	r := bytes.NewReader(append(saved(t, x), "rest"...))
	odd := New(Options{})
	asked := 0
	err := odd.Load(r, func(ref Ref) bool { asked++; return ref.Addr&1 == 1 })
	if rest, _ := io.ReadAll(r); err != nil || string(rest) != "rest" || asked != 5_000 {
		t.Errorf("%v, %d asked and %q left", err, asked, rest)
	}
	checkRules(t, odd)
	want := 0
	for i := range uint64(5_000) {
		h := hashAt(i)
		if got := odd.Find(h, nil); len(got) != int(h&1) || len(got) == 1 && got[0] != refOf(h) {
			t.Fatalf("%016x has %+v", h, got)
		}
		want += int(h & 1)
	}
	if odd.Len() != want {
		t.Errorf("Len is %d, want %d", odd.Len(), want)
	}
}

// small is the stream of an index that has a bit of everything, and its model.
func small(t testing.TB) ([]byte, model) {
	x, m := New(Options{}), model{}
	for i := range uint64(12) {
		h := hashAt(i / 2)
		ref := refOf(h)
		ref.Addr ^= i & 1
		x.Insert(h, ref)
		m.insert(h, ref)
	}
	return saved(t, x), m
}

// mustRefuse loads stream into an index that has an entry, and wants that one
// left and no other.
func mustRefuse(t *testing.T, what string, stream []byte) {
	t.Helper()
	x, m := New(Options{}), model{}
	ref := Ref{Addr: 5}
	x.Insert(1, ref)
	m.insert(1, ref)
	if err := load(x, stream); !errors.Is(err, ErrRefused) || len(err.Error()) < len("index: load: ")+len(ErrRefused.Error())+10 {
		t.Fatalf("%s: %v", what, err)
	}
	m.check(t, x)
	x.Remove(1, 5)
	if x.Len() != 0 {
		t.Fatalf("%s: %d entries", what, x.Len())
	}
}

// no flipped bit and no truncation gets through.
func TestDamage(t *testing.T) {
	stream, _ := small(t)
	step := max(1, 500_000/many-1) // some only under the race detector
	for i := 0; i < len(stream); i += step {
		mustRefuse(t, "truncated", stream[:i])
		bad := bytes.Clone(stream)
		bad[i] ^= 1 << (i % 8)
		mustRefuse(t, "bit flipped", bad)
		bad[i] = ^stream[i]
		mustRefuse(t, "octet flipped", bad)
	}
}

// a file that was written over and not synced may have blocks of two saves,
// each of them whole.
func TestMixedSaves(t *testing.T) {
	x := New(Options{})
	for i := range uint64(2_000) {
		insert(x, i)
	}
	older := saved(t, x)
	for i := range uint64(2) { // two entries in the same places, in blocks far apart
		h := hashAt(i + 1)
		x.Replace(h, h&MaxAddr, Ref{Addr: h & MaxAddr, Class: 63 - refOf(h).Class})
	}
	newer := saved(t, x)
	whole := 0
	for cut := 512; cut < len(older); cut += 512 {
		for _, mixed := range [][]byte{append(older[:cut:cut], newer[cut:]...), append(newer[:cut:cut], older[cut:]...)} {
			if bytes.Equal(mixed, older) || bytes.Equal(mixed, newer) {
				whole++
				continue
			}
			mustRefuse(t, "mixed", mixed)
		}
	}
	if whole == 0 || whole == 2*(len(older)/512) {
		t.Errorf("%d of the mixtures are no mixtures", whole)
	}
}

// forged returns a stream with all sums right in which a block has these entries
// and says that it has n.
func forged(partition, n int, entries ...uint64) []byte {
	s := saver{}
	s.buf = append(s.buf, magic...)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, version)
	s.seal(0)
	for i := range partitionCount {
		from, said := len(s.buf), 0
		if i == partition {
			said = n
		}
		s.buf = append(s.buf, tagPart...)
		s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(i))
		s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(said))
		s.seal(from)
		if said > 0 {
			from = len(s.buf)
			for _, word := range entries {
				s.buf = binary.LittleEndian.AppendUint64(s.buf, word)
			}
			s.seal(from)
		}
	}
	from := len(s.buf)
	s.buf = append(s.buf, tagDone...)
	s.buf = binary.LittleEndian.AppendUint64(s.buf, uint64(n))
	s.seal(from)
	return s.buf
}

// Sums are no proof: what Save cannot have written is refused, and a number
// alone takes no memory.
func TestForged(t *testing.T) {
	if err := load(New(Options{}), forged(1, 2, 1<<56, 0, 1<<56, 1)); err != nil {
		t.Fatalf("a right one: %v", err)
	}
	mustRefuse(t, "other partition", forged(1, 1, 2<<56, 0))
	mustRefuse(t, "spare bits", forged(1, 1, 1<<56, 1<<wordBits))
	mustRefuse(t, "twice", forged(1, 2, 1<<56, 7, 1<<56, 7))
	mustRefuse(t, "fewer", forged(1, 1<<31-1, 1<<56, 7))

	// A version to come, with its sum right.
	next := forged(0, 0)
	next[len(magic)]++
	binary.LittleEndian.PutUint32(next[len(magic)+4:], crc32.Checksum(next[:len(magic)+4], castagnoli))
	if err := load(New(Options{}), next); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "version 2, want 1") {
		t.Errorf("a later version: %v", err)
	}

	x := New(Options{})
	if err := load(x, forged(1, 1<<31-1, 1<<56, 7)); err == nil || x.Bytes() > 1<<20 {
		t.Errorf("%v, and %d octets for one entry that says it is many", err, x.Bytes())
	}
}

// An error of the medium is not one of what was saved.
func TestErrorsOfTheMedium(t *testing.T) {
	stream, _ := small(t)
	eio := errors.New("disk on fire")
	for _, n := range []int{0, 3, 16, 40, len(stream) - 1} {
		x := New(Options{})
		err := x.Load(io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(eio)), nil)
		if !errors.Is(err, eio) || errors.Is(err, ErrRefused) || x.Len() != 0 {
			t.Errorf("after %d octets: %v, and %d entries", n, err, x.Len())
		}
		if err := load(x, stream); err != nil {
			t.Fatal(err)
		}
		err = x.Save(&failing{left: n, err: eio})
		if !errors.Is(err, eio) {
			t.Errorf("saving %d octets: %v", n, err)
		}
	}
}

// failing takes so many octets and then fails.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return f.left, f.err
	}
	f.left -= len(b)
	return len(b), nil
}

// during calls do when the last of stream was read, while Load is in it.
type during struct {
	io.Reader
	do func()
}

func (d *during) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	if err == io.EOF && d.do != nil {
		d.do()
		d.do = nil
	}
	return n, err
}

// What happens during a Load is newer than what it brings.
func TestChangesDuringLoad(t *testing.T) {
	const n = 1_000
	old := New(Options{})
	for i := range uint64(n) {
		insert(old, i)
	}
	stream := saved(t, old)
	x, m := New(Options{}), model{}
	for i := range uint64(n) {
		m.insert(hashAt(i), refOf(hashAt(i)))
	}
	change := func() {
		for i := range uint64(n) {
			h := hashAt(i)
			ref, other := refOf(h), refOf(h)
			ref.Flags, other.Addr = ^ref.Flags, other.Addr^1
			switch i % 7 {
			case 0: // the same, and other
				x.Insert(h, ref)
				m.insert(h, ref)
			case 1: // removed before it comes
				x.Remove(h, ref.Addr)
				m.remove(h, ref.Addr)
			case 2: // removed, and there again
				x.Insert(h, refOf(h))
				x.Remove(h, ref.Addr)
				x.Insert(h, ref)
				m.insert(h, ref)
			case 3: // put elsewhere
				x.Insert(h, ref)
				x.Replace(h, ref.Addr, other)
				m.remove(h, ref.Addr)
				m.insert(h, other)
			case 4: // new
				h = hashAt(i + n)
				x.Insert(h, ref)
				m.insert(h, ref)
			case 5:
				x.DropAddrs(ref.Addr, ref.Addr+1)
				m.dropAddrs(ref.Addr, ref.Addr+1)
			}
		}
		if x.Len() >= n {
			t.Error("what was loaded is there before all of it was read")
		}
	}
	last := &during{bytes.NewReader(stream[len(stream)-1:]), nil}
	r := io.MultiReader(bytes.NewReader(stream[:len(stream)-1]), &during{Reader: strings.NewReader(""), do: change}, last)
	if err := x.Load(r, nil); err != nil {
		t.Fatal(err)
	}
	m.check(t, x)

	// And afterwards nothing is remembered of it.
	if err := load(x, stream); err != nil {
		t.Fatal(err)
	}
	for hash, refs := range m {
		if len(x.Find(hash, nil)) < len(refs) {
			t.Fatalf("%016x lost entries", hash)
		}
	}
	for i := range uint64(n) {
		if len(x.Find(hashAt(i), nil)) == 0 {
			t.Fatalf("%016x was not loaded again", hashAt(i))
		}
	}
	checkRules(t, x)
}

// FuzzLoad: whatever is in r, Load returns, and what it took it can save.
func FuzzLoad(f *testing.F) {
	stream, _ := small(f)
	f.Add(stream, false)
	f.Add(forged(1, 2, 1<<56, 0, 1<<56, 1), true)
	f.Add(forged(255, 1<<31-1, 255<<56, 0), true)
	f.Add(stream[:100], true)
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if mend {
			mendSums(b)
		}
		x := New(Options{})
		err := load(x, b)
		checkRules(t, x)
		if err != nil {
			if !errors.Is(err, ErrRefused) || x.Len() != 0 {
				t.Fatalf("%v, and %d entries", err, x.Len())
			}
			return
		}
		again := New(Options{})
		if err := load(again, saved(t, x)); err != nil || again.Len() != x.Len() {
			t.Fatalf("loaded again: %v, and %d entries of %d", err, again.Len(), x.Len())
		}
	})
}

// mendSums makes sums right as far as b looks like a saved index, so that the
// fuzzer gets past them.
func mendSums(b []byte) {
	sum := uint32(0)
	seal := func(n int) (rest []byte) {
		if n < 0 || len(b)-sumOctets < n {
			return nil
		}
		sum = crc32.Update(sum, castagnoli, b[:n])
		binary.LittleEndian.PutUint32(b[n:], sum)
		return b[n+sumOctets:]
	}
	b = seal(len(magic) + 4)
	for range partitionCount {
		if len(b) < blockOctets {
			return
		}
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if b = seal(12); n > 0 {
			b = seal(n * entryOctets)
		}
	}
	seal(len(tagDone) + 8)
}
