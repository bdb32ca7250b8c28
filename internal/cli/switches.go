package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
)

// A policySwitch is one way to depart from, or to choose within, the standards.
type policySwitch struct {
	name   string
	values string // what it takes, the default first
	why    string // what it does, and why the default is what it is
	set    setter
}

// A setter makes the choice. The error says what the switch takes.
type setter func(c *engine.Config, value string) error

// policy is every switch there is, in the order of section 27 of the
// requirements: one table for parsing, for people and for tests.
var policy = []policySwitch{
	{
		"request-directives", "load-safe | ignore | honor",
		"What a client's Cache-Control may decide: by default what spares the origin work, never what makes it.",
		choice(func(c *engine.Config) *rules.RequestLevel { return &c.Terms.Requests }, map[string]rules.RequestLevel{
			"load-safe": rules.LoadSafe, "ignore": rules.IgnoreRequests, "honor": rules.HonorRequests,
		}),
	},
	{
		"client-reload", "off | on",
		"Whether a browser's reload fetches a fresh entry anew: handy while developing, a load weapon in public.",
		onOff(func(c *engine.Config) *bool { return &c.Terms.ClientReload }),
	},
	{
		"emit-age", "on | off",
		"Whether answers from memory carry Age: without it, caches further down keep them for too long.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.HideAge }),
	},
	{
		"authorized", "rfc | never",
		"Whether answers to requests with Authorization are kept where RFC 9111 3.5 allows it, or never.",
		choice(func(c *engine.Config) *bool { return &c.Terms.NeverAuthorized }, map[string]bool{"rfc": false, "never": true}),
	},
	{
		"range-mode", "full | serve-only | pass",
		"Ranges: keep and join parts, cut them from whole entries only, or leave them to the origin.",
		choice(func(c *engine.Config) *rules.RangeMode { return &c.Terms.Ranges }, map[string]rules.RangeMode{
			"full": rules.RangesFull, "serve-only": rules.RangesServe, "pass": rules.RangesPass,
		}),
	},
	{
		"conditional-mode", "evaluate | pass",
		"Whether a client's If-None-Match is answered here, which saves most traffic, or by the origin.",
		choice(func(c *engine.Config) *bool { return &c.Terms.PassConditionals }, map[string]bool{"evaluate": false, "pass": true}),
	},
	{
		"conditional-miss", "forward | fill",
		"A conditional request that finds nothing: forward it as it is, or fetch the whole answer to keep it.",
		choice(func(c *engine.Config) *bool { return &c.Terms.FillConditionals }, map[string]bool{"forward": false, "fill": true}),
	},
	{
		"set-cookie", "store-if-explicit | refuse | strip | store",
		"Answers that set a cookie: kept if the origin says for how long, so that no session leaks by a guess.",
		choice(func(c *engine.Config) *rules.SetCookieMode { return &c.Terms.SetCookie }, map[string]rules.SetCookieMode{
			"store-if-explicit": rules.CookieIfExplicit, "refuse": rules.CookieRefuse, "strip": rules.CookieStrip, "store": rules.CookieStore,
		}),
	},
	{
		"heuristics", "on | off",
		"Whether a lifetime is guessed from Last-Modified where the origin names none (RFC 9111 4.2.2).",
		offOn(func(c *engine.Config) *bool { return &c.Terms.NoHeuristics }),
	},
	{
		"heuristic-max", "24h | TIME",
		"The longest lifetime that is guessed: a guess should not outlive a day.",
		positive(func(c *engine.Config) *time.Duration { return &c.Terms.HeuristicMax }, "heuristics=off"),
	},
	{
		"use-s-maxage", "on | off",
		"Whether s-maxage is meant for us, or only for caches further down.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.IgnoreSMaxAge }),
	},
	{
		"targeted-fields", "CDN-Cache-Control | none | FIELD,FIELD...",
		"Fields that go before Cache-Control (RFC 9213), first one first: a channel that other caches ignore.",
		names(func(c *engine.Config) *[]string { return &c.Terms.TargetedFields }),
	},
	{
		"strip-targeted", "none | FIELD,FIELD...",
		"Targeted fields that clients do not get to see: by default those further down may use them too.",
		names(func(c *engine.Config) *[]string { return &c.Terms.StripTargeted }),
	},
	{
		"stale-on-error", "on | off",
		"Whether something stale is better than an error while the origin is down.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.NeverStaleOnError }),
	},
	{
		"stale-on-error-max", "24h | TIME",
		"How long after its lifetime an entry may still stand in for a failing origin.",
		positive(func(c *engine.Config) *time.Duration { return &c.Terms.StaleOnErrorMax }, "stale-on-error=off"),
	},
	{
		"soft-ttl", "0s | TIME",
		"How long after its lifetime an entry is served at once while one request refreshes it.",
		duration(func(c *engine.Config) *time.Duration { return &c.Terms.SoftTTL }),
	},
	{
		"collapse", "on | off",
		"Whether requests for the same thing wait for one fetch: off, each miss loads the origin.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.NoCollapse }),
	},
	{
		"collapse-timeout", "5s | TIME",
		"How long a request waits for another's fetch before it goes to the origin itself.",
		positive(func(c *engine.Config) *time.Duration { return &c.Terms.CollapseTimeout }, "collapse=off"),
	},
	{
		"uncacheable-memory", "60s | TIME",
		"How long requests do not wait for each other after an answer proved unfit for sharing.",
		positive(func(c *engine.Config) *time.Duration { return &c.Terms.UncacheableMemory }, "1ms"),
	},
	{
		"surrogate-control", "off | on",
		"Whether Surrogate-Control displaces Cache-Control: any path of the origin can set it, so only on demand.",
		onOff(func(c *engine.Config) *bool { return &c.Terms.Surrogate }),
	},
	{
		"invalidate-related", "on | off",
		"Whether a successful POST, PUT or DELETE also forgets what its Location and Content-Location name.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.KeepRelated }),
	},
	{
		"apparent-age", "on | off",
		"Whether Date tells how old an answer was when it came: off where the origin's clock is not to be trusted.",
		offOn(func(c *engine.Config) *bool { return &c.Terms.TrustDate }),
	},
	{
		"language-select", "off | on",
		"Reuse by Content-Language although Accept-Language differs: against RFC 9111 4.1, yet often what is meant.",
		onOff(func(c *engine.Config) *bool { return &c.Terms.LanguageSelect }),
	},
	{
		"vary-ignore", "none | FIELD,FIELD...",
		"Fields that Vary may name in vain: for applications that send Vary: User-Agent without need.",
		names(func(c *engine.Config) *[]string { return &c.Terms.VaryIgnore }),
	},
	{
		"partial-length-tolerance", "off | on",
		"Keep a 206 that contradicts itself, by its start and what came: for broken origins only.",
		onOff(func(c *engine.Config) *bool { return &c.Terms.PartTolerance }),
	},
	{
		"head-freshening", "rfc | validators | off",
		"Whether a 200 to HEAD refreshes a stored GET: if all agrees, if a validator does, or never.",
		choice(func(c *engine.Config) *rules.HeadMode { return &c.Terms.HeadFreshening }, map[string]rules.HeadMode{
			"rfc": rules.HeadRFC, "validators": rules.HeadValidators, "off": rules.HeadNever,
		}),
	},
	{
		"revalidate-timeout", "none | TIME",
		"How long a validation may keep a client waiting before it gets something stale.",
		func(c *engine.Config, value string) error {
			if value == "none" {
				c.Terms.RevalidateTimeout = 0
				return nil
			}
			return positive(func(c *engine.Config) *time.Duration { return &c.Terms.RevalidateTimeout }, "none")(c, value)
		},
	},
	{
		"revalidate-backoff", "5s | TIME",
		"How long a background validation that failed is not tried again.",
		positive(func(c *engine.Config) *time.Duration { return &c.Terms.RevalidateBackoff }, "1ms"),
	},
	{
		"max-ranges", "16 | NUMBER",
		"How many ranges a request may name before it gets everything: many small ones are an attack.",
		number(func(c *engine.Config) *int { return &c.Terms.MaxRanges }, 1, 1000),
	},
	{
		"loop-limit", "0 | NUMBER",
		"How often a request may have passed here before; once more is answered with 502.",
		number(func(c *engine.Config) *int { return &c.LoopLimit }, 0, 100),
	},
	{
		"cdn-loop-id", "none | NAME",
		"Our name in CDN-Loop (RFC 8586), by which a group of caches knows its own requests again.",
		func(c *engine.Config, value string) error {
			switch {
			case value == "none":
				value = ""
			case !isHost(value) || strings.ContainsAny(value, `,;=()`):
				return errors.New("a host name, such as cache.example.org, or none")
			}
			c.LoopID = value
			return nil
		},
	},
	{
		"via-response", "off | on",
		"Whether answers carry Via as requests do: it helps tracing, and tells clients about the inside.",
		onOff(func(c *engine.Config) *bool { return &c.ViaResponse }),
	},
	{
		"forwarded-fields", "none | forwarded | x-forwarded",
		"How the origin learns of the client: not at all, by RFC 7239, or by X-Forwarded-For, -Host and -Proto.",
		choice(func(c *engine.Config) *engine.ForwardedMode { return &c.Forwarded }, map[string]engine.ForwardedMode{
			"none": engine.ForwardNothing, "forwarded": engine.ForwardStandard, "x-forwarded": engine.ForwardX,
		}),
	},
	{
		"trusted-proxies", "none | ADDRESS/BITS,ADDRESS/BITS...",
		"Whose Forwarded and X-Forwarded-* fields are believed: whoever may set them can pretend to be anyone.",
		trusted,
	},
	{
		"upgrade", "websocket | none | PROTOCOL,PROTOCOL...",
		"Protocols that a connection may change to; it then runs past the cache.",
		func(c *engine.Config, value string) error {
			c.Upgrades = []string{}
			if value == "none" {
				return nil
			}
			for name := range strings.SplitSeq(value, ",") {
				if !isProtocol(name) {
					return errors.New("protocols, such as websocket, with commas between them, or none")
				}
				c.Upgrades = append(c.Upgrades, strings.ToLower(name))
			}
			return nil
		},
	},
}

