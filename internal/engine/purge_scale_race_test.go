//go:build race && !soak

package engine_test

import "time"

// How much the tests of purges do: with the race detector each takes ten times as long.
const (
	purgeScripts = 150
	raceOps      = 200 // of each reader
	raceTime     = time.Duration(0)
	raceHalt     = 2 * time.Millisecond
)
