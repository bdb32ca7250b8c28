//go:build soak

package disk

// How much the tests do: this is the full size.
const (
	histories = 400
	crashStep = 1
	faultStep = 1
	flips     = 5000
)
