//go:build !soak

package disk

// How much the tests do: this is the size for every day.
const (
	histories = 12
	crashStep = 41 // of the calls, every so many-th
	faultStep = 53
	flips     = 80
)
