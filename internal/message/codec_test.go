package message_test

import (
	"errors"
	"math"
	"net/http"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/rules"
)

var wall = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// received is a response as the engine would keep it.
func received(status int, request http.Header, lines ...string) *rules.Stored {
	h := rules.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h[http.CanonicalHeaderKey(name)] = append(h[http.CanonicalHeaderKey(name)], value)
	}
	req := rules.ReadRequest("GET", rules.Header(request))
	req.Version = "v7"
	at := rules.Receipt{Asked: wall.Add(-4 * time.Second), Arrived: wall, Wall: wall}
	return rules.Receive(&req, status, h, at, &rules.Terms{})
}

func heads() []*rules.Stored {
	part := received(206, nil, `ETag: "v"`, "Content-Range: bytes 0-4/10", "Cache-Control: max-age=60")
	part.Part = rules.Part{First: 0, Last: 4, Total: 10}
	open := received(206, nil, `ETag: "v"`, "Content-Range: bytes 3-4/*")
	open.Part = rules.Part{First: 3, Last: 4, Total: -1}
	spent := *received(200, nil, "Last-Modified: Tue, 15 Nov 2022 12:45:26 GMT", "Expires: 0")
	spent.Spent, spent.ToClose, spent.Extra = true, true, "extra"
	return []*rules.Stored{
		received(200, nil),
		received(404, nil, "Cache-Control: public, max-age=60, stale-while-revalidate=30", "Age: 30", "Set-Cookie: a=b", "Set-Cookie: c=d, e", "X-Empty: ", "X-Odd: \x80\xff, \"q"),
		received(200, http.Header{"Accept-Language": {"de, en"}, "Foo": {"1", "2"}, "Bar": {""}},
			"Vary: accept-language, foo", "Vary: bar, absent", "Cache-Control: max-age=99999999999"),
		part, open, &spent,
	}
}

func TestSTO15_HeadComesBackAsItWas(t *testing.T) {
	for _, terms := range []*rules.Terms{{}, {Private: true}} {
		for _, s := range heads() {
			got, err := message.Decode(message.Encode(s), terms)
			if err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			want := *s
			want.Read(terms)
			want.VaryAny = !want.Chosen() // by terms that choose by more, nobody knows for whom it was made
			want.Received = got.Received  // the same moment, in another place
			if !got.Received.Equal(s.Received) || !reflect.DeepEqual(got, &want) {
				t.Errorf("comes back as\n%+v, not\n%+v", got, &want)
			}
		}
	}
}

// What was cut, has grown, or is of another version is a miss.
func TestProject_DamagedHeadIsNone(t *testing.T) {
	for _, s := range heads() {
		b := message.Encode(s)
		for n := range b {
			if _, err := message.Decode(b[:n], &rules.Terms{}); !errors.Is(err, message.ErrHead) {
				t.Fatalf("%d of %d octets: %v", n, len(b), err)
			}
		}
		for _, bad := range [][]byte{append(b, 0), append([]byte{b[0] + 1}, b[1:]...), append([]byte{0}, b...)} {
			if _, err := message.Decode(bad, &rules.Terms{}); !errors.Is(err, message.ErrHead) {
				t.Fatalf("%q: %v", bad, err)
			}
		}
	}
}

// What no response can be is none, though the octets are in order: a status
// that cannot be sent, an age before birth, a part that ends before it begins.
func TestProject_ImpossibleHeadIsNone(t *testing.T) {
	for name, harm := range map[string]func(s *rules.Stored){
		"status 0":      func(s *rules.Stored) { s.Status = 0 },
		"status 103":    func(s *rules.Stored) { s.Status = 103 },
		"status 1000":   func(s *rules.Stored) { s.Status = 1000 },
		"negative":      func(s *rules.Stored) { s.Status = -200 },
		"age":           func(s *rules.Stored) { s.InitialAge = -1 },
		"delay":         func(s *rules.Stored) { s.Delay = -1 },
		"part first":    func(s *rules.Stored) { s.Part = rules.Part{First: -1, Last: 4, Total: 10} },
		"part backward": func(s *rules.Stored) { s.Part = rules.Part{First: 5, Last: 3, Total: 10} },
		"part total":    func(s *rules.Stored) { s.Part = rules.Part{First: 0, Last: 10, Total: 10} },
	} {
		s := *heads()[0]
		harm(&s)
		if got, err := message.Decode(message.Encode(&s), &rules.Terms{}); !errors.Is(err, message.ErrHead) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// allocated is how many octets the process has asked for so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// modest decodes and fails the test if that takes more memory than a head of
// that size could be worth.
func modest(t *testing.T, head []byte) (*rules.Stored, error) {
	t.Helper()
	limit, least := uint64(64<<10+64*len(head)), uint64(math.MaxUint64)
	s, err := message.Decode(head, &rules.Terms{})
	for try := 0; try < 3 && least > limit; try++ { // others allocate too
		before := allocated()
		s, err = message.Decode(head, &rules.Terms{})
		least = min(least, allocated()-before)
	}
	if least > limit {
		t.Fatalf("%d octets of head took %d octets of memory: %.40q", len(head), least, head)
	}
	return s, err
}

// A number in a damaged head is not believed.
func TestProject_DamagedHeadAsksForNoMemory(t *testing.T) {
	b := message.Encode(heads()[2])
	many := strings.Repeat("\x00", 1<<18)
	for i := range b {
		for _, number := range []string{"\xff\xff\x0f", "\xff\xff\xff\xff\x7f", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
			bad := append(append(append([]byte{}, b[:i]...), number...), many...)
			_, _ = modest(t, bad) // some may even be heads
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range heads() {
		f.Add(message.Encode(s))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		s, err := modest(t, head)
		if err != nil {
			if s != nil || !errors.Is(err, message.ErrHead) {
				t.Fatal(s, err)
			}
			return
		}
		if s.Status < 200 || s.Status > 999 || s.InitialAge < 0 || !s.Part.IsZero() && s.Part.Size() <= 0 {
			t.Fatalf("%+v", s)
		}
		again, err := message.Decode(message.Encode(s), &rules.Terms{})
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v\nbecame %+v, %v", s, again, err)
		}
	})
}
