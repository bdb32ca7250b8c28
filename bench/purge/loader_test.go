//go:build linux

package main

import (
	"strings"
	"testing"
)

// An answer is complete with its last octet and not before, and anything but a hit is
// an error unless misses are allowed.
func TestComplete(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nAge: 1\r\nCache-Status: larder; hit; ttl=3598\r\nContent-Length: 1024\r\n\r\n"
	whole := head + strings.Repeat("x", bodySize)
	for n := range len(whole) + 1 {
		in := make([]byte, n, 4<<10)
		copy(in, whole)
		if done, err := complete(in, true); err != nil || done != (n == len(whole)) {
			t.Fatalf("%d octets of %d: complete %v, %v", n, len(whole), done, err)
		}
	}
	miss := strings.Replace(whole, "; hit", "; fwd=uri-miss", 1)
	if done, err := complete([]byte(miss), false); !done || err != nil {
		t.Errorf("a miss that may be one: complete %v, %v", done, err)
	}
	for what, in := range map[string]string{
		"one octet more": whole + "x",
		"no hit":         miss,
		"another status": strings.Replace(whole, "200 OK", "503 No", 1),
	} {
		if done, err := complete([]byte(in), true); err == nil {
			t.Errorf("%s: complete %v, no error", what, done)
		}
	}
}

// A bar is missed by what is over it by more than the rounds differ.
func TestMost(t *testing.T) {
	for _, test := range []struct {
		f      figure
		missed int
	}{
		{figure{1.4}, 0},
		{figure{1.6}, 1},
		{figure{1.2, 1.6, 2.1}, 0},
		{figure{1.9, 2, 2.1}, 1},
	} {
		var r report
		if r.most("times", "", test.f, 1.5); r.missed != test.missed {
			t.Errorf("%v: missed %d, not %d", test.f, r.missed, test.missed)
		}
	}
}
