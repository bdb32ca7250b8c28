package h2

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// wide is a decoder that keeps all there is.
func wide() *decoder { return &decoder{mostOctets: 1 << 30, mostFields: 1 << 30} }

func (d *decoder) fields() (all []hpack.HeaderField) {
	for _, s := range d.spans {
		name, value := d.field(s)
		all = append(all, hpack.HeaderField{Name: string(name), Value: string(value)})
	}
	return all
}

func octets(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 7541 Appendix C, and how large the table is after each.
func TestExamples(t *testing.T) {
	for name, blocks := range map[string][]struct {
		block  string
		fields string
		size   int
	}{
		"C.2.1": {{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header", 55}},
		"C.2.2": {{"040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0}},
		"C.2.3": {{"1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0}},
		"C.2.4": {{"82", ":method: GET", 0}},
		"C.3": {
			{"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", ":method: GET|:scheme: http|:path: /|:authority: www.example.com", 57},
			{"8286 84be 5808 6e6f 2d63 6163 6865", ":method: GET|:scheme: http|:path: /|:authority: www.example.com|cache-control: no-cache", 110},
			{"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", ":method: GET|:scheme: https|:path: /index.html|:authority: www.example.com|custom-key: custom-value", 164},
		},
		"C.4": {
			{"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", ":method: GET|:scheme: http|:path: /|:authority: www.example.com", 57},
			{"8286 84be 5886 a8eb 1064 9cbf", ":method: GET|:scheme: http|:path: /|:authority: www.example.com|cache-control: no-cache", 110},
			{"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", ":method: GET|:scheme: https|:path: /index.html|:authority: www.example.com|custom-key: custom-value", 164},
		},
		"C.5": { // with a table of 256 octets, which evicts
			{
				"3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
				":status: 302|cache-control: private|date: Mon, 21 Oct 2013 20:13:21 GMT|location: https://www.example.com", 222,
			},
			{"4803 3330 37c1 c0bf", ":status: 307|cache-control: private|date: Mon, 21 Oct 2013 20:13:21 GMT|location: https://www.example.com", 222},
			{
				"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
				":status: 200|cache-control: private|date: Mon, 21 Oct 2013 20:13:22 GMT|location: https://www.example.com|content-encoding: gzip|set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1", 215,
			},
		},
	} {
		d := wide()
		for i, b := range blocks {
			if err := d.decode(octets(t, b.block)); err != nil {
				t.Fatalf("%s, block %d: %v", name, i, err)
			}
			var got []string
			for _, f := range d.fields() {
				got = append(got, f.Name+": "+f.Value)
			}
			if strings.Join(got, "|") != b.fields || d.table.size != b.size {
				t.Errorf("%s, block %d: %q, and a table of %d octets; want %q and %d", name, i, got, d.table.size, b.fields, b.size)
			}
		}
	}
}

// What no encoder may write (RFC 7541).
func TestNotHPACK(t *testing.T) {
	for name, block := range map[string]string{
		"no index":                          "80",
		"an index beyond the tables":        "be",
		"a literal's, beyond the tables":    "7f00 0161",
		"a table too large":                 "3fe21f",
		"a size after a field":              "82 20",
		"an integer without end":            "ff ffff ffff ffff ffff",
		"an integer cut":                    "ff 80",
		"a name cut":                        "00 05 6161",
		"no value":                          "00 01 61",
		"a value cut":                       "00 01 61 03 6161",
		"padding of Huffman's with zeros":   "00 01 61 81 18",
		"more padding of Huffman's":         "00 01 61 82 1fff",
		"the end of a string in the string": "00 01 61 84 3fff ffff",
	} {
		if err := wide().decode(octets(t, block)); err == nil {
			t.Errorf("%s: % s was decoded", name, block)
		}
	}
}

// What is beyond the bounds is read and not kept, and costs next to nothing: what follows is
// what it was (CVE-2016-6581).
func TestHeadBounds(t *testing.T) {
	d := &decoder{mostOctets: 10_000, mostFields: 20}
	large := append(octets(t, "40 01 61 7f"), appendInt(nil, 0, 7, 3900)[1:]...)
	large = append(large, bytes.Repeat([]byte("v"), 3900)...)
	if err := (&decoder{mostOctets: 10_000, mostFields: 20}).decode(append(bytes.Clone(large), bytes.Repeat([]byte{0xbe}, 40_000)...)); err != errBomb {
		t.Errorf("what is far beyond them: %v", err)
	}
	long := append(large, bytes.Repeat([]byte{0xbe}, 8)...)
	if err := d.decode(long); err != nil || !d.over() || len(d.octets) > d.mostOctets {
		t.Errorf("%v; over: %v, and %d octets are kept", err, d.over(), len(d.octets))
	}
	if err := d.decode([]byte{0x82, 0xbe}); err != nil || d.over() || len(d.fields()) != 2 || len(d.fields()[1].Value) != 3900 {
		t.Errorf("%v; over: %v; what follows is %d fields", err, d.over(), len(d.spans))
	}
	if err := d.decode(bytes.Repeat([]byte{0x82}, 21)); err != nil || !d.over() {
		t.Errorf("%v; over with one field too many: %v", err, d.over())
	}
	if err := d.decode(bytes.Repeat([]byte{0x60, 0}, 100)); err != nil || d.over() || len(d.spans) != 100 {
		t.Errorf("%v; over with crumbs of a Cookie: %v, %d are kept", err, d.over(), len(d.spans))
	}
	if err := d.decode(bytes.Repeat([]byte{0x60, 0}, 300)); err != nil || !d.over() {
		t.Errorf("%v; over with more crumbs than octets: %v", err, d.over())
	}
}

// A table holds what it should over any number of evictions, and after 2^32 octets.
func TestTable(t *testing.T) {
	d := wide()
	d.table.base, d.table.end = 1<<32-5000, 1<<32-5000
	reference := hpack.NewDecoder(4096, nil)
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	for i := range 3000 {
		out.Reset()
		if i%500 == 499 {
			enc.SetMaxDynamicTableSize(uint32(i * 7 % 4097))
		}
		for j := range 3 {
			n := (i*31 + j*17) % 200
			if i%100 == j {
				n = 4080 + i%20
			}
			_ = enc.WriteField(hpack.HeaderField{Name: "n" + text(i%7), Value: text(n)})
		}
		want, err := reference.DecodeFull(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.decode(out.Bytes()); err != nil || !slices.Equal(d.fields(), want) {
			t.Fatalf("block %d: %v, or other fields", i, err)
		}
	}
}

// FuzzDecode reads sequences of header blocks, cut at each octet 0xff 0x00, as the decoder of
// golang.org/x/net does. There are exceptions, where we take less: an integer has at most
// five octets, and the size of the table changes only before the first field (RFC 7541 §4.2).
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"82868441 8cf1e3c2e5f23a6ba0ab90f4ff ff00 828684be5886a8eb10649cbf ff00 828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
		"3fe101 4803333032 ff00 be ff00 20 be ff00 3fe11f be", "20 3fe11f 400161026262 be ff00 bf be", "7f00 0161 ff00 0f2f0161 1f2f0161",
	} {
		b, _ := hex.DecodeString(strings.ReplaceAll(seed, " ", ""))
		f.Add(b)
	}
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	for i := range 40 {
		_ = enc.WriteField(hpack.HeaderField{Name: "name" + text(i%5), Value: text(i * 9)})
		if i%6 == 5 {
			out.WriteString("\xff\x00")
		}
	}
	f.Add(bytes.Clone(out.Bytes()))
	f.Fuzz(func(t *testing.T, all []byte) {
		d, reference := wide(), hpack.NewDecoder(4096, nil)
		for block := range bytes.SplitSeq(all, []byte("\xff\x00")) {
			want, wrong := reference.DecodeFull(block)
			err := d.decode(block)
			if err != nil {
				if wrong == nil && !stricter(block) {
					t.Fatalf("% x is refused, and the reference has %v", block, want)
				}
				return // no connection goes on after that
			}
			if wrong != nil {
				t.Fatalf("% x is decoded to %v, and the reference says: %v", block, d.fields(), wrong)
			}
			if !slices.EqualFunc(d.fields(), want, func(a, b hpack.HeaderField) bool { return a.Name == b.Name && a.Value == b.Value }) {
				t.Fatalf("% x is decoded to %v, and the reference has %v", block, d.fields(), want)
			}
			if size := checkTable(t, &d.table); size != d.table.size {
				t.Fatalf("the table has %d octets, and counts %d", size, d.table.size)
			}
		}
	})
}

// checkTable adds up what is in a table, of which all must be in its room.
func checkTable(t *testing.T, b *table) (size int) {
	t.Helper()
	for i := range b.n {
		name, value, ok := b.at(len(static) + i)
		if !ok {
			t.Fatalf("entry %d of %d is not there", i, b.n)
		}
		size += len(name) + len(value) + fieldOverhead
	}
	if size > tableSize-b.shrunk {
		t.Fatalf("the table has %d octets, and may have %d", size, tableSize-b.shrunk)
	}
	return size
}

// stricter tells whether a block, which is sound for the reference, has one of the exceptions
// of FuzzDecode.
func stricter(block []byte) bool {
	fields := false
	for len(block) > 0 {
		bits, size, literal := 4, false, false
		switch first := block[0]; {
		case first&0x80 != 0:
			bits = 7
		case first&0x40 != 0:
			bits, literal = 6, true
		case first&0x20 != 0:
			bits, size = 5, true
		default:
			literal = true
		}
		i, rest, ok := readInt(block, bits)
		if !ok || size && fields {
			return true
		}
		fields = fields || !size
		texts := 0
		if literal {
			texts = 1
			if i == 0 {
				texts = 2
			}
		}
		for range texts {
			n, more, ok := readInt(rest, 7)
			if !ok || n > len(more) {
				return true
			}
			rest = more[n:]
		}
		block = rest
	}
	return false
}

// The heads that we write are read by others as what they are, and need nothing remembered.
func TestAppendHead(t *testing.T) {
	head := "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Type: text/html\r\nX-Some-Thing: a: b, c\r\nCache-Status: Larder; hit\r\nX-Empty: \r\n" +
		"Set-Cookie: a=b\r\nX-" + strings.Repeat("Long", 60) + ": " + text(5000) + "\r\n\r\n"
	reference := hpack.NewDecoder(0, nil)
	got, err := reference.DecodeFull(appendHead(nil, []byte(head)))
	if err != nil {
		t.Fatal(err)
	}
	want := []hpack.HeaderField{{Name: ":status", Value: "203"}}
	for line := range strings.SplitSeq(head[strings.Index(head, "\n")+1:len(head)-4], "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		want = append(want, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for status := 100; status < 1000; status++ {
		got, err := reference.DecodeFull(appendStatus(nil, status))
		if err != nil || len(got) != 1 || got[0].Name != ":status" || got[0].Value != string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}) {
			t.Fatalf("%d is written as %v, %v", status, got, err)
		}
	}
}

// The integers of RFC 7541 §5.1 are what they were.
func TestInts(t *testing.T) {
	for bits := 4; bits <= 7; bits++ {
		for _, n := range []int{0, 1, 14, 15, 16, 30, 31, 126, 127, 128, 129, 142, 143, 254, 255, 1337, 16383, 16384, 1 << 20, 1<<28 - 1} {
			b := appendInt(nil, 0, bits, n)
			if got, rest, ok := readInt(append(b, 7), bits); !ok || got != n || len(rest) != 1 {
				t.Errorf("%d in %d bits is % x, and read as %d, %v", n, bits, b, got, ok)
			}
		}
	}
}