// choice sets a field to one of several values.
func choice[T any](at func(*engine.Config) *T, values map[string]T) setter {
	return func(c *engine.Config, value string) error {
		v, ok := values[value]
		if !ok {
			return errValue
		}
		*at(c) = v
		return nil
	}
}

// errValue stands for "one of those that the table names".
var errValue = errors.New("")

// onOff is for what is off by itself, offOn for a field that means the
// opposite of its switch.
func onOff(at func(*engine.Config) *bool) setter {
	return choice(at, map[string]bool{"on": true, "off": false})
}

func offOn(at func(*engine.Config) *bool) setter {
	return choice(at, map[string]bool{"on": false, "off": true})
}

func duration(at func(*engine.Config) *time.Duration) setter {
	return func(c *engine.Config, value string) error {
		d, err := parseSpan(value)
		if err != nil {
			return errors.New("a time with its unit, such as 10s, 500ms or 24h")
		}
		*at(c) = d
		return nil
	}
}

// positive is a duration of which zero means the default, so that it cannot be
// asked for; instead says what to write.
func positive(at func(*engine.Config) *time.Duration, instead string) setter {
	set := duration(at)
	return func(c *engine.Config, value string) error {
		if d, err := parseSpan(value); err == nil && d == 0 {
			return fmt.Errorf("a time above zero; what you mean may be %s", instead)
		}
		return set(c, value)
	}
}

