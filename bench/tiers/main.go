//go:build linux

// Tiers plays what happens to a page behind two caches, from its first fetch to the
// restart of one of them, message by message, and fails if a message is another one than
// docs/invalidation.md says.
//
//	go run ./bench/tiers
//
// An edge, larder serve http://PARENT, stands before a parent, larder serve http://ORIGIN,
// which stands before an origin that answers as in a CDN's page on cache control and
// revalidation: the numbers #3 to #6 are those of its messages. What the tiers say to each
// other passes through relays, and is printed as it is on the wire.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

func main() {
	limit := flag.Duration("limit", 2*time.Minute, "how long all of it may take")
	flag.Parse()
	rig.Run("tiers", *limit, "limit", play)
}

// A chapter is a part of the story: its steps follow each other.
type chapter struct {
	title string
	steps []step
}

// A step does something, and fails if what comes of it is not as it should be.
type step func(ctx context.Context, s *stage) error

func play(ctx context.Context) (err error) {
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	number := 0
	for _, part := range [][]chapter{thePage, purges, defects} {
		for _, c := range part {
			number++
			fmt.Printf("\n%d. %s\n", number, c.title)
			for i, do := range c.steps {
				if err := do(ctx, s); err != nil {
					return fmt.Errorf("chapter %d (%s), step %d: %w", number, c.title, i+1, err)
				}
			}
		}
	}
	if err := s.wire.quiet(); err != nil {
		return err
	}
	fmt.Println("\nAll as it should be.")
	return nil
}
