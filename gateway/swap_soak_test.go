//go:build unix && soak

package gateway_test

func init() { leastSwaps = 100_000 }
