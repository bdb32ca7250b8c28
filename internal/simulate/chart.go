package simulate

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	chartColumns = 68
	chartRows    = 15
	chartMargin  = 7
)

// marks stand for policies where there is no colour, in the order of Policies.
const marks = "#o+x"

// A chart is where results stand on paper: memory to the right in powers, hit
// ratios upwards.
type chart struct {
	*Report
	names       []string
	left, right float64 // logarithms of the least and the most memory
}

// newChart returns nil if there is nothing to draw: one size makes no curve.
func newChart(r *Report) *chart {
	if len(r.Results) == 0 {
		return nil
	}
	c := &chart{Report: r, names: r.policies(), left: math.Inf(1), right: math.Inf(-1)}
	for _, x := range r.Results {
		m := math.Log(float64(x.Memory))
		c.left, c.right = min(c.left, m), max(c.right, m)
	}
	if !(c.left < c.right) {
		return nil
	}
	return c
}

// x is where a size stands, from 0 to 1.
func (c *chart) x(memory int64) float64 {
	return (math.Log(float64(memory)) - c.left) / (c.right - c.left)
}

// scale returns the least and the most of an axis of percentages, multiples of
// ten, that hold all values and the bound.
func (c *chart) scale(of func(*Result) float64, bound float64) (low, high float64) {
	low, high = bound, bound
	for i := range c.Results {
		low, high = min(low, of(&c.Results[i])), max(high, of(&c.Results[i]))
	}
	low, high = math.Floor(10*low)*10, math.Ceil(10*high)*10
	return low, max(high, low+10)
}

// bound is that of the ratios that are drawn.
func (c *chart) bound(of func(*Result) float64) float64 {
	objects, bytes := c.Facts.Bound()
	return of(&Result{ObjectRatio: objects, OctetRatio: bytes})
}

// mark is the mark of a policy.
func mark(name string) byte {
	for i, known := range Policies() {
		if name == known {
			return marks[i]
		}
	}
	return '?'
}

// text draws in letters.
func (c *chart) text(b *strings.Builder, title string, of func(*Result) float64) {
	bound := c.bound(of)
	low, high := c.scale(of, bound)
	row := func(v float64) int { return int(math.Round((high - 100*v) / (high - low) * (chartRows - 1))) }
	column := func(memory int64) int { return int(math.Round(c.x(memory) * (chartColumns - 1))) }
	var grid [chartRows][chartColumns]byte
	for i := range grid {
		copy(grid[i][:], strings.Repeat(" ", chartColumns))
	}
	copy(grid[row(bound)][:], strings.Repeat("- ", chartColumns/2))
	for i := len(c.names) - 1; i >= 0; i-- { // the first is drawn last, above all
		var last *Result
		for j := i; j < len(c.Results); j += len(c.names) {
			x := &c.Results[j]
			for k := column(x.Memory); last != nil && k > column(last.Memory); k-- {
				way := float64(k-column(last.Memory)) / float64(column(x.Memory)-column(last.Memory))
				cell := &grid[row(of(last)+way*(of(x)-of(last)))][k]
				if *cell == ' ' || *cell == '-' {
					*cell = '.'
				}
			}
			last = x
		}
		for j := i; j < len(c.Results); j += len(c.names) {
			grid[row(of(&c.Results[j]))][column(c.Results[j].Memory)] = mark(c.names[i])
		}
	}
	fmt.Fprintf(b, "\n%s\n", title)
	var labels [chartRows]string
	for v := low; v <= high; v += tick(low, high) {
		labels[row(v/100)] = digits(v)
	}
	for i, line := range grid {
		fmt.Fprintf(b, "%s\n", strings.TrimRight(fmt.Sprintf("%*s |%s", chartMargin-2, labels[i], line[:]), " "))
	}
	fmt.Fprintf(b, "%*s+%s\n", chartMargin-1, "", strings.Repeat("-", chartColumns))
	c.axis(b, column)
}

// tick is the distance of two lines of a scale of percentages.
func tick(low, high float64) float64 {
	if high-low > 50 {
		return 20
	}
	return 10
}

// memory is the sizes, as labels need them: the last and the first come first,
// for who finds no room is left out.
func (c *chart) memory() (sizes []int64) {
	for j := 0; j < len(c.Results); j += len(c.names) {
		sizes = append(sizes, c.Results[j].Memory)
	}
	slices.Reverse(sizes)
	n := len(sizes)
	return slices.Concat(sizes[:1], sizes[n-1:], sizes[1:n-1])
}

// axis writes the sizes under a drawing in letters, as far as there is room.
func (c *chart) axis(b *strings.Builder, column func(int64) int) {
	line := []byte(strings.Repeat(" ", chartMargin+chartColumns+1))
	for _, m := range c.memory() {
		label := octets(m)
		at := min(chartMargin+column(m)-len(label)/2, chartMargin+chartColumns-len(label))
		around := line[at-1 : at+len(label)+1]
		if len(bytes.TrimSpace(around)) == 0 {
			copy(around[1:], label)
		}
	}
	fmt.Fprintf(b, "%s\n", bytes.TrimRight(line, " "))
}

func (c *chart) legend(b *strings.Builder) {
	b.WriteString("\n ")
	for _, name := range c.names {
		fmt.Fprintf(b, " %c %s  ", mark(name), name)
	}
	b.WriteString(" - - all is kept for ever\n")
}
