package simulate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/internal/evict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

// sample is a report on a small trace, with a clock that goes on by itself. The
// trace is made of whole numbers, which are the same on all machines.
func sample(t *testing.T, shares ...float64) *Report {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 0))
	trace := &Trace{}
	for range 1000 {
		trace.sizes = append(trace.sizes, 1000+r.Int64N(1<<r.IntN(18)))
	}
	for range 5000 {
		trace.requests = append(trace.requests, uint32(r.IntN(1+r.IntN(1+r.IntN(len(trace.sizes))))))
	}
	now := time.Unix(0, 0)
	facts := trace.Facts()
	plan := Plan{Overhead: 512, Now: func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}}
	for _, share := range shares {
		plan.Memory = append(plan.Memory, int64(share*float64(facts.Footprint)))
	}
	results, err := trace.Run(plan)
	if err != nil {
		t.Fatal(err)
	}
	reading := Reading{
		Lines: facts.Requests + 1234, Requests: facts.Requests, OtherMethod: 1000, OtherStatus: 1, Passed: 230, Lost: 5, Bad: 3,
		FirstBad: "\x1b[31maccess.log:17: no [time] in brackets", Forms: []Format{Combined, JSON}, UnknownSizes: 12,
	}
	return &Report{Name: "<evil> & \x1b[31maccess.log", Facts: facts, Reading: reading, Plan: plan, Results: results}
}

var ladder = []float64{.001, .003, .01, .02, .05, .1}

// What people, programs and browsers get. Look at the files when they change.
func TestGolden(t *testing.T) {
	r := sample(t, ladder...)
	for name, write := range map[string]func(*Report, io.Writer) error{
		"report.txt": (*Report).WriteText, "report.json": (*Report).WriteJSON, "report.svg": (*Report).WriteSVG,
	} {
		var b bytes.Buffer
		if err := write(r, &b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
	var b bytes.Buffer
	if err := sample(t, .02).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "one-size.txt", b.Bytes())
}

// The text fits 80 columns and holds nothing that a terminal acts upon; the
// drawing is well-formed and needs no other file.
func TestForms80(t *testing.T) {
	for _, shares := range [][]float64{ladder, {.01}, {.001, .0011, .0012, .9}, {.5, 1, 2}} {
		r := sample(t, shares...)
		var text, svg bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if len(line) > 81 || strings.TrimRight(line, " \n")+"\n" != line && line != "\n" {
				t.Errorf("too long, or with blanks at the end: %q", line)
			}
			if strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
				t.Errorf("not fit for a terminal: %q", line)
			}
		}
		if err := r.WriteSVG(&svg); (err != nil) != (len(shares) == 1) {
			t.Errorf("%d sizes: %v", len(shares), err)
		}
		for d := xml.NewDecoder(&svg); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok {
				for _, a := range e.Attr {
					if a.Name.Local == "href" || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
						t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		}
	}
}

// The figures are those of a cache that is run by hand, whatever the workers.
func TestRun(t *testing.T) {
	trace := web{objects: 2000}.trace(4)
	plan := Plan{Memory: []int64{1 << 20, 10 << 20}, Overhead: 100, MaxObject: 1 << 19, Alpha: evict.AlphaOf(1), Policies: []string{"lru", "shd"}}
	var want []Result
	facts := trace.Facts()
	for _, memory := range plan.Memory {
		room := evict.Room{Capacity: memory, Overhead: 100, MaxObject: 1 << 19}
		for name, p := range map[string]evict.Policy{"lru": evict.NewLRU(room, trace.sizes), "shd": evict.NewSHD(room, trace.sizes, evict.Options{Alpha: plan.Alpha})} {
			r := Result{Policy: name, Memory: memory}
			for _, o := range trace.requests {
				if p.Request(o) {
					r.Hits++
					r.HitOctets += trace.sizes[o]
				}
			}
			r.Objects = p.Len()
			r.ObjectRatio, r.OctetRatio = ratio(r.Hits, facts.Requests), ratio(r.HitOctets, facts.Octets)
			want = append(want, r)
		}
	}
	slices.SortFunc(want, func(a, b Result) int {
		if a.Memory != b.Memory {
			return int(a.Memory - b.Memory)
		}
		return strings.Compare(a.Policy, b.Policy)
	})
	for _, workers := range []int{0, 1, 3, 50} {
		plan.Workers = workers
		got, err := trace.Run(plan)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d workers: %+v, %v; want %+v", workers, got, err, want)
		}
	}
	if _, err := trace.Run(Plan{Policies: []string{"fifo"}}); err == nil || err.Error() != `there is no policy "fifo"` {
		t.Errorf("fifo: %v", err)
	}
}

func TestRunTellsProgress(t *testing.T) {
	trace := web{objects: 2000}.trace(4)
	last := 0.0
	_, err := trace.Run(Plan{Memory: []int64{1 << 20}, Progress: func(done float64) {
		if done <= last {
			t.Errorf("%v after %v", done, last)
		}
		last = done
	}})
	if err != nil || last != 1 {
		t.Errorf("%v, %v", last, err)
	}
}

func TestFacts(t *testing.T) {
	trace := &Trace{requests: []uint32{0, 1, 0, 2, 0}, sizes: []int64{10, 20, 70}}
	f := trace.Facts()
	if want := (Facts{Requests: 5, Octets: 120, Objects: 3, Footprint: 100, Once: 2, Median: 20}); f != want {
		t.Errorf("%+v, want %+v", f, want)
	}
	if objects, octets := f.Bound(); objects != .4 || math.Abs(octets-1.0/6) > 1e-9 {
		t.Errorf("bound %v, %v", objects, octets)
	}
	if objects, octets := (Facts{}).Bound(); objects != 0 || octets != 0 {
		t.Errorf("bound of nothing %v, %v", objects, octets)
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(1234567): "1,234,567", count(-1234): "-1,234",
		octets(0): "0 B", octets(1023): "1023 B", octets(1024): "1 KiB", octets(1 << 20): "1 MiB", octets(1<<20 - 1): "1 MiB",
		octets(1500): "1.46 KiB", octets(29_300_000_000): "27.3 GiB", octets(math.MaxInt64): "8 EiB",
		percent(.003): "0.3 %", percent(.5): "50 %", percent(.123456): "12.3 %", percent(1): "100 %", percent(.00001): "0.001 %",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