func number(at func(*engine.Config) *int, least, most int) setter {
	return func(c *engine.Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("a number from %d to %d", least, most)
		}
		*at(c) = n
		return nil
	}
}

// names sets a list of field names; none is an empty list.
func names(at func(*engine.Config) *[]string) setter {
	return func(c *engine.Config, value string) error {
		list := []string{}
		if value != "none" {
			for name := range strings.SplitSeq(value, ",") {
				if name = strings.TrimSpace(name); !isToken(name) {
					return errors.New("field names with commas between them, or none")
				}
				list = append(list, http.CanonicalHeaderKey(name))
			}
		}
		*at(c) = list
		return nil
	}
}

// isToken tells whether s can name a field or a protocol (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func isProtocol(s string) bool {
	name, version, versioned := strings.Cut(s, "/")
	return isToken(name) && (!versioned || isToken(version))
}

// trusted reads networks. A single address is a network of one.
func trusted(c *engine.Config, value string) error {
	if value == "none" {
		c.Trusts = nil
		return nil
	}
	var nets []netip.Prefix
	for text := range strings.SplitSeq(value, ",") {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil {
			addr = addr.Unmap()
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return errors.New("addresses or networks with commas between them, such as 10.0.0.0/8,2001:db8::/32, or none")
		}
		nets = append(nets, p.Masked())
	}
	c.Trusts = func(peer string) bool {
		a, err := netip.ParseAddrPort(peer)
		return err == nil && slices.ContainsFunc(nets, func(n netip.Prefix) bool {
			return n.Contains(a.Addr().Unmap().WithZone(""))
		})
	}
	return nil
}

