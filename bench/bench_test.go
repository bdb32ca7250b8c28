//go:build linux

package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseReport(t *testing.T) {
	const line = "result requests=48236 bytes=59909112 duration_us=1101013 p50_us=138 p99_us=4291 connect=0 read=1 write=2 status=3 timeout=4\n"
	got, err := parseReport("Running 1s test\n  1 threads\nRequests/sec:  43810.56\n" + line)
	want := report{
		requests: 48236, bytes: 59909112, duration: 1101013 * time.Microsecond,
		p50: 138 * time.Microsecond, p99: 4291 * time.Microsecond, read: 1, write: 2, status: 3, timeout: 4,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for name, text := range map[string]string{
		"none":       "unable to connect to 127.0.0.1:1 Connection refused\n",
		"incomplete": "result requests=1 bytes=2\n",
		"repeated":   "result requests=1 " + strings.TrimPrefix(line, "result "),
		"unknown":    strings.Replace(line, "status", "colour", 1),
		"no number":  strings.Replace(line, "48236", "many", 1),
	} {
		if got, err := parseReport(text); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	const line = "4242 (nginx: (a) b) S 17 4242 4242 0 -1 4194560 900 0 1 0 250 125 9 9 20 0 1 0 98765 80000000 1800"
	got, ok := parseStat(line)
	if want := (procStat{pid: 4242, parent: 17, ticks: 375, started: 98765}); !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", strings.Replace(line, "250", "-", 1)} {
		if got, ok := parseStat(bad); ok {
			t.Errorf("%q: got %+v", bad, got)
		}
	}
}

func TestTree(t *testing.T) {
	all := map[int]procStat{}
	for pid, parent := range map[int]int{1: 0, 10: 1, 11: 10, 12: 10, 13: 12, 20: 1, 21: 20} {
		all[pid] = procStat{pid: pid, parent: parent}
	}
	var got []int
	for _, p := range tree(all, 10) {
		got = append(got, p.pid)
	}
	if got[0] != 10 {
		t.Errorf("first is %d, not the root", got[0])
	}
	slices.Sort(got)
	if want := []int{10, 11, 12, 13}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if gone := tree(all, 99); len(gone) != 1 || gone[0].pid != 99 {
		t.Errorf("tree of a process that ended: %v", gone)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// samples makes one sample of a second for each number of clock ticks.
func samples(ticks ...int64) []sample {
	var all []sample
	for _, n := range ticks {
		r := report{requests: 100_000, bytes: 150_000_000, duration: time.Second, p50: 300 * time.Microsecond, p99: 2500 * time.Microsecond}
		all = append(all, sample{report: r, ticks: n, memory: 10 << 20})
	}
	return all
}

func TestRatios(t *testing.T) {
	one := table{work: "one1k", rows: []row{
		newRow(nameFloor, samples(50, 40, 60), ""),
		newRow(nameOurs, samples(80, 100, 90), ""),
		newRow("nginx", samples(180, 170, 200), ""),
		newRow("squid", samples(300), "3 non-2xx"),
		newRow("ats", nil, "does not answer: it printed nothing"),
	}}
	for _, c := range []struct{ a, b, want string }{
		{nameOurs, nameFloor, "1.80"},
		{"nginx", nameOurs, "2.00"},
		{nameOurs, nameOurs, "1.00"},
		{"squid", nameOurs, "-"},
		{nameOurs, "squid", "-"},
		{"ats", nameFloor, "-"},
		{"absent", nameFloor, "-"},
	} {
		if got := one.ratio(c.a, c.b); got != c.want {
			t.Errorf("ratio(%s, %s) = %s, want %s", c.a, c.b, got, c.want)
		}
	}

	const want = `
       requests/s  CPU us/req    ±  × ours  × floor    p50     p99  RSS MiB  origin/req
floor      100000        5.00  20%    0.56     1.00  300us  2.50ms       10        0.00
ours       100000        9.00  11%    1.00     1.80  300us  2.50ms       10        0.00
nginx      100000       18.00   8%    2.00     3.60  300us  2.50ms       10        0.00
squid           -           -    -       -        -      -       -        -           -  INVALID: 3 non-2xx
ats             -           -    -       -        -      -       -        -           -  INVALID: does not answer: it printed nothing

CPU per request, as ratios (a peer ÷ ours above 1: the peer spends more than ours)
       ours ÷ floor  nginx ÷ ours  squid ÷ ours  ats ÷ ours
one1k          1.80          2.00             -           -
`
	var b strings.Builder
	b.WriteString("\n")
	one.print(&b)
	summarize(&b, []table{one})
	if b.String() != want {
		t.Errorf("got:%swant:%s", b.String(), want)
	}

	// Who is left out of a table, even of the first, is named there, and has its place beside the others.
	two := table{work: "h2", leftOut: []string{nameFloor, "squid", "ats"}, rows: []row{one.rows[1], one.rows[2]}}
	b.Reset()
	two.print(&b)
	summarize(&b, []table{two, one})
	for _, part := range []string{
		"\nleft out, not set up for TLS here: floor, squid, ats\n",
		"ours ÷ floor  nginx ÷ ours  squid ÷ ours  ats ÷ ours\n",
		"h2                -          2.00             -           -\n",
		"one1k          1.80          2.00             -           -\n",
	} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("there is no %q in%s", part, b.String())
		}
	}
	if err := verdict([]table{two}, nil); err != nil {
		t.Errorf("a table without the floor: %v", err)
	}

	if err := verdict([]table{one}, nil); err != nil {
		t.Errorf("a peer that fails is not ours to answer for: %v", err)
	}
	one.rows[1].problem = "1 time-outs"
	if err := verdict([]table{one}, nil); err == nil {
		t.Error("no error when ours is invalid")
	}
}

func TestCheck(t *testing.T) {
	good := samples(1)[0]
	hits, misses := workloads[0], workload{kind: miss, size: 1024}
	for name, c := range map[string]struct {
		w     workload
		floor bool
		edit  func(*sample)
		want  string // part of the error; empty: none
	}{
		"hits":            {w: hits, edit: func(*sample) {}},
		"floor":           {w: misses, floor: true, edit: func(*sample) {}},
		"non-2xx":         {w: hits, edit: func(s *sample) { s.status = 2 }, want: "2 non-2xx"},
		"time-outs":       {w: hits, edit: func(s *sample) { s.timeout = 1 }, want: "1 time-outs"},
		"short":           {w: hits, edit: func(s *sample) { s.bytes = s.requests * 1023 }, want: "1023 bytes an answer"},
		"nothing":         {w: hits, edit: func(s *sample) { s.requests = 0 }, want: "no request"},
		"hits that miss":  {w: hits, edit: func(s *sample) { s.served = 200 }, want: "not hits"},
		"misses":          {w: misses, edit: func(s *sample) { s.served = s.requests }},
		"misses that hit": {w: misses, edit: func(s *sample) { s.served = s.requests / 2 }, want: "not misses"},
	} {
		s := good
		c.edit(&s)
		err := s.check(c.w, c.floor)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestAllowedCPUs(t *testing.T) {
	for set, want := range map[string][]string{
		"0-1": {"0", "1"}, "3": {"3"}, "0,2-4,9": {"0", "2", "3", "4", "9"}, "x-2": nil,
	} {
		if got := allowedCPUs("Name:\tbench\nCpus_allowed_list:\t" + set + "\n"); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", set, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	env := map[string]string{"SECS": "1", "WORK": "one1k, miss", "PEERS": "none"}
	o, err := parseOptions([]string{"-conns", "8", "old:/bin/old $PORT"}, func(k string) string { return env[k] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.secs != 1 || o.rounds != 3 || o.conns != 8 || !slices.Equal(o.work, []string{"one1k", "miss"}) || len(o.peers) != 0 || len(o.extra) != 1 {
		t.Errorf("got %+v", o)
	}
	for _, bad := range [][]string{
		{"-work", "one2k"}, {"-peers", "iis"}, {"-secs", "0"}, {"no-colon"}, {"ours:x"}, {"a:x", "a:y"}, {"-no-such-flag"},
	} {
		if o, err := parseOptions(bad, func(string) string { return "" }, io.Discard); err == nil {
			t.Errorf("%v: got %+v, want an error", bad, o)
		}
	}
}

func TestParseCalls(t *testing.T) {
	const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 60.00    0.500000           5    100000           write
 39.00    0.300000           3    101000       900 read
  0.50    0.010000          10      1500           epoll_pwait
  0.50    0.010000          10         3         1 mmap
------ ----------- ----------- --------- --------- ------------------
100.00    0.820000           4    202503       901 total
`
	got, err := parseCalls(text, 100_000)
	want := []callCount{{"epoll_pwait", 0.015}, {"read", 1.01}, {"write", 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := parseCalls("strace: cannot\n", 1); err == nil {
		t.Errorf("got %v of nothing", got)
	}
}

// A document keeps all but what is between the two lines, and says what lost, too.
func TestDocument(t *testing.T) {
	contenders := []contender{{name: nameFloor}, {name: nameOurs}, {name: "nginx", version: "1.2"}, {name: "squid"}}
	tables := []table{{work: "one1k", rows: []row{
		{name: nameFloor, rounds: 3, cpu: 5},
		{name: nameOurs, rounds: 3, cpu: 6, spread: 0.05},
		{name: "nginx", rounds: 3, cpu: 3},
		{name: "squid", problem: "not hits"},
	}}, {work: "h2", leftOut: []string{nameFloor, "squid"}, rows: []row{
		{name: nameOurs, rounds: 3, cpu: 8, spread: 0.02},
		{name: "nginx", rounds: 3, cpu: 7},
	}}}
	before := "# Title\n\n" + documentBegin + "old\n" + documentEnd + "\nrest\n"
	got, err := replaceGenerated([]byte(before), markdown(options{secs: 2, rounds: 3, conns: 64}, contenders, tables, "read 1.00"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	for _, part := range []string{
		"# Title\n\n" + documentBegin, "| hits on one key of 1 KiB | 6.0 ± 5% | 1.20 | 0.50 | - |\n", "nginx 1.2", "`SECS=2 ROUNDS=3 make bench`",
		"| hits on one key of 1 KiB by TLS 1.3 over HTTP/2, 32 connections of 10 streams | 8.0 ± 2% | - | 0.88 | - |\n",
		"By TLS there is no figure of floor, squid: not set up for it here.",
		"one1k, squid: INVALID: not hits", "read 1.00", documentEnd + "\nrest\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("what was there before is there still")
	}
	for _, bad := range []string{"", documentBegin, documentEnd + documentBegin} {
		if _, err := replaceGenerated([]byte(bad), "x"); err == nil {
			t.Errorf("%q has a place to write to", bad)
		}
	}
}
