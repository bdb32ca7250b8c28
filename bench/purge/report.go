//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A report prints figures as they come, and knows which miss their bars.
type report struct {
	missed int // bars
}

// part begins what belongs together, and notes how busy the machine is.
func (r *report) part(name string) {
	load, _ := os.ReadFile("/proc/loadavg") // where there is none, it says nothing
	first, _, _ := strings.Cut(string(load), " ")
	fmt.Printf("%-66s load %s\n", name, first)
}

// A figure is what several rounds have measured.
type figure []float64

// middle is the median, noise half the distance between the least and the most.
func (f figure) middle() float64 {
	sorted := slices.Sorted(slices.Values(f))
	return sorted[len(sorted)/2]
}

func (f figure) noise() float64 { return (slices.Max(f) - slices.Min(f)) / 2 }

func (f figure) String() string {
	if len(f) == 1 {
		return fmt.Sprintf("%.4g", f[0])
	}
	return fmt.Sprintf("%.4g (%.4g-%.4g)", f.middle(), slices.Min(f), slices.Max(f))
}

// note prints a figure that has no bar.
func (r *report) note(what, unit string, f figure) {
	fmt.Printf("  %-62s %26s %s\n", what, f, unit)
}

// most prints a figure that is to be at most bar. It misses that only if it does so by
// more than the rounds differ.
func (r *report) most(what, unit string, f figure, bar float64) {
	verdict := "ok"
	switch over := f.middle() - bar; {
	case over > f.noise():
		verdict = "MISSED"
		r.missed++
	case over > 0:
		verdict = "within noise"
	}
	fmt.Printf("  %-62s %26s %-8s bar %g: %s\n", what, f, unit, bar, verdict)
}

func (r *report) verdict() error {
	if r.missed > 0 {
		return fmt.Errorf("bars MISSED: %d", r.missed)
	}
	fmt.Println("\nno bar is missed")
	return nil
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