// applySwitches makes the choices of settings, each SWITCH=VALUE, on top of the
// defaults.
func applySwitches(c *engine.Config, settings []string) error {
	c.Upgrades = []string{"websocket"}
	seen := map[string]bool{}
	for _, text := range settings {
		name, value, ok := strings.Cut(text, "=")
		s := findSwitch(name)
		switch {
		case s == nil:
			return usagef("--set %s: there is no switch %q%s", text, name, nearest(name))
		case !ok:
			return usagef("--set %s: no value: write --set %s=VALUE with one of %s", text, name, s.values)
		case seen[name]:
			return usagef("--set %s: %s is set twice: leave one out", text, name)
		}
		seen[name] = true
		if err := s.set(c, value); errors.Is(err, errValue) {
			return usagef("--set %s: %q is not for %s: give one of %s", text, value, name, s.values)
		} else if err != nil {
			return usagef("--set %s: %q is not for %s: give %v", text, value, name, err)
		}
	}
	return nil
}

func findSwitch(name string) *policySwitch {
	for i := range policy {
		if policy[i].name == name {
			return &policy[i]
		}
	}
	return nil
}

// nearest names the switches that somebody who wrote name may have meant.
func nearest(name string) string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for i := range policy {
		s := policy[i].name
		d := distance(strings.ToLower(name), s)
		if len(name) > 2 && strings.Contains(s, strings.ToLower(name)) {
			d = 1
		}
		if d <= max(2, len(s)/3) {
			near = append(near, candidate{s, d})
		}
	}
	if len(near) == 0 {
		return ": larder switches lists them"
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	words := make([]string, 0, 3)
	for _, c := range near[:min(3, len(near))] {
		words = append(words, c.name)
	}
	return ": did you mean " + strings.Join(words, " or ") + "?"
}

// distance is how many letters have to change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := before
			if a[i-1] != b[j-1] {
				cost = 1 + min(before, row[j], row[j-1])
			}
			before, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}

type switches struct{}

// Run prints the table.
func (switches) Run(std *streams) error {
	fmt.Fprint(std.out, "Policy switches for larder serve --set SWITCH=VALUE. The first value is the default:\nit follows the standards.\n")
	for i := range policy {
		s := &policy[i]
		fmt.Fprintf(std.out, "\n%s = %s\n    %s\n", s.name, s.values, s.why)
	}
	return nil
}
