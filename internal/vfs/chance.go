package vfs

import "iter"

// Chance decides what a crash leaves. *rand.Rand of math/rand/v2 is one; so
// are those of Choices.
type Chance interface {
	// IntN returns a number from 0 to n-1.
	IntN(n int) int
}

// Choices yields Chances until every sequence of decisions was made once:
//
//	for chance := range vfs.Choices() {
//		after := mem.Clone().Crash(chance, vfs.PowerCut)
//		...
//	}
//
// sees all that a crash can leave. What is done with each must depend on its
// decisions alone. There are as many sequences as the product of all n that
// IntN is asked for, so this is for a handful of changes.
func Choices() iter.Seq[Chance] {
	return func(yield func(Chance) bool) {
		var o odometer
		for yield(&o) && o.advance() {
			o.asked = 0
		}
	}
}

// An odometer turns its last wheel first. Wheels are added as they are asked
// for.
type odometer struct {
	wheels []wheel
	asked  int
}

type wheel struct{ at, of int }

// IntN returns where the next wheel is.
func (o *odometer) IntN(n int) int {
	if o.asked == len(o.wheels) {
		o.wheels = append(o.wheels, wheel{of: n})
	}
	o.asked++
	return o.wheels[o.asked-1].at
}

// advance turns to the next sequence, or says that there is none.
func (o *odometer) advance() bool {
	for len(o.wheels) > 0 {
		last := &o.wheels[len(o.wheels)-1]
		if last.at++; last.at < last.of {
			return true
		}
		o.wheels = o.wheels[:len(o.wheels)-1]
	}
	return false
}
