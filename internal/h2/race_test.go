//go:build race

package h2

// The race detector has pools lose what is given back to them, and objects take more room.
const (
	lost     = 2 // allocations of a batch
	mostMiBs = 2
)
