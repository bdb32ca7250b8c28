package simulate

import (
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// Measures of the drawing, in its own units: about a pixel each.
const (
	svgWidth    = 960
	svgHeight   = 500
	panelTop    = 104
	panelHeight = 290
	panelWidth  = 380
	panelLeft   = 70
	panelGap    = 100
	labelWidth  = 68
)

// svgStyle tells the policies apart by colour, by stroke and by mark, so that one
// of them will do. The colours are fit for those who see few, on light and on
// dark ground.
const svgStyle = `
  .hits { background: #fff; color: #1a1a1a }
  .hits text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: currentColor }
  .hits .title { font-size: 18px; font-weight: 600 }
  .hits .head { font-weight: 600 }
  .hits .small { font-size: 12px; opacity: .75 }
  .hits .axis { stroke: currentColor; fill: none }
  .hits .grid { stroke: currentColor; opacity: .13; fill: none }
  .hits .bound { stroke: currentColor; opacity: .6; stroke-dasharray: 2 5; fill: none }
  .hits .curve { stroke: currentColor; fill: none; stroke-width: 2.2; stroke-linejoin: round }
  .hits .dot { fill: currentColor; stroke: none }
  .hits .shd { color: #0072b2 } .hits .lru { color: #c25400 }
  .hits .sieve { color: #00795a } .hits .s3-fifo { color: #a8487f }
  .hits .shd.curve { stroke-width: 3.4 } .hits .lru.curve { stroke-dasharray: 9 4 }
  .hits .sieve.curve { stroke-dasharray: 3 3 } .hits .s3-fifo.curve { stroke-dasharray: 11 3 2 3 }
  @media (prefers-color-scheme: dark) {
    .hits { background: #16181c; color: #e8e8e8 }
    .hits .shd { color: #56b4e9 } .hits .lru { color: #f0883e }
    .hits .sieve { color: #2fc598 } .hits .s3-fifo { color: #e58fc0 }
  }
`

// WriteSVG draws the curves over memory, as one file that needs no other. A
// report on one size cannot be drawn: then the error says so.
func (r *Report) WriteSVG(w io.Writer) error {
	c := newChart(r)
	if c == nil {
		return errors.New("one size of memory makes no curve: name two or more")
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="hits" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title">`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, "<title id=\"title\">Hit ratios over memory: %s</title>\n<style>%s</style>\n", html.EscapeString(printable(r.Name)), svgStyle)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="32">Hit ratios over memory: %s</text>`+"\n", panelLeft, html.EscapeString(printable(r.Name)))
	fmt.Fprintf(&b, `<text class="small" x="%d" y="52">%s requests for %s objects of %s together; %s are asked for once</text>`+"\n",
		panelLeft, count(r.Facts.Requests), count(r.Facts.Objects), octets(r.Facts.Footprint), percent(ratio(r.Facts.Once, r.Facts.Objects)))
	c.panel(&b, panelLeft, "Object hit ratio, %", func(x *Result) float64 { return x.ObjectRatio })
	c.panel(&b, panelLeft+panelWidth+panelGap, "Byte hit ratio, %", func(x *Result) float64 { return x.OctetRatio })
	c.key(&b)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// panel draws one diagram.
func (c *chart) panel(b *strings.Builder, left int, title string, of func(*Result) float64) {
	bound := c.bound(of)
	low, high := c.scale(of, bound)
	y := func(v float64) float64 { return panelTop + (high-100*v)/(high-low)*panelHeight }
	x := func(memory int64) float64 { return float64(left) + c.x(memory)*panelWidth }
	right, bottom := left+panelWidth, panelTop+panelHeight
	fmt.Fprintf(b, `<text x="%d" y="%d" class="head">%s</text>`+"\n", left, panelTop-16, title)
	for v := low; v <= high; v += tick(low, high) {
		fmt.Fprintf(b, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n", left, y(v/100), right, left-8, y(v/100)+4, v)
	}
	var labelled []float64
	for _, m := range c.memory() {
		at := x(m)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %dV%d"/>`, at, panelTop, bottom)
		if !slices.ContainsFunc(labelled, func(other float64) bool { return math.Abs(other-at) < labelWidth }) {
			labelled = append(labelled, at)
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, bottom+19, octets(m))
			fmt.Fprintf(b, `<text class="small" x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, bottom+35, percent(ratio(m, c.Facts.Footprint)))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, `<path class="axis" d="M%d %dV%dH%d"/><path class="bound" d="M%[1]d %.1[5]fH%[4]d"/>`+"\n", left, panelTop, bottom, right, y(bound))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">memory, and its share of all objects</text>`+"\n", (left+right)/2, bottom+58)
	for i := len(c.names) - 1; i >= 0; i-- { // the first is drawn last, above all
		c.curve(b, i, x, y, of)
	}
}

func (c *chart) curve(b *strings.Builder, i int, x func(int64) float64, y func(float64) float64, of func(*Result) float64) {
	name := c.names[i]
	var points, dots strings.Builder
	for j := i; j < len(c.Results); j += len(c.names) {
		r := &c.Results[j]
		fmt.Fprintf(&points, "%.1f,%.1f ", x(r.Memory), y(of(r)))
		dots.WriteString(dot(name, x(r.Memory), y(of(r)), fmt.Sprintf("%s, %s: %.1f %%", name, octets(r.Memory), 100*of(r))))
	}
	fmt.Fprintf(b, `<polyline class="curve %s" points="%s"/>%s`+"\n", name, strings.TrimSpace(points.String()), dots.String())
}

// dot is the mark of a policy, and what is shown to who points at it.
func dot(name string, x, y float64, text string) string {
	shape := map[string]string{
		"shd":     "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0 -4.5 0Z",
		"lru":     "M-4 -4H4V4H-4Z",
		"sieve":   "M0 -5L5 4H-5Z",
		"s3-fifo": "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
	}[name]
	return fmt.Sprintf(`<path class="dot %s" transform="translate(%.1f %.1f)" d="%s"><title>%s</title></path>`, name, x, y, shape, html.EscapeString(text))
}

// key says which curve is whose.
func (c *chart) key(b *strings.Builder) {
	const y = svgHeight - 22
	x := panelLeft
	for _, name := range c.names {
		fmt.Fprintf(b, `<path class="curve %s" d="M%d %dh40"/>%s<text x="%d" y="%d">%s</text>`+"\n", name, x, y, dot(name, float64(x+20), y, name), x+50, y+4, name)
		x += 130
	}
	fmt.Fprintf(b, `<path class="bound" d="M%d %dh40"/><text x="%d" y="%d">bound: everything kept for ever</text>`+"\n", x, y, x+50, y+4)
}
