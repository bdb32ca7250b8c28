//go:build !soak && !race

package engine_test

import "time"

// How much the tests of purges do: this is the size for every day.
const (
	purgeScripts = 1000
	raceOps      = 400 // of each reader
	raceTime     = time.Duration(0)
	raceHalt     = 2 * time.Millisecond
)
