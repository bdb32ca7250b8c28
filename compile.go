package larder

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/esi"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/page"
	"github.com/larderhq/larder/internal/rules"
)

// A compiler makes of a Policy what the engine takes, and collects what is wrong.
type compiler struct {
	name string
	errs []error
}

// compile makes what p says of an engine's policy, for whom sharing means by itself.
func (p *Policy) compile(name string, sharing Sharing) (*engine.Policy, error) {
	c := &compiler{name: name}
	t := rules.Terms{
		Private:           choose(c, "Sharing", p.Sharing, map[Sharing]bool{"": sharing == Private, Shared: false, Private: true}),
		Requests:          c.heed(p.Heed),
		ClientReload:      p.Reload,
		HideAge:           p.HideAge,
		DateNow:           p.DateNow,
		Authorized:        choose(c, "Authorization", p.Authorization, authorizations),
		VaryHeaders:       c.fields("VaryHeaders", p.VaryHeaders),
		Statuses:          c.statuses(p.Statuses),
		Ranges:            choose(c, "Ranges", p.Ranges, rangeModes),
		PassConditionals:  p.Conditionals == ConditionalsPass,
		FillConditionals:  choose(c, "Conditionals", p.Conditionals, map[Conditionals]bool{ConditionalsEvaluate: false, ConditionalsPass: false, ConditionalsFill: true}),
		SetCookie:         choose(c, "SetCookie", p.SetCookie, cookieModes),
		NoHeuristics:      p.NoHeuristics,
		HeuristicMax:      c.span("HeuristicMax", p.HeuristicMax),
		DefaultTTL:        c.span("DefaultTTL", p.DefaultTTL),
		NegativeTTL:       c.span("NegativeTTL", p.NegativeTTL),
		MinTTL:            c.span("MinTTL", p.MinTTL),
		MaxTTL:            c.span("MaxTTL", p.MaxTTL),
		Overrule:          rules.OverruleSet(c.bits("Overrule", p.Overrule, rules.OverruleNames)),
		IgnoreSMaxAge:     p.IgnoreSMaxAge,
		TargetedFields:    c.fields("TargetedFields", p.TargetedFields),
		StripTargeted:     c.fields("StripTargeted", p.StripTargeted),
		NeverStaleOnError: p.NeverStaleOnError,
		StaleOnErrorMax:   c.span("StaleOnErrorMax", p.StaleOnErrorMax),
		SoftTTL:           c.span("Grace", p.Grace),
		NoCollapse:        p.NoCollapse,
		CollapseTimeout:   c.span("CollapseTimeout", p.CollapseTimeout),
		UncacheableMemory: c.span("UncacheableMemory", p.UncacheableMemory),
		Surrogate:         p.Surrogate,
		KeepRelated:       p.KeepRelated,
		TrustDate:         p.TrustDate,
		LanguageSelect:    p.LanguageSelect,
		VaryIgnore:        c.fields("VaryIgnore", p.VaryIgnore),
		PartTolerance:     p.PartTolerance,
		HeadFreshening:    choose(c, "HeadFreshening", p.HeadFreshening, headModes),
		RevalidateTimeout: c.span("RevalidateTimeout", p.RevalidateTimeout),
		RevalidateBackoff: c.span("RevalidateBackoff", p.RevalidateBackoff),
		MaxRanges:         p.MaxRanges,
		EarlyHints:        p.EarlyHints,
	}
	if p.DateNow && !p.HideAge {
		c.mistake("DateNow needs HideAge: Age would tell the truth beside it")
	}
	if p.MaxTTL > 0 && p.MinTTL > p.MaxTTL {
		c.mistake("MinTTL %v is more than MaxTTL %v", p.MinTTL, p.MaxTTL)
	}
	if p.MaxRanges < 0 {
		c.mistake("MaxRanges %d is below zero", p.MaxRanges)
	}
	for _, name := range t.VaryHeaders {
		if slices.Contains(t.VaryIgnore, name) {
			c.mistake("%s is in VaryHeaders and in VaryIgnore", name)
		}
	}
	c.esi(p.ESI)
	return &engine.Policy{Label: name, Terms: t, KeyPart: c.keyPart(p), Bypass: c.bypass(p), AlsoVary: alsoVary(p), Assembles: p.ESI != nil && sharing == Shared}, errors.Join(c.errs...)
}

var (
	authorizations = map[Authorization]rules.AuthorizedMode{
		AuthorizationRFC: rules.AuthorizedRFC, AuthorizationKey: rules.AuthorizedKey, AuthorizationNever: rules.AuthorizedNever,
	}
	rangeModes  = map[Ranges]rules.RangeMode{RangesFull: rules.RangesFull, RangesServe: rules.RangesServe, RangesPass: rules.RangesPass}
	cookieModes = map[SetCookie]rules.SetCookieMode{
		SetCookieExplicit: rules.CookieIfExplicit, SetCookieRefuse: rules.CookieRefuse, SetCookieStrip: rules.CookieStrip, SetCookiePass: rules.CookieStore,
	}
	headModes = map[HeadFreshening]rules.HeadMode{HeadRFC: rules.HeadRFC, HeadValidators: rules.HeadValidators, HeadNever: rules.HeadNever}
)

func (c *compiler) mistake(format string, args ...any) {
	which := "Policy"
	if c.name != "" {
		which = fmt.Sprintf("Policies[%q]", c.name)
	}
	c.errs = append(c.errs, fmt.Errorf("larder: "+which+": "+format, args...))
}

