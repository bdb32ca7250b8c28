//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Where larder purge finds the tiers.
const (
	atEdge = " --admin ./edge"
	atBoth = " --via ./parent --admin ./edge"
)

// id is that of a purge in a line of larder purge, behind the tier that it is of if there
// are two of them.
var id = regexp.MustCompile(`(?m)^(?:\./(parent|edge): )?([0-9]+-[0-9]+)  `)

// larder has an operator give a command. {parent} and {edge} stand for the last purge of
// either. What it prints has to have all of these in it, in this order.
func larder(command string, says ...string) step {
	return func(ctx context.Context, s *stage) error {
		for tier, last := range s.ids {
			command = strings.ReplaceAll(command, "{"+tier+"}", last)
		}
		fmt.Println("   $ larder " + command)
		cmd := exec.CommandContext(ctx, s.program, strings.Fields(strings.ReplaceAll(command, "'", ""))...)
		cmd.Dir = s.dir
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			fmt.Println("   " + strings.TrimRight(line, "\n"))
		}
		if err != nil {
			return fmt.Errorf("larder %s: %w", command, err)
		}
		if strings.HasPrefix(command, "purge ") {
			for _, line := range id.FindAllStringSubmatch(string(out), -1) {
				tier := line[1]
				if tier == "" {
					_, tier, _ = strings.Cut(command, "--admin ./")
				}
				s.ids[tier] = line[2]
			}
		}
		rest := string(out)
		for _, text := range says {
			_, after, ok := strings.Cut(rest, text)
			if !ok {
				return fmt.Errorf("larder %s: there is no %q in what it says", command, text)
			}
			rest = after
		}
		return s.wire.quiet()
	}
}
