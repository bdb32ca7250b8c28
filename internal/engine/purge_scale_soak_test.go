//go:build soak

package engine_test

import "time"

// How much the tests of purges do: this is the full size.
const (
	purgeScripts = 100_000
	raceOps      = 0
	raceTime     = time.Minute // for each store
	raceHalt     = 150 * time.Millisecond
)
