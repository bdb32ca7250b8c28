//go:build linux

package main

import (
	"testing"
	"time"
)

// The figures are those of the lines that the runtime writes, whatever else is
// printed between them.
func TestCollector(t *testing.T) {
	var c collector
	for _, text := range []string{
		"larder 0.1.0-dev serves http://127.0.0.1:1 at http://127.0.0.1:2 (memory 384.0MiB)",
		"gc 9 @0.271s 3%: 0.011+1.2+0.45 ms clock, 0.022+0.30/1.0/0.2+0.009 ms cpu, 40->403->20 MB, 42 MB goal, 0 MB stacks, 0 MB globals, 2 P",
		"gc 10 @1.5s 4%: 2.1+1.2+0.004 ms clock, 0.022+0.30/1.0/0.2+0.009 ms cpu, 4->4->1 MB, 42 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)",
		"scvg: 8 MB released",
	} {
		c.line(text)
	}
	if c.cycles != 2 || c.share != 4 || c.heap != 403 || len(c.pauses) != 4 || c.pauses[2] != 2100*time.Microsecond {
		t.Errorf("%d cycles, %d %%, heap %d MiB, pauses %v", c.cycles, c.share, c.heap, c.pauses)
	}
}
