package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/purge"
)

// many is a list of so many selectors.
func many(n int) string {
	return `{"selectors":[` + strings.TrimSuffix(strings.Repeat(`{"tag":"t"},`, n), ",") + `]}`
}

// What is wrong with an order is told, and nothing is purged.
func TestBadOrdersDoNothing(t *testing.T) {
	long := strings.Repeat("x", 1025)
	for _, test := range []struct {
		body   string
		status int
		want   string // in the detail
	}{
		{"", 400, "no body"},
		{" ", 400, "this is no purge"},
		{"purge it all", 400, "invalid character"},
		{`{"selectors":[{"tag":"t"}]`, 400, "it breaks off"},
		{`[]`, 400, "it is: array; write an object with selectors"},
		{`"all"`, 400, "it is: string"},
		{`null`, 400, "nothing is named"},
		{`{}`, 400, "nothing is named: give at least one selector"},
		{`{"selectors":null}`, 400, "nothing is named"},
		{`{"selectors":[]}`, 400, "nothing is named"},
		{`{"selectors":{"tag":"t"}}`, 400, "selectors cannot be: object"},
		{`{"selectors":["/a"]}`, 400, "cannot be: string"},
		{`{"selectors":[{"url":7}]}`, 400, "selectors.url cannot be: number"},
		{`{"selectors":[{"all":"true"}]}`, 400, "selectors.all cannot be: string"},
		{`{"selectors":[{"tag":"t"}],"soft":true}`, 400, `unknown field "soft"`},
		{`{"selectors":[{"tag":"t"}],"by":"somebody else"}`, 400, `unknown field "by"`},
		{`{"selectors":[{"tags":["t"]}]}`, 400, `unknown field "tags"`},
		{many(1) + `{}`, 400, "there is more behind it"},
		{many(1) + ` x`, 400, "there is more behind it"},
		{many(1001), 400, "1001 selectors: at most 1000 at a time"},
		{`{"selectors":[{"tag":"` + strings.Repeat("x", 1<<20) + `"}]}`, 413, "more than 1048576 octets: name less at a time"},
		{"{\"selectors\":[{\"url\":\"/caf\xe9\"}]}", 400, "not UTF-8"},
		{`{"selectors":[{}]}`, 400, "the selector names nothing"},
		{`{"selectors":[{"tag":"t"},{}]}`, 400, "the selector names nothing"},
		{`{"selectors":[{"url":""}]}`, 400, "the selector names nothing"},
		{`{"selectors":[{"all":false}]}`, 400, "the selector names nothing"},
		{`{"selectors":[{"url":"/a","tag":"t"}]}`, 400, "names several things"},
		{`{"selectors":[{"all":true,"prefix":"/a"}]}`, 400, "names several things"},
		{`{"selectors":[{"tag":"t"},{"regex":"("}]}`, 400, "missing closing )"},
		{`{"selectors":[{"regex":"a**"}]}`, 400, "invalid nested repetition"},
		{`{"selectors":[{"regex":"(?=a)"}]}`, 400, "invalid or unsupported Perl syntax"},
		{`{"selectors":[{"regex":".*"}]}`, 400, "found in everything"},
		{`{"selectors":[{"regex":"|"}]}`, 400, "found in everything"},
		{`{"selectors":[{"regex":"` + long + `"}]}`, 400, "1025 octets: at most 1024"},
		{`{"selectors":[{"glob":"/[a"}]}`, 400, "not closed"},
		{`{"selectors":[{"glob":"/{a,b"}]}`, 400, "not closed"},
		{`{"selectors":[{"glob":"*.png"}]}`, 400, "begin with http://host/"},
		{`{"selectors":[{"glob":"/**"}]}`, 400, "everything fits"},
		{`{"selectors":[{"glob":"http://**"}]}`, 400, "everything fits"},
		{`{"selectors":[{"glob":"/**/**/**/**/**/a"}]}`, 400, "at most 4"},
		{`{"selectors":[{"glob":"/` + long + `"}]}`, 400, "at most 1024"},
		{`{"selectors":[{"prefix":"/"}]}`, 400, "everything begins with it"},
		{`{"selectors":[{"prefix":"http://"}]}`, 400, "names no host"},
		{`{"selectors":[{"prefix":"//"}]}`, 400, "names no host"},
		{`{"selectors":[{"prefix":"example.org"}]}`, 400, "no URL"},
		{`{"selectors":[{"url":"example.org/a"}]}`, 400, "no URL"},
		{`{"selectors":[{"url":"ftp://example.org/a"}]}`, 400, "no URL"},
		{`{"selectors":[{"url":"http:///a"}]}`, 400, "names no host"},
		{`{"selectors":[{"url":"http://a b/"}]}`, 400, "names no host"},
		{`{"selectors":[{"url":"http://user@example.org/"}]}`, 400, "names no host"},
		{`{"selectors":[{"url":"/a#part"}]}`, 400, "fragment"},
		{`{"selectors":[{"url":"/a\\b"}]}`, 400, "backslash"},
		{`{"selectors":[{"url":"/` + strings.Repeat("x", 1<<16) + `"}]}`, 400, "more than"},
		{`{"selectors":[{"tag":"a\u0000b"}]}`, 400, "printable ASCII"},
		{`{"selectors":[{"tag":"a\nb"}]}`, 400, "printable ASCII"},
		{`{"selectors":[{"tag":"é"}]}`, 400, "printable ASCII"},
		{`{"selectors":[{"tag":"` + long + `"}]}`, 400, "has more than 1024"},
		{`{"selectors":[{"group":"g"}]}`, 400, "give both group and origin"},
		{`{"selectors":[{"origin":"http://example.org"}]}`, 400, "give both group and origin"},
		{`{"selectors":[{"group":"g","origin":"example.org"}]}`, 400, "write it as http://host"},
		{`{"selectors":[{"group":"g","origin":"//example.org"}]}`, 400, "write it as http://host"},
		{`{"selectors":[{"group":"g","origin":"http://example.org/path"}]}`, 400, "write it as http://host"},
		{`{"selectors":[{"group":"g\u001b","origin":"http://example.org"}]}`, 400, "printable ASCII"},
		{`{"selectors":[{"group":"g","origin":"http://example.org","tag":"t"}]}`, 400, "names several things"},
		{`{"selectors":[{"tag":"t"}],"mode":"soft"}`, 400, `mode "soft": give refetch`},
		{`{"selectors":[{"tag":"t"}],"mode":""}`, 400, "give refetch"},
		{`{"selectors":[{"tag":"t"}],"mode":1}`, 400, "mode cannot be: number"},
		{`{"selectors":[{"tag":"t"}],"start":"tomorrow"}`, 400, `"tomorrow" is no time: write it as "2026-12-24T18:00:00Z"`},
		{`{"selectors":[{"tag":"t"}],"start":""}`, 400, "is no time"},
		{`{"selectors":[{"tag":"t"}],"start":1765000000}`, 400, "is no time"},
		{`{"selectors":[{"tag":"t"}],"start":"2999-02-30T00:00:00Z"}`, 400, "is no time"},
		{`{"selectors":[{"tag":"t"}],"start":"2999-01-01 00:00:00"}`, 400, "is no time"},
		{`{"selectors":[{"tag":"t"}],"end":"2020-01-01T00:00:00Z"}`, 400, "it would end before it starts"},
		{`{"selectors":[{"tag":"t"}],"start":"2999-01-02T00:00:00Z","end":"2999-01-01T00:00:00Z"}`, 400, "it would end before it starts"},
		{`{"selectors":[{"tag":"t"}],"start":"2999-01-01T00:00:00Z","end":"2999-01-01T00:00:00Z"}`, 400, "it would end before it starts"},
		{`{"selectors":[{"tag":"t"}],"start":"2999-01-01T00:00:00Z","end":"2998-12-31T23:00:00-01:00"}`, 400, "it would end before it starts"},
	} {
		a := newAPI(t)
		for _, path := range []string{"/v1/purge", "/v1/preview"} {
			got := a.send("unix", raw{"POST", path, "HTTP/1.1", []string{"Host: localhost", "Content-Type: application/json"}, test.body})
			var p Problem
			if err := json.Unmarshal(got.body, &p); err != nil || got.status != test.status || p.Status != test.status || !strings.Contains(p.Detail, test.want) {
				t.Errorf("%s %.80s: %d %.300s, want %d %s", path, test.body, got.status, got.body, test.status, test.want)
			}
		}
		if all := a.ledger.Receipts(); len(all) > 0 {
			t.Errorf("%.80s: %+v", test.body, all)
		}
	}
}

