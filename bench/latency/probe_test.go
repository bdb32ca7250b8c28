//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/larderhq/larder/bench/rig"
)

// An answer is complete with its last octet and not before, and anything but a hit
// with the right octets is an error.
func TestComplete(t *testing.T) {
	content := rig.NewContent(seed, 1<<10)
	name := hitPath(7)
	body := string(content.Body(name, 1<<10))
	const head = "HTTP/1.1 200 OK\r\nAge: 1\r\nCache-Status: larder; hit; ttl=3598\r\nContent-Length: 1024\r\n\r\n"
	whole := head + body
	for n := range len(whole) + 1 {
		in := make([]byte, n, 4<<10)
		copy(in, whole)
		if done, err := complete(in, name, true, content); err != nil || done != (n == len(whole)) {
			t.Fatalf("%d octets of %d: complete %v, %v", n, len(whole), done, err)
		}
	}
	for what, in := range map[string]string{
		"one octet more":   whole + "x",
		"other octets":     head + strings.Repeat("x", 1<<10),
		"no hit":           strings.Replace(whole, "; hit", "; fwd=uri-miss", 1),
		"another length":   strings.Replace(whole, "1024", "1023", 1),
		"another status":   strings.Replace(whole, "200 OK", "503 No", 1),
		"the body of more": head + body + whole,
	} {
		if done, err := complete([]byte(in), name, true, content); err == nil {
			t.Errorf("%s: complete %v, no error", what, done)
		}
	}
}
