package evict

import (
	"math"
	"math/bits"
)

const (
	classes    = 256
	smallest   = 6 // log2 of the largest size in class 0, in octets
	perOctave  = 8
	octaveBits = 3 // log2 of perOctave
)

// SizeClass returns the class of a size in octets: eight classes an octave,
// each at most 12.5 % wide, from 64 octets to 256 GiB. What is smaller (zero
// and negative included) or larger falls into the first or the last class.
func SizeClass(size int64) uint8 {
	if size <= 1<<smallest {
		return 0
	}
	octave := bits.Len64(uint64(size)) - 1
	within := int(size>>(octave-octaveBits)) & (perOctave - 1)
	return uint8(min((octave-smallest)*perOctave+within, classes-1))
}

// classSize is the middle of a class, in octets.
func classSize(class uint8) float64 {
	octave, within := int(class)/perOctave, int(class)%perOctave
	return math.Ldexp(1+(float64(within)+0.5)/perOctave, octave+smallest)
}

// Alpha says how much an object's size counts against it: its value is its
// hits by size^alpha. The zero value is 0.5, which keeps nearly all hits and
// nearly all octets that can be had. AlphaOf makes others.
type Alpha struct {
	value float64
	set   bool
}

const defaultAlpha = 0.5

// AlphaOf returns an Alpha of v, which is brought into [0, 1]; NaN is 0. With
// 1 the most requests are hits, with 0 size counts nothing, which spares the
// most octets.
func AlphaOf(v float64) Alpha {
	if !(v > 0) { // also NaN
		v = 0
	}
	return Alpha{min(v, 1), true}
}

// Value returns the exponent, from 0 to 1.
func (a Alpha) Value() float64 {
	if !a.set {
		return defaultAlpha
	}
	return a.value
}

// weights returns 1/size^alpha for each class, where the middle of the first
// class weighs 1.
func (a Alpha) weights() *[classes]float32 {
	var w [classes]float32
	for c := range w {
		w[c] = float32(math.Pow(classSize(0)/classSize(uint8(c)), a.Value()))
	}
	return &w
}
