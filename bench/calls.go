//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A callCount is how often a server makes a system call for each request.
type callCount struct {
	name string
	each float64
}

// calls counts the system calls of c for each hit of w, with strace: what is slower
// under it makes no other calls, and waits a little more often for them.
func (l *lab) calls(ctx context.Context, w workload, c contender) ([]callCount, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, fmt.Errorf("strace is not installed; run: apt-get install --no-install-recommends strace")
	}
	counts := filepath.Join(l.scratch, "calls")
	traced := c
	traced.wrapped = true // strace is not the server
	traced.argv = func(port, origin int) []string {
		return append([]string{"strace", "-f", "-c", "-o", counts}, c.argv(port, origin)...)
	}
	var s *server
	got, err := l.turn(ctx, w, traced, &s)
	if s != nil {
		for _, p := range tree(processes(), s.cmd.Process.Pid)[1:] {
			stopKindly(p.pid) // strace writes what it counted when its child ends
		}
		s.stop()
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(counts)
	if err != nil {
		return nil, err
	}
	return parseCalls(string(text), got.requests)
}

// seldom is how often a call must be made for each request to be told of: what
// starting and warming up takes is less.
const seldom = 0.01

// parseCalls reads the table that strace -c prints, see strace(1).
func parseCalls(text string, requests int64) ([]callCount, error) {
	var all []callCount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		n, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			continue // a heading
		}
		if each := float64(n) / float64(max(requests, 1)); each >= seldom {
			all = append(all, callCount{f[len(f)-1], each})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %s", lastLine([]byte(text)))
	}
	slices.SortFunc(all, func(a, b callCount) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// tellCalls writes counts in a line.
func tellCalls(all []callCount) string {
	var words []string
	for _, c := range all {
		words = append(words, fmt.Sprintf("%s %.2f", c.name, c.each))
	}
	return strings.Join(words, ", ")
}
