package cli

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/page"
	"github.com/larderhq/larder/internal/rules"
)

// Every switch reaches its field, and no other.
func TestSwitchesReachTheirFields(t *testing.T) {
	reach := map[string]func(*choices){
		"request-directives=ignore":           func(c *choices) { c.Terms.Requests = rules.IgnoreRequests },
		"request-directives=honor":            func(c *choices) { c.Terms.Requests = rules.HonorRequests },
		"client-reload=on":                    func(c *choices) { c.Terms.ClientReload = true },
		"request-directives=max-age,no-store": func(c *choices) { c.Terms.Requests = rules.RequestMaxAge | rules.RequestNoStore },
		"vary-headers=x-tenant,Accept":        func(c *choices) { c.Terms.VaryHeaders = []string{"X-Tenant", "Accept"} },
		"statuses=200, 404":                   func(c *choices) { c.Terms.Statuses = []int{200, 404} },
		"default-ttl=1m":                      func(c *choices) { c.Terms.DefaultTTL = time.Minute },
		"negative-ttl=1s":                     func(c *choices) { c.Terms.NegativeTTL = time.Second },
		"min-ttl=5s":                          func(c *choices) { c.Terms.MinTTL = 5 * time.Second },
		"max-ttl=5m":                          func(c *choices) { c.Terms.MaxTTL = 5 * time.Minute },
		"overrule=no-cache,no-store":          func(c *choices) { c.Terms.Overrule = rules.OverruleNoCache | rules.OverruleNoStore },
		"page-assembly=esi":                   func(c *choices) { c.Assembles = true },
		"emit-age=off":                        func(c *choices) { c.Terms.HideAge = true },
		"authorized=never":                    func(c *choices) { c.Terms.Authorized = rules.AuthorizedNever },
		"authorized=key":                      func(c *choices) { c.Terms.Authorized = rules.AuthorizedKey },
		"range-mode=serve-only":               func(c *choices) { c.Terms.Ranges = rules.RangesServe },
		"range-mode=pass":                     func(c *choices) { c.Terms.Ranges = rules.RangesPass },
		"conditional-mode=pass":               func(c *choices) { c.Terms.PassConditionals = true },
		"conditional-miss=fill":               func(c *choices) { c.Terms.FillConditionals = true },
		"set-cookie=refuse":                   func(c *choices) { c.Terms.SetCookie = rules.CookieRefuse },
		"set-cookie=strip":                    func(c *choices) { c.Terms.SetCookie = rules.CookieStrip },
		"set-cookie=store":                    func(c *choices) { c.Terms.SetCookie = rules.CookieStore },
		"heuristics=off":                      func(c *choices) { c.Terms.NoHeuristics = true },
		"heuristic-max=1h":                    func(c *choices) { c.Terms.HeuristicMax = time.Hour },
		"use-s-maxage=off":                    func(c *choices) { c.Terms.IgnoreSMaxAge = true },
		"targeted-fields=a-b,CDN-X":           func(c *choices) { c.Terms.TargetedFields = []string{"A-B", "Cdn-X"} },
		"targeted-fields=none":                func(c *choices) { c.Terms.TargetedFields = []string{} },
		"strip-targeted=cdn-x":                func(c *choices) { c.Terms.StripTargeted = []string{"Cdn-X"} },
		"stale-on-error=off":                  func(c *choices) { c.Terms.NeverStaleOnError = true },
		"stale-on-error-max=2h":               func(c *choices) { c.Terms.StaleOnErrorMax = 2 * time.Hour },
		"soft-ttl=10s":                        func(c *choices) { c.Terms.SoftTTL = 10 * time.Second },
		"collapse=off":                        func(c *choices) { c.Terms.NoCollapse = true },
		"collapse-timeout=1s":                 func(c *choices) { c.Terms.CollapseTimeout = time.Second },
		"uncacheable-memory=5m":               func(c *choices) { c.Terms.UncacheableMemory = 5 * time.Minute },
		"surrogate-control=on":                func(c *choices) { c.Terms.Surrogate = true },
		"invalidate-related=off":              func(c *choices) { c.Terms.KeepRelated = true },
		"apparent-age=off":                    func(c *choices) { c.Terms.TrustDate = true },
		"language-select=on":                  func(c *choices) { c.Terms.LanguageSelect = true },
		"tag-headers=X-Tags, xkey":            func(c *choices) { c.Terms.TagFields = []string{"X-Tags", "Xkey"} },
		"expose-tags=on":                      func(c *choices) { c.Terms.ExposeTags = true },
		"cache-groups=off":                    func(c *choices) { c.Terms.NoGroups = true },
		"group-invalidation=off":              func(c *choices) { c.Terms.KeepGroups = true },
		"vary-ignore=user-agent, cookie":      func(c *choices) { c.Terms.VaryIgnore = []string{"User-Agent", "Cookie"} },
		"partial-length-tolerance=on":         func(c *choices) { c.Terms.PartTolerance = true },
		"head-freshening=validators":          func(c *choices) { c.Terms.HeadFreshening = rules.HeadValidators },
		"head-freshening=off":                 func(c *choices) { c.Terms.HeadFreshening = rules.HeadNever },
		"revalidate-timeout=1500ms":           func(c *choices) { c.Terms.RevalidateTimeout = 1500 * time.Millisecond },
		"revalidate-backoff=1m":               func(c *choices) { c.Terms.RevalidateBackoff = time.Minute },
		"early-hints=on":                      func(c *choices) { c.Terms.EarlyHints = true },
		"max-ranges=4":                        func(c *choices) { c.Terms.MaxRanges = 4 },
		"loop-limit=2":                        func(c *choices) { c.LoopLimit = 2 },
		"cdn-loop-id=cache.example":           func(c *choices) { c.LoopID = "cache.example" },
		"via-response=on":                     func(c *choices) { c.ViaResponse = true },
		"forwarded-fields=forwarded":          func(c *choices) { c.Forwarded = engine.ForwardStandard },
		"forwarded-fields=x-forwarded":        func(c *choices) { c.Forwarded = engine.ForwardX },
		"upgrade=none":                        func(c *choices) { c.Upgrades = []string{} },
		"upgrade=WebSocket,foo/2":             func(c *choices) { c.Upgrades = []string{"websocket", "foo/2"} },
	}
	tested := map[string]bool{"trusted-proxies": true, "date-mode": true, "compress": true, "vary-cookies": true, "esi-hosts": true, "esi-cookies": true} // functions, and one that needs another
	for setting, change := range reach {
		want := choices{Config: engine.Config{Upgrades: []string{"websocket"}}}
		change(&want)
		var got choices
		if err := applySwitches(&got, []string{setting}); err != nil {
			t.Errorf("%s: %v", setting, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s makes\n%+v, want\n%+v", setting, got, want)
		}
		name, _, _ := strings.Cut(setting, "=")
		tested[name] = true
	}
	for _, s := range policy.all {
		if !tested[s.name] {
			t.Errorf("nothing tests %s", s.name)
		}
	}
}

// The value named first is what applies without the switch, and each word that
// is named is taken.
func TestSwitchDefaults(t *testing.T) {
	for _, s := range policy.all {
		values := strings.Split(s.values, " | ")
		got, want := choices{}, choices{Config: engine.Config{Upgrades: []string{"websocket"}}}
		if err := applySwitches(&got, []string{s.name + "=" + values[0]}); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if !reflect.DeepEqual(meaning(got), meaning(want)) {
			t.Errorf("%s=%s makes\n%+v, want\n%+v", s.name, values[0], meaning(got), meaning(want))
		}
		for _, v := range values {
			if strings.ToLower(v) != v || strings.Contains(v, "/") {
				continue // a placeholder, or the name of a field
			}
			var c choices
			settings := []string{s.name + "=" + v}
			if s.name == "date-mode" {
				settings = append(settings, "emit-age=off")
			}
			if err := applySwitches(&c, settings); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		if s.why == "" || len(s.why) > 110 || !strings.HasSuffix(s.why, ".") {
			t.Errorf("%s: the reason is no line: %q", s.name, s.why)
		}
	}
	if n := len(policy.all); n != 53 {
		t.Errorf("there are %d switches; if that is as it should be, so is this number", n)
	}
}

// meaning puts in place of zeros what they stand for.
func meaning(c choices) choices {
	t := &c.Terms
	t.CollapseTimeout, t.UncacheableMemory, t.RevalidateBackoff, t.MaxRanges = t.CollapseWait(), t.RememberUncacheable(), t.Backoff(), t.RangeLimit()
	for _, d := range []*time.Duration{&t.HeuristicMax, &t.StaleOnErrorMax} {
		if *d == 0 {
			*d = 24 * time.Hour
		}
	}
	if t.Requests == 0 {
		t.Requests = rules.LoadSafe
	}
	if t.TagFields == nil {
		t.TagFields = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}
	}
	for _, list := range []*[]string{&t.StripTargeted, &t.VaryIgnore, &t.VaryHeaders} {
		if *list == nil {
			*list = []string{}
		}
	}
	if t.TargetedFields == nil {
		t.TargetedFields = []string{"Cdn-Cache-Control"}
	}
	return c
}

func TestPageAssembly(t *testing.T) {
	var c choices
	if err := applySwitches(&c, []string{"page-assembly=esi", "esi-hosts=Img.example.org, [::1]:8080", "esi-cookies=a,b"}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.pages, page.Settings{Hosts: []string{"img.example.org", "[::1]:8080"}, Cookies: []string{"a", "b"}}) {
		t.Errorf("the pages are %+v", c.pages)
	}
	for _, bad := range [][]string{{"esi-hosts=a"}, {"esi-cookies=a"}, {"page-assembly=esi", "esi-hosts=a/b"}, {"page-assembly=esi", "esi-cookies=a b"}, {"page-assembly=on"}} {
		if err := applySwitches(new(choices), bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVaryCookies(t *testing.T) {
	var c choices
	if err := applySwitches(&c, []string{"vary-cookies=a, b"}); err != nil {
		t.Fatal(err)
	}
	part := func(cookies string) string {
		return c.KeyPart(&http.Request{Header: http.Header{"Cookie": {cookies}}})
	}
	if part("a=1; c=1") != part("c=2; a=1") || part("a=1") == part("b=1") || part("a=1") == part("a=2") || part("c=1") != "" {
		t.Error("other cookies make a difference, or these do not")
	}
	if err := applySwitches(&c, []string{"vary-cookies=a b"}); err == nil {
		t.Error("a name with a blank is taken")
	}
}

func TestCompressNegotiates(t *testing.T) {
	var c choices
	if err := applySwitches(&c, []string{"compress=on"}); err != nil || c.Negotiate == nil {
		t.Fatalf("compress=on: %v", err)
	}
	if got := c.Negotiate(http.Header{"Accept-Encoding": {"gzip, br"}})["Accept-Encoding"]; len(got) != 1 || got[0] != "br" {
		t.Errorf("of gzip and br: %q", got)
	}
}

func TestDateNowNeedsEmitAgeOff(t *testing.T) {
	var c choices
	if err := applySwitches(&c, []string{"date-mode=now"}); err == nil || !strings.Contains(err.Error(), "emit-age=off") {
		t.Errorf("date-mode=now alone: %v", err)
	}
	if err := applySwitches(&c, []string{"date-mode=now", "emit-age=off"}); err != nil || !c.Terms.DateNow {
		t.Errorf("with emit-age=off: %v, %+v", err, c.Terms)
	}
}

func TestTrustedProxies(t *testing.T) {
	for setting, peers := range map[string]map[string]bool{
		"10.0.0.0/8,2001:db8::/32, 192.0.2.7": {
			"10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "[2001:db8::1]:443": true, "[2001:db8::1%eth0]:443": true, "192.0.2.7:1": true,
			"11.0.0.1:80": false, "192.0.2.8:1": false, "[::1]:80": false, "": false, "10.1.2.3": false, "/run/socket": false,
		},
		"10.9.9.9/8":       {"10.1.2.3:80": true},
		"::/0":             {"127.0.0.1:80": false, "[::1]:80": true},
		"::ffff:192.0.2.1": {"192.0.2.1:5": true, "192.0.2.2:5": false},
	} {
		var c choices
		if err := applySwitches(&c, []string{"trusted-proxies=" + setting}); err != nil {
			t.Fatal(err)
		}
		for peer, want := range peers {
			if got := c.Trusts(peer); got != want {
				t.Errorf("%s: %q is trusted: %v, want %v", setting, peer, got, want)
			}
		}
	}
	var c choices
	if err := applySwitches(&c, []string{"trusted-proxies=none"}); err != nil || c.Trusts != nil {
		t.Errorf("none: %v", err)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "::ffff:10.0.0.0/104", "10.0.0", "10.0.0.1,"} {
		if err := applySwitches(&c, []string{"trusted-proxies=" + bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"emitage": "emit-age", "set_cookie": "set-cookie", "SOFT-TTL": "soft-ttl", "heuristic": "heuristics", "stale": "stale-on-error",
		"targetted-fields": "targeted-fields", "": "larder switches", "q": "larder switches",
	} {
		if got := policy.nearest(name); !strings.Contains(got, want) {
			t.Errorf("%q: %q does not name %s", name, got, want)
		}
	}
	if !slices.IsSortedFunc([]int{distance("a", "a"), distance("ab", "a"), distance("", "ab"), distance("kitten", "sitting")}, func(a, b int) int { return a - b }) ||
		distance("kitten", "sitting") != 3 {
		t.Error("distance is not Levenshtein's")
	}
}
