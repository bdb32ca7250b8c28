package field

import (
	"reflect"
	"testing"

	"github.com/dunglas/httpsfv"
)

func testTargeted(t *testing.T, cases []directiveCase) {
	t.Helper()
	for _, c := range cases {
		got, ok := ParseTargeted(c.lines)
		if !ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: ok %v\n got %+v\nwant %+v", c.lines, ok, got, c.want)
		}
	}
}

func TestTGT03_SyntaxErrorsVoidTheField(t *testing.T) {
	for _, s := range []string{
		"Max-Age=60", "max-age =60", "max-age= 60", "max-age=60,", "max-age=60, @", "max-age=60 no-store",
		"max-age=", "max-age=60s", "=60", `no-store, private="a`, "no-store, x=1234567890123456", "no-store, x=(a", `no-store, x="ä"`,
		"no-store,,max-age=60", "no-store\x00",
	} {
		if d, ok := ParseTargeted(line(s)); ok || !reflect.DeepEqual(d, Directives{}) {
			t.Errorf("%q accepted: %+v", s, d)
		}
	}
	testTargeted(t, []directiveCase{
		{line(" max-age=60\t,\tno-store "), Directives{MaxAge: span(60), NoStore: true}},
		{[]string{"max-age=60", "no-store"}, Directives{MaxAge: span(60), NoStore: true}},
	})
}

func TestTGT04_WrongTypesAreNotUsed(t *testing.T) {
	testTargeted(t, []directiveCase{
		{line(`max-age="60"`), Directives{}},
		{line("max-age=1.5, s-maxage=-1, stale-if-error=a, stale-while-revalidate=(1)"), Directives{}},
		{line("max-age"), Directives{}},
		{line("no-store=?0, public=1, must-revalidate=yes, immutable=()"), Directives{}},
		{line("no-cache=?0, private=5"), Directives{}},
		{line("no-cache=:YQ==:, private=1.5"), Directives{}},
	})
}

func TestTGT05_LastKeyCountsParametersDoNot(t *testing.T) {
	testTargeted(t, []directiveCase{
		{line("max-age=60, max-age=30"), Directives{MaxAge: span(30)}},
		{line("max-age=30, max-age=60"), Directives{MaxAge: span(60)}},
		{line("max-age=30, max-age=x"), Directives{}},
		{[]string{"no-store", "no-store=?0"}, Directives{}},
		{line("max-age=60;a=1;b, no-store;x=?0, private=(a;q=1);y"), Directives{MaxAge: span(60), NoStore: true, PrivateFields: []string{"A"}}},
	})
}

func TestTGT06_KnownDirectives(t *testing.T) {
	testTargeted(t, []directiveCase{
		{line("max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4"), Directives{
			MaxAge: span(1), SMaxAge: span(2), StaleWhileRevalidate: span(3), StaleIfError: span(4),
		}},
		{line("public, no-store, no-cache, private, must-revalidate, proxy-revalidate, must-understand, no-transform, immutable=?1"), Directives{
			Public: true, NoStore: true, NoCache: true, Private: true, MustRevalidate: true, ProxyRevalidate: true,
			MustUnderstand: true, NoTransform: true, Immutable: true,
		}},
		{line("max-age=0"), Directives{MaxAge: span(0)}},
		{line("max-age=999999999999999"), Directives{MaxAge: Delta{MaxDelta, true}}},
		// Directives of requests are none here.
		{line("max-stale=5, min-fresh=6, only-if-cached"), Directives{}},
	})
}

func TestTGT06_FieldLists(t *testing.T) {
	testTargeted(t, []directiveCase{
		{line(`no-cache="set-cookie, X-a", private=(a "b")`), Directives{
			NoCacheFields: []string{"Set-Cookie", "X-A"}, PrivateFields: []string{"A", "B"},
		}},
		{line("no-cache=Set-Cookie"), Directives{NoCacheFields: []string{"Set-Cookie"}}},
		{line(`no-cache="", private=()`), Directives{NoCache: true, Private: true}},
		{line(`no-cache="a b", private=(a 1)`), Directives{NoCache: true, Private: true}},
		{line(`private=("a, b")`), Directives{Private: true}},
	})
}

func TestTGT08_UnknownMembersDisplaceEmptyFieldsDoNot(t *testing.T) {
	testTargeted(t, []directiveCase{{line("foo, bar=1"), Directives{}}})
	for _, lines := range [][]string{nil, {}, {""}, {"  "}} {
		if _, ok := ParseTargeted(lines); ok {
			t.Errorf("%q is ok", lines)
		}
	}
}

func FuzzTargeted(f *testing.F) {
	for _, s := range []string{
		"max-age=60, no-store", `private="a, b"`, "no-cache=(a b);x=1", "max-age=1, max-age=2", "Max-Age=5", "a,", `x=%"f%c3", y=@5`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseTargeted([]string{s})
		dict, err := httpsfv.UnmarshalDictionary([]string{s})
		if ok != (err == nil && len(dict.Names()) > 0) {
			t.Fatalf("%q: ok %v, error %v", s, ok, err)
		}
		if !ok {
			return
		}
		for name, d := range map[string]Delta{"max-age": got.MaxAge, "s-maxage": got.SMaxAge} {
			if d.Value < 0 || d.Value > MaxDelta {
				t.Fatalf("%q: %s is %v", s, name, d)
			}
			if member, known := dict.Get(name); d.Present && !known {
				t.Fatalf("%q: %s from %v", s, name, member)
			}
		}
		// What the dictionary means does not depend on how it is written.
		plain, err := httpsfv.Marshal(dict)
		if err != nil {
			return // the library refuses to write some of what it reads
		}
		if other, ok := ParseTargeted([]string{plain}); !ok || !reflect.DeepEqual(got, other) {
			t.Fatalf("%q: %+v\n%q: %+v", s, got, plain, other)
		}
		if got.Private && got.PrivateFields != nil || got.NoCache && got.NoCacheFields != nil {
			t.Fatalf("%q: both forms: %+v", s, got)
		}
	})
}
