package disk

import (
	"bytes"
	"fmt"
	"testing"
)

// The parsers of what is on a disk: whatever they are given, they neither panic
// nor take much memory, and what they accept they would have written themselves.

var fuzzKey = secret{1, 2}

func FuzzHeader(f *testing.F) {
	d := newDraft(header{kind: kindObject, id: 7, size: 5}, []byte("key"), []byte("head"), []kill{{1, 2, 3}}, nil, []byte("body!"))
	d.settle(8, 9, fuzzKey)
	f.Add(d.octets)
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		// What is sealed is not to be trusted either: lengths must be sane.
		sealed := append(make([]byte, 0, headerLen), b[:min(len(b), headerLen)]...)
		sealed = sealed[:headerLen]
		h := header{}
		if len(b) >= headerLen {
			h, _ = parseHeader(b, fuzzKey, limit)
		}
		h.put(sealed, fuzzKey)
		got, ok := parseHeader(sealed, fuzzKey, limit)
		if !ok {
			return
		}
		if got.octets() > limit || got.octets() < headerLen || got.bodyAt() > limit || got.killsAt() > got.headAt() {
			t.Errorf("accepted %+v", got)
		}
		again := make([]byte, headerLen)
		got.put(again, fuzzKey)
		if !bytes.Equal(again, sealed) {
			t.Errorf("%x became %x", sealed, again)
		}
	})
}

func FuzzLists(f *testing.F) {
	b := make([]byte, pieceLen)
	piece{1, 2, 3}.put(b)
	f.Add(b, int64(3))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		pieces, ok := parsePieces(b, size)
		sum := int64(0)
		for _, p := range pieces {
			sum += p.size
		}
		if ok && sum != size {
			t.Errorf("pieces of %d octets for a body of %d", sum, size)
		}
	})
}

func FuzzFooter(f *testing.F) {
	f.Add(newFooter([]line{{kind: kindObject, hash: 1, id: 2, addr: 3}}, 4, 512, fuzzKey))
	f.Fuzz(func(t *testing.T, b []byte) {
		const segment = 1 << 16
		if len(b) < trailerLen {
			return
		}
		n, used, sum, ok := parseTrailer(b[len(b)-trailerLen:], 4, segment, fuzzKey)
		if !ok {
			return
		}
		if n < 0 || used < 0 || used+footerLen(n) > segment {
			t.Fatalf("accepted %d lines after %d octets", n, used)
		}
		if want := n*lineLen + trailerLen; want <= len(b) {
			lines, ok := parseLines(b[len(b)-want:len(b)-trailerLen], sum)
			if ok && len(lines) != n {
				t.Errorf("%d lines of %d", len(lines), n)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{epoch: 1, from: 2, seqs: []uint64{3, 4}, clean: true, place: 1, end: 512, lines: []line{{hash: 5}}}
	f.Add(c.encode(fuzzKey))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readCheckpoint(bytes.NewReader(b), fuzzKey, minSegment)
		if err == nil && !bytes.Equal(c.encode(fuzzKey), b[:len(c.encode(fuzzKey))]) {
			t.Errorf("%x was read as %+v", b, c)
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	s := newSuper(&Options{Segment: minSegment, Seed: 1}, 1<<20, 0)
	s.Sets = []set{{0, []member{{s.Identity, s.Secret, 1 << 20}}}}
	octets, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(octets)
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, (&superblock{}).resealed(b)} {
			s, err := parseSuper(b)
			if err != nil {
				continue
			}
			octets, err := s.encode()
			if err != nil {
				continue // it has more disks than can be written again
			}
			if again, err := parseSuper(octets); err != nil || again.Segment != s.Segment || again.Epoch != s.Epoch || len(again.Sets) != len(s.Sets) {
				t.Errorf("%q is accepted, and what it is written as is not: %v", b, err)
			}
			if octets := int64(s.Segments) * s.Segment; octets <= 0 || octets > maxSize {
				t.Errorf("accepted a disk of %d octets", octets)
			}
		}
	})
}

// resealed returns the text of b with its right sum.
func (*superblock) resealed(b []byte) []byte {
	text, _, _ := bytes.Cut(b, []byte("\n"))
	return append(append(bytes.Clone(text), '\n'), []byte(sumText(text))...)
}

func sumText(text []byte) string { return fmt.Sprintf("%08x\n", sumOf(text)) }
