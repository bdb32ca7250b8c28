//go:build !soak

package engine_test

// How much the tests of purges do: this is the size for every day.
const (
	purgeScripts = 1500
	purgeRaceOps = 1500
)
