//go:build soak

package engine_test

// How much the tests of purges do: this is the full size.
const (
	purgeScripts = 100_000
	purgeRaceOps = 0 // as many as there are in a minute
)
