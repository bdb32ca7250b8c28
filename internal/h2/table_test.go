package h2

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// What a client has said once, and refers to in many requests, is held once, and never mixed up
// with what took its place in the table (DOS-10).
func TestTableTexts(t *testing.T) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	d := decoder{mostOctets: 32 << 10, mostFields: 100}
	var r Request
	ask := func(fields ...string) (values []string) {
		block.Reset()
		values = append([]string{":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/"}, fields...)
		for i := 0; i < len(values); i += 2 {
			if err := e.WriteField(hpack.HeaderField{Name: values[i], Value: values[i+1]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.decode(block.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := r.read(&d); err != nil {
			t.Fatal(err)
		}
		q, err := r.forHandler(t.Context(), &d.table)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			if got := q.Header.Get(fields[i]); got != fields[i+1] {
				t.Fatalf("%s is %.20q of %d octets, want %.20q of %d", fields[i], got, len(got), fields[i+1], len(fields[i+1]))
			}
		}
		return q.Header["X-Long"]
	}
	long := strings.Repeat("a", 3000)
	first := ask("x-long", long)
	for range 10 {
		again := ask("x-long", long, "x-short", "b")
		if unsafe.StringData(again[0]) != unsafe.StringData(first[0]) {
			t.Fatal("the same field is held twice")
		}
	}
	if n := r.size(); n > 300 {
		t.Errorf("a request that refers to the table takes %d octets", n)
	}
	for i := range 300 { // of which each takes the place of the one before
		other := strings.Repeat(string(rune('a'+i%26)), 2000+i%7)
		ask("x-long", other, "x-other", other+"b")
		ask("x-long", other)
	}
}