// choose is what one of several words stands for.
func choose[K ~string, V any](c *compiler, what string, word K, words map[K]V) V {
	v, ok := words[word]
	if !ok {
		c.mistake("%s: there is no %q, only %q", what, word, slices.Sorted(maps.Keys(words)))
	}
	return v
}

func (c *compiler) span(what string, d time.Duration) time.Duration {
	if d < 0 {
		c.mistake("%s: %v is below zero", what, d)
	}
	return d
}

// fields are names in canonical form; nil stays nil.
func (c *compiler) fields(what string, names []string) []string {
	for _, name := range names {
		switch {
		case name == "*":
			c.mistake("%s: `*` never matches any request: name the fields, or use Bypass", what)
		case !field.IsToken(name):
			c.mistake("%s: %q is no field name", what, name)
		}
	}
	return canonical(names)
}

func (c *compiler) cookies(what string, names []string) {
	for _, name := range names {
		if !field.IsToken(name) {
			c.mistake("%s: %q is no name of a cookie", what, name)
		}
	}
}

func (c *compiler) statuses(codes []int) []int {
	for _, code := range codes {
		if code < 200 || code > 599 || code == http.StatusNotModified {
			c.mistake("Statuses: %d is no status of a response that could be kept", code)
		}
	}
	return slices.Clone(codes)
}

// bits has one for each word, in the order of names.
func (c *compiler) bits(what string, words, names []string) (set uint16) {
	for _, word := range words {
		i := slices.Index(names, strings.ToLower(word))
		if i < 0 {
			c.mistake("%s: there is no %q, only %s", what, word, strings.Join(names, ", "))
			continue
		}
		set |= 1 << i
	}
	return set
}

func (c *compiler) heed(words []string) rules.RequestSet {
	switch {
	case words == nil:
		return 0
	case len(words) == 0, slices.Equal(words, []string{"none"}):
		return rules.IgnoreRequests
	case slices.Equal(words, []string{"all"}):
		return rules.HonorRequests
	}
	return rules.RequestSet(c.bits("Heed", words, rules.RequestNames))
}

// alsoVary are the fields that VaryCookies looks at.
func alsoVary(p *Policy) []string {
	if len(p.VaryCookies) == 0 {
		return nil
	}
	return []string{"Cookie"}
}

// esi looks for mistakes.
func (c *compiler) esi(e *ESI) {
	if e == nil {
		return
	}
	for _, host := range e.Hosts {
		if !canon.Host(host) {
			c.mistake("ESI.Hosts: %q is no host, or host:port", host)
		}
	}
	c.cookies("ESI.Cookies", e.Cookies)
	if min(e.Depth, e.Includes, e.Parallel) < 0 || min(e.PageSize, e.FragmentSize) < 0 || e.Time < 0 {
		c.mistake("ESI: a limit is below zero")
	}
}

// settings are those for pages, or nil.
func (p *Policy) settings() *page.Settings {
	e := p.ESI
	if e == nil {
		return nil
	}
	hosts := make([]string, len(e.Hosts))
	for i, host := range e.Hosts {
		hosts[i] = strings.ToLower(host)
	}
	return &page.Settings{
		Hosts: hosts, Cookies: e.Cookies, Drop: e.DropFailed, Strict: e.Strict, Device: "larder", Hide: p.Surrogate, Targeted: canonical(p.TargetedFields),
		Limits: esi.Limits{Depth: e.Depth, Includes: e.Includes, Parallel: e.Parallel, Size: e.PageSize, Fragment: e.FragmentSize, Time: e.Time},
	}
}

// canonical are names in canonical form.
func canonical(names []string) []string {
	out := slices.Clone(names)
	for i, name := range out {
		out[i] = http.CanonicalHeaderKey(name)
	}
	return out
}

// keyPart is what chooses a response beside its Vary, or nil.
func (c *compiler) keyPart(p *Policy) func(*http.Request) string {
	c.cookies("VaryCookies", p.VaryCookies)
	if len(p.VaryCookies) == 0 {
		return p.VaryOn
	}
	return both(engine.Cookies(slices.Clone(p.VaryCookies)), p.VaryOn)
}

// both is what one function finds in a request and what another does, which may be
// nil; empty if neither finds anything.
func both(one, other func(*http.Request) string) func(*http.Request) string {
	if other == nil {
		return one
	}
	return func(r *http.Request) string {
		a, b := one(r), other(r)
		if a == "" && b == "" {
			return ""
		}
		return fmt.Sprintf("%d %s%s", len(a), a, b)
	}
}

// bypass is why a request goes past the cache, or nil if none does.
func (c *compiler) bypass(p *Policy) func(*http.Request) string {
	getOnly := false
	for _, m := range p.Methods {
		if m != http.MethodGet && m != http.MethodHead {
			c.mistake("Methods: %q is never answered from the cache, only GET and HEAD are", m)
		}
	}
	if p.Methods != nil {
		getOnly = !slices.Contains(p.Methods, http.MethodHead)
		if !slices.Contains(p.Methods, http.MethodGet) {
			c.mistake("Methods: without GET nothing could be kept: leave it nil, or use Bypass")
		}
	}
	if !getOnly && !p.BypassCookies && !p.BypassHTTPS {
		return p.Bypass
	}
	cookies, https, more := p.BypassCookies, p.BypassHTTPS, p.Bypass
	return func(r *http.Request) string {
		switch {
		case getOnly && r.Method == http.MethodHead:
			return "method (Methods)"
		case cookies && len(r.Header["Cookie"]) > 0:
			return "cookie (BypassCookies)"
		case https && r.TLS != nil:
			return "https (BypassHTTPS)"
		case more != nil:
			return more(r)
		}
		return ""
	}
}
