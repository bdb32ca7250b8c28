package standing

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/store"
)

var start = time.Unix(1_000_000, 0)

// minute is an Answer that holds for a minute from start.
func minute(t *Table, target string, fields ...Want) *Answer {
	key := store.Key(target)
	return &Answer{
		Host: "h", Target: target, Fields: fields, Key: key, ID: 1, Moment: t.Moment(key),
		From: start, Age: 1500 * time.Millisecond, TTL: time.Minute, Head: []byte("ABC"), AgeAt: 1, TTLAt: 2,
	}
}

// ask makes a Request with fields of the form Name: value.
func ask(t *Table, target string, fields ...string) *Request {
	r := &Request{Host: []byte("h"), Target: []byte(target)}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		t.Add(r, []byte(name), []byte(value))
	}
	return r
}

func TestFind(t *testing.T) {
	table := New([]string{"X-Real-Ip"})
	a := minute(table, "/a", Want{Name: "accept-encoding", Value: "gzip"}, Want{Name: "range", Absent: true}, Want{Name: "if-none-match", Absent: true})
	table.Publish(a)
	b := minute(table, "/a", Want{Name: "accept-encoding", Value: "gzip"}, Want{Name: "if-none-match", Value: `"1"`})
	table.Publish(b)
	for _, test := range []struct {
		r    *Request
		want *Answer
	}{
		{ask(table, "/a", "Accept-Encoding: gzip"), a},
		{ask(table, "/a", "aCCEPT-eNCODING: gzip", "User-Agent: x", "Cookie: y"), a},
		{ask(table, "/a", "If-None-Match: \"1\"", "Accept-Encoding: gzip"), b},
		{ask(table, "/b", "Accept-Encoding: gzip"), nil},
		{ask(table, "/a"), nil},
		{ask(table, "/a", "Accept-Encoding: br"), nil},
		{ask(table, "/a", "Accept-Encoding: gzip", "Accept-Encoding: gzip"), nil},
		{ask(table, "/a", "Accept-Encoding: gzip", "Accept-Encoding: br"), nil},
		{ask(table, "/a", "Accept-Encoding: gzip", "Range: bytes=0-1"), nil},
		{ask(table, "/a", "Accept-Encoding: gzip", "If-Modified-Since: x"), nil}, // a names it not, and b has another
		{ask(table, "/a", "Accept-Encoding: gzip", `If-None-Match: "2"`), nil},
		{ask(table, "/a", "Accept-Encoding: gzip", `If-None-Match: "1"`, `If-None-Match: "1"`), nil},
	} {
		if got := table.Find(test.r, start); got != test.want {
			t.Errorf("%q: %v, want %v", test.r.Fields, got, test.want)
		}
	}
	other := ask(table, "/a", "Accept-Encoding: gzip")
	other.Host = []byte("other")
	if table.Find(other, start) != nil {
		t.Error("another host has the answer")
	}
}

// An Answer ends with its freshness, and with any change under its key, also one
// that came between looking and publishing.
func TestEnds(t *testing.T) {
	table := New(nil)
	a := minute(table, "/a")
	table.Publish(a)
	if now := start.Add(time.Minute - 1); table.Find(ask(table, "/a"), now) != a || a.Left(now) != 0 || string(a.AppendHead(nil, now)) != "A61B0C" {
		t.Errorf("just before the end: %s", a.AppendHead(nil, now))
	}
	if table.Find(ask(table, "/a"), start.Add(time.Minute)) != nil {
		t.Error("it holds when it is no longer fresh")
	}
	table.Changed(store.Key("/a"))
	if table.Find(ask(table, "/a"), start) != nil || table.Stands(minute(table, "/a"), start) {
		t.Error("it holds after a change")
	}
	late := minute(table, "/a")
	table.Changed(store.Key("/a"))
	table.Publish(late)
	if table.Find(ask(table, "/a"), start) != nil {
		t.Error("what was decided before a change holds after it")
	}
	again := minute(table, "/a")
	if table.Publish(again); table.Find(ask(table, "/a"), start) != again || !table.Stands(minute(table, "/a"), start) {
		t.Error("what was decided after a change does not hold")
	}
	if b := *table.buckets[again.hash%buckets].Load(); len(b) != 1 {
		t.Errorf("%d answers are kept of one", len(b))
	}
}

// However many there are, what they take is bounded, and those without conditions
// are not pushed out by those with.
func TestBounds(t *testing.T) {
	table := New(nil)
	table.Publish(minute(table, "/a"))
	for i := range 1000 {
		table.Publish(minute(table, "/a", Want{Name: "range", Value: fmt.Sprint("bytes=", i, "-")}))
	}
	if table.Find(ask(table, "/a"), start) == nil {
		t.Error("many ranges have pushed out the whole")
	}
	for i := range 50_000 {
		table.Publish(minute(table, fmt.Sprint("/", i, strings.Repeat("x", 500))))
	}
	held := int64(0)
	for i := range table.buckets {
		if b := table.buckets[i].Load(); b != nil {
			for _, a := range *b {
				held += a.weight()
			}
		}
	}
	if held != table.held || held > budget || held < budget/2 {
		t.Errorf("%d octets are held, %d are counted, %d allowed", held, table.held, budget)
	}
}

func TestKinds(t *testing.T) {
	table := New([]string{"X-Real-Ip", "X-Tenant"})
	for kind, names := range map[Kind][]string{
		Neutral:   {"User-Agent", "Accept", "Cookie", "X", "Rang", "Ranges", "Zz", "Content-Typ", ""},
		Condition: {"Range", "RANGE", "if-none-match", "If-Modified-Since"},
		Deciding: {
			"Authorization", "cache-control", "PRAGMA", "Content-Length", "Transfer-Encoding", "If-Range", "Via", "Expect", "Upgrade",
			"x-real-ip", "X-Tenant", "X-Forwarded-For", "x-forwarded-anything", "X-Forwarded", "X_Real_Ip", "X.Real.Ip", "a_b",
		},
	} {
		for _, name := range names {
			if got := table.Kind([]byte(name)); got != kind {
				t.Errorf("%q is of kind %d, want %d", name, got, kind)
			}
		}
	}
}

// Names are compared as net/http makes them canonical.
func FuzzKind(f *testing.F) {
	table := New([]string{"X-Real-Ip"})
	for _, name := range slices.Concat(conditions, deciding) {
		f.Add(name)
	}
	f.Add("X-FORWARDED-for")
	f.Add("x_forwarded_for")
	f.Fuzz(func(t *testing.T, name string) {
		if len(name) == 0 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") != "" {
			return // no token
		}
		if one, two := table.Kind([]byte(name)), table.Kind([]byte(http.CanonicalHeaderKey(name))); one != two {
			t.Errorf("%q is of kind %d, its canonical form of %d", name, one, two)
		}
	})
}

// What is offered is copied, so that the room it was decided in can be used again.
func TestOffersAreCopied(t *testing.T) {
	table := New(nil)
	a := minute(table, "/a", Want{Name: "X", Value: "1"})
	table.Offer(a, func(*Answer) {})
	a.Head[0], a.Key[0], a.Fields[0].Value = '!', '!', "2"
	a.Host, a.Target = "other", "/b"
	got := table.Find(ask(table, "/a", "X: 1"), start)
	if got == nil || string(got.Head) != "ABC" || string(got.Key) != "/a" || got.Target != "/a" {
		t.Errorf("what stands is %+v", got)
	}
}
