package esi

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestESI08_Expressions(t *testing.T) {
	r := client()
	r.Header["Cookie"] = []string{"n=10; group=Advanced; no=false; zero=0; neg=-3.5"}
	v := newVariables(r, []string{"n", "group", "no", "zero", "neg"})
	for test, want := range map[string]bool{
		`1==1`: true, `1==2`: false, `1!=2`: true, `1<2`: true, `2>1`: true, `1<=1`: true, `1>=2`: false, `2<=1`: false,
		`!(1==1)`: false, `!('a'<='c')`: false, `(1==1)|('abc'=='def')`: true, `(4!=5)&(4==5)`: false,
		`9<10`: true, `'9'<'10'`: true, `'9a'<'10'`: false, `'a'<'b'`: true, `'B'<'a'`: true, `'a'=="a"`: true, `'a'=='A'`: false,
		`1.0==1`: true, `'01'=='1'`: true, `-0==0`: true, `-2<-1`: true, `-2<1`: true, `+1==1`: true, `0.5<0.25`: false, `1.10==1.1`: true, `'1.'==1`: false,
		`12345678901234567890==12345678901234567891`: false, `12345678901234567890<12345678901234567891`: true, `100>99.9`: true,
		`1==1 and 2==2`: true, `1==1 or 1==2 and 1==2`: true, `(1==1 or 1==2) and 1==2`: false, `1==1&&1==1||1==2`: true, `1==2&1==2|1==1`: true,
		`!1==2`: true, `!!1==1`: true, `! ! !1==1`: false, `((((1==1))))`: true, " \t1==1\n": true,
		`$(HTTP_COOKIE{group})=='Advanced'`: true, `$(HTTP_COOKIE{n}) > 9`: true, `'$(HTTP_COOKIE{n})0' == 100`: true, `$(HTTP_COOKIE{neg})<-3`: true,
		`$(HTTP_COOKIE{none})=='x'`: false, `$(HTTP_COOKIE{none})!='x'`: false, `'x'!=$(HTTP_COOKIE{none})`: false, `$(HTTP_COOKIE{none})==$(FOO)`: false,
		`$(HTTP_COOKIE{none})<1`: false, `$(HTTP_COOKIE{none})>=1`: false, `!($(HTTP_COOKIE{none})=='x')`: true, `$(HTTP_COOKIE{none}|x)=='x'`: true,
		`''==''`: false, `$(HTTP_COOKIE{n})!=''`: false,
		`$(HTTP_COOKIE{n})`: true, `$(HTTP_COOKIE{none})`: false, `!$(HTTP_COOKIE{none})`: true, `$(HTTP_COOKIE{no})`: false, `$(HTTP_ACCEPT_LANGUAGE{de})`: true,
		`('a')=='a'`: true, `'not a number'==1`: false, `'0x10'==16`: false, `'1e1'==10`: false,
		strings.Repeat("0", maxDecimal-1) + "1==1": true, "'" + strings.Repeat("0", maxDecimal) + "1'==1": false,
	} {
		if got, err := holds(test, v); got != want || err != nil {
			t.Errorf("%s: %v, %v", test, got, err)
		}
	}
}

func TestESI08_Malformed(t *testing.T) {
	v := newVariables(nil, nil)
	for _, test := range []string{
		``, ` `, `(`, `)`, `()`, `1==`, `==1`, `1==1)`, `(1==1`, `1=1`, `1 1`, `a`, `a=='a'`, `'a`, `'a'=="a'`, `$(`, `$(X`, `$X==1`, `1==1 &`, `1==1 && && 1==1`, `&1`,
		`1==1==1`, `(1==1)==1`, `1==(1==1)`, `1==!1`, `1==1and2`, `1-2==1`, `-==1`, `1==1 xor 1==1`, `!`, `1==1 1==1`, "1==1\x00",
		strings.Repeat("(", maxParentheses+1) + "1==1" + strings.Repeat(")", maxParentheses+1),
	} {
		if got, err := holds(test, v); got || err == nil {
			t.Errorf("%s: %v, %v", test, got, err)
		}
	}
	deep := strings.Repeat("(", maxParentheses) + "1==1" + strings.Repeat(")", maxParentheses)
	if got, err := holds(deep, v); !got || err != nil {
		t.Errorf("%s: %v, %v", deep, got, err)
	}
}

// FuzzExpression takes any test and any value of a variable.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`$(QUERY_STRING{q})=='a'`, `(1==1)|('abc'=='def')&!$(QUERY_STRING)`, `'$(QUERY_STRING{q}|'x')' < 3`, `!!(1 >= 2 or "a"!='b' and 1)`, `((`, `$(A{b}|c)<=-1.50`,
	} {
		f.Add(s, "a' == 'a")
	}
	f.Fuzz(func(t *testing.T, test, value string) {
		r := &http.Request{URL: &url.URL{RawQuery: "q=" + url.QueryEscape(value)}}
		v := newVariables(r, nil)
		got, err := holds(test, v)
		if got && err != nil {
			t.Fatalf("%q holds with %v", test, err)
		}
		if err == nil && strings.Count(test, "(") < maxParentheses {
			for form, want := range map[string]bool{
				"(" + test + ")": got, " \n" + test + "\t": got, "!(" + test + ")": !got,
				"(" + test + ")and 1==1": got, "(" + test + ")&1==2": false, "1==1|" + test: true, "1==2 or(" + test + ")": got,
			} {
				if other, err := holds(form, v); other != want || err != nil {
					t.Fatalf("%q is %v, but %q is %v, %v", test, got, form, other, err)
				}
			}
		}
		// A value is an operand, whatever is in it.
		if got, err := holds(`$(QUERY_STRING{q}) == 'x'`, v); got != (value == "x") || err != nil {
			t.Fatalf("%q: %v, %v", value, got, err)
		}
		if got, err := holds(`$(QUERY_STRING{q}) < 'x' | $(QUERY_STRING{q}) >= 'x'`, v); got != (value != "") || err != nil {
			t.Fatalf("%q: %v, %v", value, got, err)
		}
	})
}
