package simulate

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/larderhq/larder/internal/observe"
)

// read returns what a Reader makes of texts.
func read(t *testing.T, opts Options, texts ...string) (*Trace, Reading) {
	t.Helper()
	r := NewReader(opts)
	for _, text := range texts {
		if err := r.Add("log", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	trace, reading, err := r.Trace()
	if err != nil {
		t.Fatal(err)
	}
	return trace, reading
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func u32x3(records ...[3]uint32) string {
	var b []byte
	for _, r := range records {
		for _, v := range r {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	return string(b)
}

// Each form is told by its content, and read.
func TestForms(t *testing.T) {
	for name, test := range map[string]struct {
		text     string
		form     Format
		requests []uint32
		sizes    []int64
	}{
		"common": {
			"192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] \"GET /a HTTP/1.1\" 200 2326\n" +
				"192.0.2.1 - frank [10/Oct/2025:13:55:36 +0000] \"GET /b?x=1 HTTP/1.0\" 404 12\n" +
				"192.0.2.1 - - [10/Oct/2025:13:55:37 +0000] \"GET /a HTTP/1.1\" 304 -\n",
			Combined,
			[]uint32{0, 1, 0},
			[]int64{2326, 12},
		},
		"combined": {
			`2001:db8::1 - - [10/Oct/2025:13:55:36 +0000] "GET /say\"so\" HTTP/2.0" 200 7 "https://example.org/[x]" "Mozilla \"5.0\""` + "\r\n" +
				`2001:db8::1 - - [10/Oct/2025:13:55:36 +0000] "HEAD /say\"so\" HTTP/2.0" 200 0 "-" "curl"` + "\r\n",
			Combined,
			[]uint32{0, 0},
			[]int64{7},
		},
		"with hosts": {
			"a.example:443 192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] \"GET / HTTP/1.1\" 200 5\n" +
				"b.example:443 192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] \"GET / HTTP/1.1\" 200 6\n",
			Combined,
			[]uint32{0, 1},
			[]int64{5, 6},
		},
		"blanks in a target, no protocol": {
			"h - - [t] \"GET /a b HTTP/1.1\" 200 5\nh - - [t] \"GET /a\" 200 9\n",
			Combined,
			[]uint32{0, 1},
			[]int64{5, 9},
		},
		"nginx in JSON": {
			`{"time_local":"x","request_method":"GET","http_host":"h","request_uri":"/a?b","uri":"/index.php","status":"200","body_bytes_sent":"77","bytes_sent":"300"}` + "\n" +
				`{"request_method":"GET","http_host":"h","request_uri":"/c","uri":"/index.php","status":200,"body_bytes_sent":78}` + "\n" +
				`{"http_host":"h","request_uri":"/a?b","args":"b"}` + "\n",
			JSON,
			[]uint32{0, 1, 0},
			[]int64{77, 78},
		},
		"uri and args": {
			`{"host":"h","uri":"/a","args":"x=1","status":200,"bytes":1}` + "\n" + `{"host":"h","uri":"/a","args":"","status":200,"bytes":2}` + "\n" + `{"bytes":3,"uri":"/a?x=1","host":"h"}`,
			JSON,
			[]uint32{0, 1, 0},
			[]int64{3, 2},
		},
		"a request line in JSON": {
			`{"request":"GET /a HTTP/1.1","status":200,"size":9}` + "\n" + `{"request":"POST /a HTTP/1.1","status":200,"size":9}` + "\n",
			JSON,
			[]uint32{0},
			[]int64{9},
		},
		"a name is host and target": {
			`{"host":"a","uri":"b/","bytes":1}` + "\n" + `{"host":"ab","uri":"/","bytes":2}` + "\n",
			JSON,
			[]uint32{0, 1},
			[]int64{1, 2},
		},
		"caddy": {
			`{"level":"info","ts":1.5,"request":{"remote_ip":"::1","method":"GET","host":"h","uri":"/a","headers":{"Accept":["*/*"]}},"size":12,"status":200}` + "\n" +
				`{"level":"info","request":{"method":"GET","host":"g","uri":"\/a"},"size":13,"status":200}` + "\n",
			JSON,
			[]uint32{0, 1},
			[]int64{12, 13},
		},
		"traefik": {
			`{"DownstreamContentSize":5,"DownstreamStatus":200,"RequestHost":"h","RequestMethod":"GET","RequestPath":"/"}` + "\n",
			JSON,
			[]uint32{0},
			[]int64{5},
		},
		"a load balancer": {
			`{"httpRequest":{"requestMethod":"GET","requestUrl":"https://h/a","status":200,"responseSize":"512"},"severity":"INFO"}` + "\n",
			JSON,
			[]uint32{0},
			[]int64{512},
		},
		"null and lists are nothing": {
			`{"host":null,"target":["x"],"uri":"/a","status":200,"bytes":null,"size":4,"x":{"y":"}"}}` + "\n",
			JSON,
			[]uint32{0},
			[]int64{4},
		},
		"text of ours": {
			"15:04:05.000  200  miss     GET   /a                            1.50 KiB   0.10 ms  nothing stored\n" +
				"15:04:05.001  304  hit      GET   /a                                 0 B   0.10 ms\n" +
				"15:04:05.001  200  pass     GET   /b                                 5 B   0.10 ms\n" +
				"15:04:05.001  ---  -        GET   /b                                 0 B   0.10 ms\n" +
				"15:04:05.002  12 lines are missing here: they came faster than they could be written\n",
			Text,
			[]uint32{0, 0},
			[]int64{1536},
		},
		"numbers": {
			u32x3([3]uint32{0, 7, 100}, [3]uint32{1, 9, 0}, [3]uint32{2, 7, 90}),
			U32x3,
			[]uint32{0, 1, 0},
			[]int64{100, 10 << 10},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range []string{test.text, packed(t, test.text)} {
				trace, reading := read(t, Options{}, text)
				if !slices.Equal(trace.requests, test.requests) || !slices.Equal(trace.sizes, test.sizes) {
					t.Errorf("requests %v of sizes %v, want %v of %v", trace.requests, trace.sizes, test.requests, test.sizes)
				}
				if !slices.Equal(reading.Forms, []Format{test.form}) || reading.Bad != 0 {
					t.Errorf("%+v, want %s", reading, test.form)
				}
			}
		})
	}
}

// Larder reads its own logs: whatever octets are in a request, it is the same
// object again, and another is another.
func TestOwnLog(t *testing.T) {
	targets := []string{"/a", "/a b", "/\"q\"", "/\\", "/\xff", "/ü", "/\x00\n", "/\U0001F600", "/{}", "/,\":"}
	for form, write := range map[Format]func(*observe.Event, []byte) []byte{
		JSON: (*observe.Event).AppendJSON,
		Text: (*observe.Event).AppendText,
	} {
		var log []byte
		var want []uint32
		for round := range 2 {
			for i, target := range targets {
				e := observe.Event{
					Start: time.Unix(1e9, 0).UTC(), Duration: time.Millisecond, Client: "[::1]:5", Method: "GET", Host: "h", Target: target,
					Proto: "HTTP/1.1", Status: 200, Sent: int64(i), Hit: round > 0, Why: `stored, "fresh"`,
				}
				if round == 0 {
					e.Forward, e.Fault = "uri-miss", errors.New("a \"fault\"\n")
				}
				log = write(&e, log)
				want = append(want, uint32(i))
			}
		}
		trace, reading := read(t, Options{}, string(log))
		if !slices.Equal(trace.requests, want) || !slices.Equal(reading.Forms, []Format{form}) || reading.Bad != 0 {
			t.Errorf("%s: %v, %+v", form, trace.requests, reading)
		}
		for i, size := range trace.sizes {
			if size != int64(i) {
				t.Errorf("%s: %q has %d octets, want %d", form, targets[i], size, i)
			}
		}
	}
}

// What does not count is counted by its reason, and an object is as large as
// the largest body of it.
func TestWhatCounts(t *testing.T) {
	const log = `h - - [t] "GET /a HTTP/1.1" 206 100
h - - [t] "GET /a HTTP/1.1" 200 5000
h - - [t] "GET /a HTTP/1.1" 200 300
h - - [t] "HEAD /a HTTP/1.1" 200 9000
h - - [t] "GET /a HTTP/1.1" 304 9000
h - - [t] "HEAD /never-seen HTTP/1.1" 200 0
h - - [t] "POST /a HTTP/1.1" 200 1
h - - [t] "-" 408 -
h - - [t] "GET /a HTTP/1.1" 500 1
h - - [t] "GET /a HTTP/1.1" 302 1

garbage
h - - [t] "GET /a HTTP/1.1" 99 1
h - - [t] "GET /a HTTP/1.1" 200 many
`
	trace, reading := read(t, Options{UnknownSize: 7}, log)
	want := Reading{
		Lines: 13, Requests: 6, OtherMethod: 2, OtherStatus: 2, Bad: 3, FirstBad: "log:12: no [time] in brackets",
		Forms: []Format{Combined}, UnknownSizes: 1,
	}
	if got, _ := json.Marshal(reading); !equalJSON(t, got, want) {
		t.Errorf("%s, want %+v", got, want)
	}
	if !slices.Equal(trace.sizes, []int64{5000, 7}) || !slices.Equal(trace.requests, []uint32{0, 0, 0, 0, 0, 1}) {
		t.Errorf("%v of %v", trace.requests, trace.sizes)
	}
	_, reading = read(t, Options{}, `{"target":"/a","cache":"pass"}`+"\n"+`{"target":"/a","cache":"miss"}`+"\n"+`{"time":"x","dropped":17}`+"\n"+`{"target":"/a","status":0}`+"\n"+`{"target":"/a","status":404,"cache":"-"}`+"\n"+`{"target":"/a","cache":"error"}`)
	if reading.Passed != 4 || reading.Lost != 17 || reading.Requests != 1 || reading.Bad != 0 {
		t.Errorf("%+v", reading)
	}
}

func equalJSON(t *testing.T, got []byte, want any) bool {
	t.Helper()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(got, b)
}

// Several files are one trace, and each may have a form of its own.
func TestSeveralFiles(t *testing.T) {
	trace, reading := read(t, Options{},
		packed(t, "a 192.0.2.1 - - [t] \"GET /x HTTP/1.1\" 200 5\n"),
		`{"host":"a","target":"/x","bytes":9}`,
		"a 192.0.2.1 - - [t] \"GET /x HTTP/1.1\" 200 5\n")
	if !slices.Equal(trace.requests, []uint32{0, 0, 0}) || trace.sizes[0] != 9 || len(reading.Forms) != 2 {
		t.Errorf("%v of %v, %+v", trace.requests, trace.sizes, reading)
	}
}

// Names of one's own come first.
func TestFields(t *testing.T) {
	const log = `{"req":{"p":"/a","m":"GET"},"uri":"/wrong","n":5,"bytes":1,"s":200,"status":"OK","vh":"x","host":"y"}` + "\n"
	trace, _ := read(t, Options{Fields: Fields{Target: "req.p", Method: "req.m", Octets: "n", Status: "s", Host: "vh"}}, log, `{"host":"x","uri":"/a","s":200}`)
	if !slices.Equal(trace.requests, []uint32{0, 0}) || trace.sizes[0] != 5 {
		t.Errorf("%v of %v", trace.requests, trace.sizes)
	}
}

// A file of which nothing can be used is an error that says why.
func TestUseless(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, test := range map[string]struct {
		in   io.Reader
		opts Options
		want string
	}{
		"empty":         {strings.NewReader(""), Options{}, "log: it is empty"},
		"empty, packed": {strings.NewReader(packed(t, "")), Options{}, "log: it is empty"},
		"prose":         {strings.NewReader("Dear reader,\nthis is no log.\n"), Options{}, "log: it looks like no log that is known here: name its form with --format (combined, json, text or u32x3)"},
		"wrong form":    {strings.NewReader("Dear reader,\n"), Options{Format: JSON}, "log: nothing of it can be read as json, from the first on (log:1: no object in JSON): name another form with --format"},
		"zstd":          {strings.NewReader("\x28\xb5\x2f\xfd...."), Options{}, "log: it is packed with zstd: unpack it, as in zstd -dc FILE | larder simulate -"},
		"bad gzip":      {strings.NewReader("\x1f\x8bnonsense"), Options{}, "log: it begins like gzip and is none: gzip: invalid header"},
		"broken":        {iotest.ErrReader(broken), Options{}, "log: the disk is gone"},
		"breaks later":  {io.MultiReader(strings.NewReader("{\"target\":\"/\"}\n"), iotest.ErrReader(broken)), Options{}, "log: the disk is gone"},
		"half a record": {strings.NewReader("\x00\x00\x00\x00\x00"), Options{}, "log: nothing of it can be read as u32x3, from the first on (log:1: the file ends in the middle: it is damaged, or is still being written): name another form with --format"},
		"no target":     {strings.NewReader(`{"status":200}`), Options{}, "log: nothing of it can be read as json, from the first on (log:1: no target, such as a path or a URL): name another form with --format"},
	} {
		if err := NewReader(test.opts).Add("log", test.in); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	r := NewReader(Options{})
	if err := r.Add("log", strings.NewReader(`{"target":"/","method":"PUT"}`)); err != nil {
		t.Fatal(err)
	}
	const want = "there is no request that a cache could answer: of 1 lines 1 have another method than GET or HEAD, 0 a status that is not kept, 0 passed the cache by, 0 cannot be read"
	if _, _, err := r.Trace(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A file that ends in the middle is read so far, and a line without end is
// one bad line.
func TestDamage(t *testing.T) {
	whole := packed(t, strings.Repeat(`h - - [t] "GET /a HTTP/1.1" 200 5`+"\n", 5000))
	_, reading := read(t, Options{}, whole[:len(whole)-12])
	if reading.Requests == 0 || reading.Bad != 1 || !strings.Contains(reading.FirstBad, "ends in the middle") {
		t.Errorf("%+v", reading)
	}
	_, reading = read(t, Options{}, u32x3([3]uint32{1, 2, 3})+"\x00\x00")
	if reading.Requests != 1 || reading.Bad != 1 {
		t.Errorf("%+v", reading)
	}
	for _, long := range []int{maxLine + 5, 3 * maxLine, 2*maxLine - 1, maxLine - 1} {
		_, reading = read(t, Options{}, `{"target":"/"}`+"\n"+strings.Repeat("x", long)+"\n"+`{"target":"/"}`+"\n")
		if reading.Requests != 2 || reading.Bad != 1 || reading.Lines != 3 {
			t.Errorf("%d: %+v", long, reading)
		}
	}
}

func TestProgress(t *testing.T) {
	told := int64(0)
	read(t, Options{Progress: func(n int64) { told = n }}, u32x3(make([][3]uint32, progressEvery+1)...))
	if told != progressEvery {
		t.Errorf("%d requests were told", told)
	}
}

// No line, however odd, breaks a parser, and what it takes for a request makes
// sense.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`h - - [t] "GET /a HTTP/1.1" 200 5`))
	f.Add([]byte(`{"request":{"uri":"/","host":"h"},"status":200,"size":1}`))
	f.Add([]byte(`{"target":"\u0041\"","args":"x"}`))
	f.Add([]byte("15:04:05.000  200  miss     GET   /a      1.50 KiB   0.10 ms"))
	f.Add([]byte("15:04:05.000  12 lines are missing here"))
	n := Fields{Target: "a.b"}.names()
	f.Fuzz(func(t *testing.T, line []byte) {
		for name, parse := range map[string]func([]byte, *record) error{"combined": parseCombined, "json": n.parse, "text": parseText} {
			before := bytes.Clone(line)
			var r record
			err := parse(bytes.TrimSpace(line), &r)
			if !bytes.Equal(before, line) {
				t.Fatalf("%s wrote into the line", name)
			}
			if err == nil && r.lost == 0 && (r.octets < unknown || r.status < 0 || r.status > 999) {
				t.Errorf("%s takes %q for %+v", name, line, r)
			}
		}
	})
}

// Our reader of members agrees with the one of the standard library on all that
// is JSON.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":"b","c":[1,{"d":"}"}],"e":{"f":null} , "g":-1.5e3}`))
	f.Add([]byte(`{"\u0061":"\\\"","b":{}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"a":1}{}`))
	f.Add([]byte("{\"\xfa\":1}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := map[string]string{}
		ok := members(text, func(name, value []byte) bool {
			key, ok := plain(name)
			got[string(key)] = string(value)
			return ok
		})
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil || want == nil || !utf8.Valid(text) {
			return // more may pass than is JSON (RFC 8259 §8.1), and does no harm
		}
		if !ok || len(got) != len(want) {
			t.Fatalf("%q: %v, %q; want %q", text, ok, got, want)
		}
		for key, value := range want {
			if got[key] != string(value) {
				var a, b any
				if json.Unmarshal([]byte(got[key]), &a) != nil || json.Unmarshal(value, &b) != nil || !equalJSON(t, value, a) && !equalJSON(t, []byte(got[key]), b) {
					t.Errorf("%q: %q is %q, want %q", text, key, got[key], value)
				}
			}
		}
	})
}

// Any octets are read as numbers to the end, or not at all.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(u32x3([3]uint32{1, 2, 3}, [3]uint32{1, 2, 0})))
	f.Add([]byte(packedSeed))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, form := range []Format{U32x3, Auto} {
			r := NewReader(Options{Format: form})
			if err := r.Add("log", bytes.NewReader(data)); err != nil {
				continue
			}
			trace, reading, err := r.Trace()
			if err != nil {
				continue
			}
			if reading.Lines != reading.Requests+reading.Bad+reading.OtherMethod+reading.OtherStatus+reading.Passed && reading.Lost == 0 {
				t.Errorf("%+v does not add up", reading)
			}
			for _, o := range trace.requests {
				if int(o) >= len(trace.sizes) || trace.sizes[o] < 0 {
					t.Fatalf("object %d of %d", o, len(trace.sizes))
				}
			}
		}
	})
}

// packedSeed is one line of a log in gzip's stored form.
const packedSeed = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x0e\x00\xf1\xff{\"target\":\"/\"}"

func BenchmarkRead(b *testing.B) {
	for name, line := range map[string]string{
		"combined": `192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] "GET /images/thing/17.jpg HTTP/1.1" 200 2326 "https://example.org/" "Mozilla/5.0 (X11; Linux x86_64)"` + "\n",
		"json":     `{"remote":"192.0.2.1","request_method":"GET","http_host":"www.example.org","request_uri":"/images/thing/17.jpg","status":200,"body_bytes_sent":2326,"ua":"Mozilla/5.0 (X11; Linux x86_64)"}` + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			const lines = 1000
			text := strings.Repeat(line, lines)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := NewReader(Options{}).Add("log", strings.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
		})
	}
}