// As many as there may be are taken, and a list of the longest expressions can be sent.
func TestTheLargestOrdersAreTaken(t *testing.T) {
	a := newAPI(t)
	tag := strings.Repeat("t", purge.MaxTag)
	for _, body := range []string{many(purge.MaxSelectors), strings.ReplaceAll(many(purge.MaxSelectors), `"t"`, `"`+tag+`"`)} {
		got := a.send("unix", raw{"POST", "/v1/purge", "HTTP/1.1", []string{"Host: localhost", "Content-Type: application/json; charset=utf-8"}, body})
		if got.status != http.StatusCreated {
			t.Errorf("%d %.300s", got.status, got.body)
		}
	}
}

// What is wrong with the name of a purge, or with what is asked about it, is told.
func TestBadNamesDoNothing(t *testing.T) {
	a := newAPI(t)
	id := strings.Split(a.good("GET /v1/purges/{id}").target, "/")[3]
	before := a.state()
	for target, status := range map[string]int{
		"1": 400, "x-1": 400, "1-": 400, "-1": 400, "1-1-1": 400, "+1-1": 400, "1-%31x": 400, "0x1-1": 400, "1-4294967296": 400, "4294967296-1": 400, "1-1%0a": 400,
		"%2e%2e": 404, "0-0": 404, "1-999": 404, "9-1": 404, "4294967295-4294967295": 404,
	} {
		for _, route := range []string{"GET ", "DELETE ", "POST /undo", "POST /repeat"} {
			method, rest, _ := strings.Cut(route, " ")
			got := a.send("unix", raw{method, "/v1/purges/" + target + rest, "HTTP/1.1", []string{"Host: localhost"}, ""})
			if got.status != status {
				t.Errorf("%s %s%s: %d %s", method, target, rest, got.status, got.body)
			}
		}
	}
	for _, query := range []string{"wait=", "wait=-1", "wait=61", "wait=1s", "wait=1&wait=2", "wait=0&x=1", "WAIT=1", "x", "wait=%zz", "a;b", "wait=99999999999999999999"} {
		got := a.send("unix", raw{"GET", fmt.Sprintf("/v1/purges/%s?%s", id, query), "HTTP/1.1", []string{"Host: localhost"}, ""})
		if got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	if after := a.state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
