package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/internal/purge"
)

// A schema is as much of JSON Schema as openapi.json uses; another keyword is an error.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Description          string             `json:"description"`
	Format               string             `json:"format"`
	Pattern              string             `json:"pattern"`
	Default              any                `json:"default"`
	Enum                 []any              `json:"enum"`
	Items                *schema            `json:"items"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	MinItems             *int               `json:"minItems"`
	MaxItems             *int               `json:"maxItems"`
	MaxLength            *int               `json:"maxLength"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
}

type content map[string]struct {
	Schema *schema `json:"schema"`
}

type operation struct {
	RequestBody struct {
		Content content `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content content        `json:"content"`
		Headers map[string]any `json:"headers"`
	} `json:"responses"`
}

// A description is openapi.json.
type description struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`

	operations map[string]operation // by pattern
}

func described(t *testing.T) *description {
	t.Helper()
	d := &description{operations: map[string]operation{}}
	if err := json.Unmarshal(openAPI, d); err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(mustJSON(t, struct {
		Schemas json.RawMessage `json:"schemas"`
	}{schemasOf(t)})))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&struct {
		Schemas map[string]*schema `json:"schemas"`
	}{}); err != nil {
		t.Fatalf("a keyword that this test does not know: %v", err)
	}
	for path, item := range d.Paths {
		for method, text := range item {
			if method == "parameters" {
				continue
			}
			var o operation
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			d.operations[strings.ToUpper(method)+" "+path] = o
		}
	}
	return d
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func schemasOf(t *testing.T) json.RawMessage {
	t.Helper()
	var d struct {
		Components struct{ Schemas json.RawMessage }
	}
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d.Components.Schemas
}

// check tells what is wrong with v, as JSON has it, by s.
func (d *description) check(s *schema, v any, at string) error {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		if s = d.Components.Schemas[name]; s == nil {
			return fmt.Errorf("%s: there is no schema %s", at, name)
		}
	}
	kinds := map[string]reflect.Kind{"object": reflect.Map, "array": reflect.Slice, "string": reflect.String, "boolean": reflect.Bool, "integer": reflect.Float64, "number": reflect.Float64}
	if kind, known := kinds[s.Type]; s.Type != "" && (!known || v == nil || reflect.TypeOf(v).Kind() != kind) {
		return fmt.Errorf("%s: %v is no %s", at, v, s.Type)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%s: %v is none of %v", at, v, s.Enum)
	}
	var errs []error
	switch v := v.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				errs = append(errs, fmt.Errorf("%s has no %s", at, name))
			}
		}
		for name, part := range v {
			if inner := s.Properties[name]; inner != nil {
				errs = append(errs, d.check(inner, part, at+"."+name))
			} else if s.AdditionalProperties != nil && !*s.AdditionalProperties {
				errs = append(errs, fmt.Errorf("%s has a %s", at, name))
			}
		}
	case []any:
		if s.MinItems != nil && len(v) < *s.MinItems || s.MaxItems != nil && len(v) > *s.MaxItems {
			errs = append(errs, fmt.Errorf("%s has %d items", at, len(v)))
		}
		for i, part := range v {
			if s.Items != nil {
				errs = append(errs, d.check(s.Items, part, fmt.Sprintf("%s[%d]", at, i)))
			}
		}
	case string:
		if s.MaxLength != nil && len(v) > *s.MaxLength || s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			errs = append(errs, fmt.Errorf("%s: %q does not fit", at, v))
		}
		if _, err := time.Parse(time.RFC3339Nano, v); s.Format == "date-time" && err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
	case float64:
		if s.Type == "integer" && v != float64(int64(v)) || s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			errs = append(errs, fmt.Errorf("%s: %v does not fit", at, v))
		}
	}
	return errors.Join(errs...)
}

// The check finds what is wrong, or the tests below would show nothing.
func TestTheValidatorValidates(t *testing.T) {
	d := described(t)
	for name, bad := range map[string][]string{
		"Problem":  {`[]`, `null`, `{"title":"a","status":"1","detail":"d"}`, `{"title":"a","status":1}`, `{"title":"a","status":1.5,"detail":"d"}`, `{"title":"a","status":1,"detail":"d","x":1}`},
		"Order":    {`{}`, `{"selectors":[]}`, `{"selectors":[{"tags":"x"}]}`, `{"selectors":[{"tag":1}]}`, `{"selectors":[{"tag":"x"}],"mode":"soft"}`, `{"selectors":[{"tag":"x"}],"start":"now"}`},
		"Selector": {`{"glob":"` + strings.Repeat("x", 1025) + `"}`},
	} {
		for _, text := range bad {
			var v any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			if d.check(d.Components.Schemas[name], v, name) == nil {
				t.Errorf("%s is a %s", text, name)
			}
		}
	}
}

