package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Report is what a simulation has to say, in three forms: text, JSON, and a
// drawing.
type Report struct {
	// Name is what the trace is called.
	Name    string
	Facts   Facts
	Reading Reading
	Plan    Plan
	Results []Result // as Run returns them
}

// WriteText writes the report for people, in lines of at most 80 octets unless
// names or a reason are longer.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.facts(&b)
	r.table(&b)
	if c := newChart(r); c != nil {
		c.text(&b, "Object hit ratio, %", func(x *Result) float64 { return x.ObjectRatio })
		c.text(&b, "Byte hit ratio, %", func(x *Result) float64 { return x.OctetRatio })
		c.legend(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// facts says what the trace is, and what of it did not count.
func (r *Report) facts(b *strings.Builder) {
	f := &r.Facts
	forms := make([]string, len(r.Reading.Forms))
	for i, form := range r.Reading.Forms {
		forms[i] = string(form)
	}
	fmt.Fprintf(b, "%s (%s)\n\n", printable(r.Name), strings.Join(forms, ", "))
	line := func(name, form string, args ...any) {
		fmt.Fprintf(b, "  %-10s %s\n", name, fmt.Sprintf(form, args...))
	}
	line("requests", "%s, for %s in all", count(f.Requests), octets(f.Octets))
	line("objects", "%s, of %s together; one in the middle has %s", count(f.Objects), octets(f.Footprint), octets(f.Median))
	line("once", "%s of the objects are asked for once", percent(ratio(f.Once, f.Objects)))
	objects, bytes := f.Bound()
	line("bound", "%s of requests, %s of bytes: if all is kept for ever", percent(objects), percent(bytes))
	for _, n := range r.notes() {
		line("note", "%s", n)
	}
}

// notes are what a careful reader of the figures should know.
func (r *Report) notes() (notes []string) {
	d := &r.Reading
	add := func(n int64, one, many string) {
		if n == 1 {
			notes = append(notes, one)
		} else if n > 1 {
			notes = append(notes, count(n)+" "+many)
		}
	}
	add(d.OtherMethod, "1 line does not count: it is neither GET nor HEAD", "lines do not count: they are neither GET nor HEAD")
	add(d.OtherStatus, "1 line does not count: its status is not kept", "lines do not count: their status is not kept")
	add(d.Passed, "1 line does not count: it passed the cache by", "lines do not count: they passed the cache by")
	add(d.Lost, "1 line is missing from the log", "lines are missing from the log")
	if d.Bad > 0 {
		add(d.Bad, "1 of "+count(d.Lines)+" lines cannot be read:", "of "+count(d.Lines)+" lines cannot be read; the first:")
		notes = append(notes, printable(d.FirstBad))
	}
	add(d.UnknownSizes, "1 object has no known size and gets a fixed one", "objects have no known size and get a fixed one")
	return notes
}

// table writes hit ratios by memory and policy.
func (r *Report) table(b *strings.Builder) {
	most := "a quarter of the memory"
	if r.Plan.MaxObject > 0 {
		most = octets(r.Plan.MaxObject)
	}
	fmt.Fprintf(b, "\nObject hit ratio and byte hit ratio in %%, each object charged its size\n"+
		"and %s more, none larger than %s:\n\n", octets(r.Plan.Overhead), most)
	fmt.Fprintf(b, "%10s %7s", "memory", "share")
	names := r.policies()
	for _, name := range names {
		fmt.Fprintf(b, "  %13s", name)
	}
	b.WriteByte('\n')
	for row := range slices.Chunk(r.Results, len(names)) {
		fmt.Fprintf(b, "%10s %7s", octets(row[0].Memory), percent(ratio(row[0].Memory, r.Facts.Footprint)))
		for _, x := range row {
			fmt.Fprintf(b, "  %6.1f %6.1f", 100*x.ObjectRatio, 100*x.OctetRatio)
		}
		b.WriteByte('\n')
	}
	if r.Plan.Now == nil {
		return
	}
	fmt.Fprintf(b, "%18s", "ns per request")
	for i := range names {
		fmt.Fprintf(b, "  %13d", r.cost(i))
	}
	b.WriteByte('\n')
}

// policies are the names in a row of the table.
func (r *Report) policies() (names []string) {
	for _, x := range r.Results {
		if x.Memory != r.Results[0].Memory || slices.Contains(names, x.Policy) {
			break
		}
		names = append(names, x.Policy)
	}
	return names
}

// cost is the mean over all sizes of what a request costs in the i-th policy.
func (r *Report) cost(i int) int64 {
	var sum, n int64
	for ; i < len(r.Results); i += len(r.policies()) {
		sum += r.Results[i].PerRequest.Nanoseconds()
		n++
	}
	return sum / max(n, 1)
}

// What WriteJSON writes. The names are a promise.
type (
	document struct {
		Trace     traceJSON    `json:"trace"`
		Reading   readingJSON  `json:"reading"`
		Overhead  int64        `json:"overhead"`
		MaxObject int64        `json:"max_object"` // 0: a quarter of the memory
		Alpha     float64      `json:"alpha"`
		Results   []resultJSON `json:"results"`
	}
	traceJSON struct {
		Name      string    `json:"name"`
		Formats   []Format  `json:"formats"`
		Requests  int64     `json:"requests"`
		Octets    int64     `json:"bytes"`
		Objects   int64     `json:"objects"`
		Footprint int64     `json:"footprint"`
		Once      int64     `json:"once"`
		Median    int64     `json:"median_size"`
		Bound     ratioJSON `json:"bound"`
	}
	readingJSON struct {
		Lines        int64  `json:"lines"`
		OtherMethod  int64  `json:"other_method"`
		OtherStatus  int64  `json:"other_status"`
		Passed       int64  `json:"passed"`
		Lost         int64  `json:"missing"`
		Bad          int64  `json:"bad"`
		FirstBad     string `json:"first_bad,omitempty"`
		UnknownSizes int64  `json:"unknown_sizes"`
	}
	ratioJSON struct {
		Objects float64 `json:"object_hit_ratio"`
		Octets  float64 `json:"byte_hit_ratio"`
	}
	resultJSON struct {
		Policy    string  `json:"policy"`
		Memory    int64   `json:"memory"`
		Share     float64 `json:"share"`
		Hits      int64   `json:"hits"`
		HitOctets int64   `json:"hit_bytes"`
		ratioJSON
		Objects    int   `json:"objects_held"`
		PerRequest int64 `json:"ns_per_request,omitempty"`
	}
)

// WriteJSON writes the report for programs: one object. Ratios are from 0 to 1,
// sizes in octets, costs in nanoseconds.
func (r *Report) WriteJSON(w io.Writer) error {
	f, d := &r.Facts, &r.Reading
	objects, bytes := f.Bound()
	doc := document{
		Trace: traceJSON{
			r.Name, d.Forms, f.Requests, f.Octets, f.Objects, f.Footprint, f.Once, f.Median,
			ratioJSON{objects, bytes},
		},
		Reading:  readingJSON{d.Lines, d.OtherMethod, d.OtherStatus, d.Passed, d.Lost, d.Bad, d.FirstBad, d.UnknownSizes},
		Overhead: r.Plan.Overhead, MaxObject: max(r.Plan.MaxObject, 0), Alpha: r.Plan.Alpha.Value(),
	}
	for _, x := range r.Results {
		doc.Results = append(doc.Results, resultJSON{
			x.Policy, x.Memory, ratio(x.Memory, f.Footprint), x.Hits, x.HitOctets,
			ratioJSON{x.ObjectRatio, x.OctetRatio},
			x.Objects, x.PerRequest.Nanoseconds(),
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// count writes a number with a comma at each thousand.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// octets writes a size in powers of 1024, with three digits that count.
func octets(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 999.5; unit++ {
		v /= 1024
	}
	return digits(v) + " " + "KMGTPE"[unit:unit+1] + "iB"
}

// percent writes a ratio with three digits that count.
func percent(v float64) string { return digits(100*v) + " %" }

// digits writes a number with three digits that count, without a useless end.
func digits(v float64) string {
	precision := 0
	switch {
	case v < 0.0995:
		precision = 3
	case v < 9.995:
		precision = 2
	case v < 99.95:
		precision = 1
	}
	s := strconv.FormatFloat(v, 'f', precision, 64)
	if precision > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// printable leaves nothing in s that a terminal might act upon.
func printable(s string) string {
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
