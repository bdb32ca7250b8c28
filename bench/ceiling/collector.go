//go:build linux

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A collector reads what a Go program says of its garbage collector under
// GODEBUG=gctrace=1; the format is that of package runtime.
type collector struct {
	mu     sync.Mutex
	cycles int
	pauses []time.Duration // the world stands still twice in each cycle
	share  int             // of the CPU time since the start, in percent, at the last cycle
	heap   int64           // the largest heap at the end of marking, in MiB
}

// gcLine is such as
// gc 12 @3.1s 2%: 0.011+1.2+0.004 ms clock, 0.02+0.3/1.0/0.2+0.009 ms cpu, 40->41->20 MB, 42 MB goal, ...
var gcLine = regexp.MustCompile(`^gc \d+ @[\d.]+s (\d+)%: ([\d.]+)\+[\d.]+\+([\d.]+) ms clock, .* ms cpu, \d+->(\d+)->\d+ MB`)

// line takes a line of stderr, whatever it says.
func (c *collector) line(text string) {
	m := gcLine.FindStringSubmatch(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m == nil {
		return
	}
	c.cycles++
	c.share, _ = strconv.Atoi(m[1]) // the expression lets numbers alone pass
	for _, ms := range m[2:4] {
		d, _ := time.ParseDuration(ms + "ms")
		c.pauses = append(c.pauses, d)
	}
	heap, _ := strconv.ParseInt(strings.TrimSpace(m[4]), 10, 64)
	c.heap = max(c.heap, heap)
}

// print writes one line of figures.
func (c *collector) print() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cycles == 0 {
		fmt.Println("garbage collector: no cycle")
		return
	}
	slices.Sort(c.pauses)
	fmt.Printf("garbage collector: %d cycles, pauses p99 %v, longest %v, %d %% of CPU time, heap at most %d MiB\n",
		c.cycles, c.pauses[len(c.pauses)*99/100], c.pauses[len(c.pauses)-1], c.share, c.heap)
}