// The description has the routes and nothing else.
func TestEveryRouteIsDescribed(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(described(t).operations)), patterns(); !slices.Equal(got, want) {
		t.Errorf("described are %q, there are %q", got, want)
	}
}

// fields are the names that a type has in JSON.
func fields(typ reflect.Type) (names []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fields(f.Type)...)
		case f.IsExported():
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Every field that there can be is described, and nothing else.
func TestEveryFieldIsDescribed(t *testing.T) {
	d := described(t)
	types := map[string]reflect.Type{
		"Selector": reflect.TypeFor[purge.Selector](), "Order": reflect.TypeFor[purgeRequest](), "Receipt": reflect.TypeFor[purge.Receipt](),
		"Preview": reflect.TypeFor[purge.Preview](), "Problem": reflect.TypeFor[Problem](),
	}
	for name, s := range d.Components.Schemas {
		if types[name] == nil {
			t.Errorf("%s is no type", name)
			continue
		}
		if got, want := slices.Sorted(maps.Keys(s.Properties)), fields(types[name]); !slices.Equal(got, want) {
			t.Errorf("%s has %q, described are %q", name, want, got)
		}
	}
	if len(d.Components.Schemas) != len(types) {
		t.Errorf("described are %q", slices.Sorted(maps.Keys(d.Components.Schemas)))
	}
	modes := d.Components.Schemas["Order"].Properties["mode"].Enum
	if !slices.Equal(modes, []any{purge.Refetch.String(), purge.Refresh.String()}) {
		t.Errorf("modes are %q", modes)
	}
	states := []any{string(purge.Scheduled), string(purge.InForce), string(purge.Done), string(purge.Cancelled), string(purge.Ended), string(purge.Undone)}
	if got := d.Components.Schemas["Receipt"].Properties["state"].Enum; !slices.Equal(got, states) {
		t.Errorf("states are %q", got)
	}
}

// failing are Purges of which one error comes.
type failing struct {
	ledgerPurges
	err error
}

func (f failing) Purge(context.Context, purge.Order) (purge.Receipt, error) {
	return purge.Receipt{}, f.err
}

func (f failing) Preview(context.Context, purge.Order) (purge.Preview, error) {
	return purge.Preview{}, f.err
}
func (f failing) Cancel(purge.ID) (purge.Receipt, error) { return purge.Receipt{}, f.err }
func (f failing) Undo(purge.ID) (purge.Receipt, error)   { return purge.Receipt{}, f.err }

// A tour asks for all routes, and checks every answer.
type tour struct {
	*testing.T
	d    *description
	seen map[string]bool // pattern and status
	last map[string]any  // answer
}

// ask asks for a route of o, the named purge in the place of {id}, and wants a status.
func (t *tour) ask(o *Options, pattern, id, body string, want int, lines ...string) {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	r := httptest.NewRequest(method, strings.Replace(path, "{id}", id, 1), strings.NewReader(body))
	r.Host = "localhost"
	if method == http.MethodPost && !strings.Contains(path, "{id}") {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	Handler(*o).ServeHTTP(w, r)
	at := fmt.Sprintf("%s %d", pattern, w.Code)
	t.seen[at] = true
	kind, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	described := t.d.operations[pattern].Responses[fmt.Sprint(w.Code)]
	c, ok := described.Content[kind]
	if w.Code != want || !ok {
		t.Errorf("%s, want %d: described are not these: %s %s", at, want, kind, w.Body)
		return
	}
	t.last = nil
	if err := json.Unmarshal(w.Body.Bytes(), &t.last); err != nil {
		t.Errorf("%s: %v", at, err)
	} else if err := t.d.check(c.Schema, t.last, "it"); err != nil {
		t.Errorf("%s: %v: %s", at, err, w.Body)
	}
	for name := range described.Headers {
		if w.Header().Get(name) == "" {
			t.Errorf("%s has no %s", at, name)
		}
	}
	// What could be sent is described, too: what is accepted fits.
	var sent any
	if in := t.d.operations[pattern].RequestBody.Content["application/json"]; w.Code/100 == 2 && in.Schema != nil {
		if err := errors.Join(json.Unmarshal([]byte(body), &sent), t.d.check(in.Schema, sent, "the request")); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// id is that of the purge in the last answer.
func (t *tour) id() string { return fmt.Sprint(t.last["id"]) }

// Every answer there can be is as it is described.
func TestAnswersAreAsDescribed(t *testing.T) {
	tour := &tour{T: t, d: described(t), seen: map[string]bool{}}
	ledger := ledgerPurges{purge.New(purge.Options{})}
	o := &Options{Purges: ledger, Changed: func(gateway.Change) {}, Events: func(body []byte) ([]gateway.Change, error) {
		return make([]gateway.Change, 2), json.Unmarshal(body, new(map[string]any))
	}}
	tour.succeed(o)
	tour.fail(o)
	for pattern, op := range tour.d.operations {
		for status := range op.Responses {
			if !tour.seen[pattern+" "+status] {
				t.Errorf("%s is described to answer %s, which the tour has not met", pattern, status)
			}
		}
	}
}

// succeed takes the tour to all that can come of what is right.
func (t *tour) succeed(o *Options) {
	orders := []string{
		`{"selectors":[{"url":"/a"},{"prefix":"/b"},{"glob":"/c/**"},{"regex":"d"},{"tag":"e"},{"group":"g","origin":"http://h"},{"all":true}]}`,
		`{"selectors":[{"tag":"t"}],"mode":"refresh"}`,
		`{"selectors":[{"tag":"t"}],"mode":"refetch","start":"2999-01-01T00:00:00.5+01:00","end":"2999-01-02T00:00:00Z"}`,
	}
	for _, order := range orders {
		t.ask(o, "POST /v1/preview", "", order, 200)
		t.ask(o, "POST /v1/purge", "", order, 201)
		t.ask(o, waiting, t.id(), "", 200)
		t.ask(o, "POST /v1/purges/{id}/repeat", t.id(), "", 201)
	}
	t.ask(o, "POST /v1/purge", "", orders[1], 201)
	t.ask(o, "POST /v1/purges/{id}/undo", t.id(), "", 200)
	t.ask(o, "POST /v1/purge", "", orders[2], 201)
	t.ask(o, "DELETE /v1/purges/{id}", t.id(), "", 200)
	t.ask(o, "GET /v1/purges", "", "", 200)
	t.ask(o, "POST /v1/events", "", `{}`, 200)
	t.ask(o, "GET /v1/openapi.json", "", "", 200)
	t.ask(&Options{Purges: ledgerPurges{purge.New(purge.Options{})}}, "GET /v1/purges", "", "", 200)
}

// fail takes the tour to all that can go wrong.
func (t *tour) fail(o *Options) {
	const one = `{"selectors":[{"tag":"t"}]}`
	for _, pattern := range patterns() {
		t.ask(o, pattern, "1-1", "", 401, "Origin: null")
		if pattern != "GET /v1/openapi.json" {
			t.ask(&Options{}, pattern, "1-1", one, 404)
		}
		if strings.Contains(pattern, "{id}") {
			t.ask(o, pattern, "x", "", 400)
			t.ask(o, pattern, "9-9", "", 404)
			t.ask(o, pattern, "1-1", "", 415, "Content-Type: text/plain")
			continue
		}
		if strings.HasPrefix(pattern, "POST") {
			t.ask(o, pattern, "", "", 415, "Content-Type: text/plain")
			t.ask(o, pattern, "", strings.Repeat(" ", maxBody+1), 413)
			t.ask(o, pattern, "", "no", 400)
		}
	}
	for _, pattern := range []string{"GET /v1/purges", "GET /v1/openapi.json"} {
		method, path, _ := strings.Cut(pattern, " ")
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path+"?x=1", http.NoBody)
		r.Host = "localhost"
		Handler(*o).ServeHTTP(w, r)
		t.seen[fmt.Sprintf("%s %d", pattern, w.Code)] = true
	}
	ledger := o.Purges.(ledgerPurges)
	for err, status := range map[error]int{
		purge.ErrFull: 429, errors.New("disk full"): 500, &purge.OrderError{Err: errors.New("no")}: 400, &purge.StateError{State: purge.Done}: 409, purge.ErrUnknown: 404,
	} {
		broken := &Options{Purges: failing{ledger, err}}
		if status != 404 && status != 409 { // of what is named
			t.ask(broken, "POST /v1/purge", "", one, status)
			t.ask(broken, "POST /v1/purges/{id}/repeat", "1-1", "", status)
		}
		if status == 400 || status == 500 {
			t.ask(broken, "POST /v1/preview", "", one, status)
		}
		if status == 409 || status == 500 {
			t.ask(broken, "DELETE /v1/purges/{id}", "1-1", "", status)
			t.ask(broken, "POST /v1/purges/{id}/undo", "1-1", "", status)
		}
	}
}
