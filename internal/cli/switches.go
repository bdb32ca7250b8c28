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

	"github.com/larderhq/larder/internal/canon"
	"github.com/larderhq/larder/internal/encode"
	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/field"
	"github.com/larderhq/larder/internal/page"
	"github.com/larderhq/larder/internal/rules"
)

// choices are what switches set.
type choices struct {
	engine.Config
	// pages holds where Config.Assembles.
	pages page.Settings
}

// policy is every way to depart from, or to choose within, the standards, in the
// order of section 27 of the requirements.
var policy = options[choices]{flag: "set", kind: "switch", command: "switches", all: []option[choices]{
	{
		"request-directives", "load-safe | ignore | honor | NAME,NAME...",
		"What a client's Cache-Control may decide: by default what spares the origin work, never what makes it.",
		set(func(c *choices) *rules.RequestSet { return &c.Terms.Requests }, map[string]rules.RequestSet{
			"load-safe": rules.LoadSafe, "ignore": rules.IgnoreRequests, "honor": rules.HonorRequests,
		}, rules.RequestNames),
	},
	{
		"client-reload", "off | on",
		"Whether a browser's reload fetches a fresh entry anew: handy while developing, a load weapon in public.",
		onOff(func(c *choices) *bool { return &c.Terms.ClientReload }),
	},
	{
		"emit-age", "on | off",
		"Whether answers from memory carry Age: without it, caches further down keep them for too long.",
		offOn(func(c *choices) *bool { return &c.Terms.HideAge }),
	},
	{
		"date-mode", "keep | now",
		"Whether answers from memory look as if just made: needs emit-age=off, and then nobody knows their age.",
		choice(func(c *choices) *bool { return &c.Terms.DateNow }, map[string]bool{"keep": false, "now": true}),
	},
	{
		"authorized", "rfc | key | never",
		"Answers to who sends Authorization: kept where RFC 9111 3.5 allows it, for the same credentials, or never.",
		choice(func(c *choices) *rules.AuthorizedMode { return &c.Terms.Authorized }, map[string]rules.AuthorizedMode{
			"rfc": rules.AuthorizedRFC, "key": rules.AuthorizedKey, "never": rules.AuthorizedNever,
		}),
	},
	{
		"vary-headers", "none | FIELD,FIELD...",
		"Fields that choose an answer although it has no Vary: for applications that forget to say so.",
		names(func(c *choices) *[]string { return &c.Terms.VaryHeaders }),
	},
	{
		"vary-cookies", "none | NAME,NAME...",
		"Cookies whose values choose an answer: all others make no difference. Hits leave by the slower way then.",
		func(c *choices, value string) error {
			var names []string
			err := cookies(func(*choices) *[]string { return &names })(c, value)
			if c.KeyPart, c.AlsoVary = nil, nil; names != nil {
				c.KeyPart, c.AlsoVary = engine.Cookies(names), []string{"Cookie"}
			}
			return err
		},
	},
	{
		"statuses", "rfc | CODE,CODE...",
		"Statuses that are kept: fewer than RFC 9111 allows, where errors come with a lifetime by mistake.",
		statuses,
	},
	{
		"default-ttl", "none | TIME",
		"The lifetime of a success for which the origin states none: by default nothing is made up but by heuristics.",
		orNone(func(c *choices) *time.Duration { return &c.Terms.DefaultTTL }),
	},
	{
		"negative-ttl", "none | TIME",
		"The same for 404, 405, 410, 414, 451 and 500 to 504: a short one shields a failing origin.",
		orNone(func(c *choices) *time.Duration { return &c.Terms.NegativeTTL }),
	},
	{
		"min-ttl", "none | TIME",
		"The least that any lifetime is: against RFC 9111 4.2.1, for origins that say too little.",
		orNone(func(c *choices) *time.Duration { return &c.Terms.MinTTL }),
	},
	{
		"max-ttl", "none | TIME",
		"The most that any lifetime is: for origins that say too much.",
		orNone(func(c *choices) *time.Duration { return &c.Terms.MaxTTL }),
	},
	{
		"overrule", "none | NAME,NAME...",
		"Which of no-store, private, no-cache in answers do not count: against RFC 9111 5.2.2, so Cache-Status tells.",
		set(func(c *choices) *rules.OverruleSet { return &c.Terms.Overrule }, map[string]rules.OverruleSet{"none": 0}, rules.OverruleNames),
	},
	{
		"compress", "off | on",
		"Whether text is kept as br, zstd or gzip, made once for each: costs CPU, and secrets in it may be guessed.",
		choice(func(c *choices) *func(http.Header) http.Header { return &c.Negotiate }, map[string]func(http.Header) http.Header{
			"off": nil, "on": encode.Negotiate(nil),
		}),
	},
	{
		"page-assembly", "off | esi",
		"Whether pages are assembled where an answer says Surrogate-Control: content=\"ESI/1.0\": any path can say so.",
		choice(func(c *choices) *bool { return &c.Assembles }, map[string]bool{"off": false, "esi": true}),
	},
	{
		"esi-hosts", "none | HOST,HOST...",
		"Hosts whose fragments pages may include beside their own; they are asked of this origin, without credentials.",
		func(c *choices, value string) error {
			c.pages.Hosts = nil
			if value == "none" {
				return nil
			}
			for host := range strings.SplitSeq(strings.ToLower(value), ",") {
				if host = strings.TrimSpace(host); !canon.Host(host) {
					return errors.New("hosts, such as img.example.org or img.example.org:8080, with commas between them, or none")
				}
				c.pages.Hosts = append(c.pages.Hosts, host)
			}
			return nil
		},
	},
	{
		"esi-cookies", "none | NAME,NAME...",
		"Cookies whose values pages may show: by default none, so that no markup can tell them.",
		cookies(func(c *choices) *[]string { return &c.pages.Cookies }),
	},
	{
		"range-mode", "full | serve-only | pass",
		"Ranges: keep and join parts, cut them from whole entries only, or leave them to the origin.",
		choice(func(c *choices) *rules.RangeMode { return &c.Terms.Ranges }, map[string]rules.RangeMode{
			"full": rules.RangesFull, "serve-only": rules.RangesServe, "pass": rules.RangesPass,
		}),
	},
	{
		"conditional-mode", "evaluate | pass",
		"Whether a client's If-None-Match is answered here, which saves most traffic, or by the origin.",
		choice(func(c *choices) *bool { return &c.Terms.PassConditionals }, map[string]bool{"evaluate": false, "pass": true}),
	},
	{
		"conditional-miss", "forward | fill",
		"A conditional request that finds nothing: forward it as it is, or fetch the whole answer to keep it.",
		choice(func(c *choices) *bool { return &c.Terms.FillConditionals }, map[string]bool{"forward": false, "fill": true}),
	},
	{
		"set-cookie", "store-if-explicit | refuse | strip | store",
		"Answers that set a cookie: kept if the origin says for how long, so that no session leaks by a guess.",
		choice(func(c *choices) *rules.SetCookieMode { return &c.Terms.SetCookie }, map[string]rules.SetCookieMode{
			"store-if-explicit": rules.CookieIfExplicit, "refuse": rules.CookieRefuse, "strip": rules.CookieStrip, "store": rules.CookieStore,
		}),
	},
	{
		"heuristics", "on | off",
		"Whether a lifetime is guessed from Last-Modified where the origin names none (RFC 9111 4.2.2).",
		offOn(func(c *choices) *bool { return &c.Terms.NoHeuristics }),
	},
	{
		"heuristic-max", "24h | TIME",
		"The longest lifetime that is guessed: a guess should not outlive a day.",
		positive(func(c *choices) *time.Duration { return &c.Terms.HeuristicMax }, "heuristics=off"),
	},
	{
		"use-s-maxage", "on | off",
		"Whether s-maxage is meant for us, or only for caches further down.",
		offOn(func(c *choices) *bool { return &c.Terms.IgnoreSMaxAge }),
	},
	{
		"targeted-fields", "CDN-Cache-Control | none | FIELD,FIELD...",
		"Fields that go before Cache-Control (RFC 9213), first one first: a channel that other caches ignore.",
		names(func(c *choices) *[]string { return &c.Terms.TargetedFields }),
	},
	{
		"strip-targeted", "none | FIELD,FIELD...",
		"Targeted fields that clients do not get to see: by default those further down may use them too.",
		names(func(c *choices) *[]string { return &c.Terms.StripTargeted }),
	},
	{
		"stale-on-error", "on | off",
		"Whether something stale is better than an error while the origin is down.",
		offOn(func(c *choices) *bool { return &c.Terms.NeverStaleOnError }),
	},
	{
		"stale-on-error-max", "24h | TIME",
		"How long after its lifetime an entry may still stand in for a failing origin.",
		positive(func(c *choices) *time.Duration { return &c.Terms.StaleOnErrorMax }, "stale-on-error=off"),
	},
	{
		"soft-ttl", "0s | TIME",
		"How long after its lifetime an entry is served at once while one request refreshes it.",
		duration(func(c *choices) *time.Duration { return &c.Terms.SoftTTL }),
	},
	{
		"collapse", "on | off",
		"Whether requests for the same thing wait for one fetch: off, each miss loads the origin.",
		offOn(func(c *choices) *bool { return &c.Terms.NoCollapse }),
	},
	{
		"collapse-timeout", "5s | TIME",
		"How long a request waits for another's fetch before it goes to the origin itself.",
		positive(func(c *choices) *time.Duration { return &c.Terms.CollapseTimeout }, "collapse=off"),
	},
	{
		"uncacheable-memory", "60s | TIME",
		"How long requests do not wait for each other after an answer proved unfit for sharing.",
		positive(func(c *choices) *time.Duration { return &c.Terms.UncacheableMemory }, "1ms"),
	},
	{
		"surrogate-control", "off | on",
		"Whether Surrogate-Control displaces Cache-Control: any path of the origin can set it, so only on demand.",
		onOff(func(c *choices) *bool { return &c.Terms.Surrogate }),
	},
	{
		"invalidate-related", "on | off",
		"Whether a successful POST, PUT or DELETE also forgets what its Location and Content-Location name.",
		offOn(func(c *choices) *bool { return &c.Terms.KeepRelated }),
	},
	{
		"tag-headers", "Surrogate-Key,Cache-Tag,xkey | none | FIELD,FIELD...",
		"Fields by which the origin labels answers, so that they can be purged together: the conventions in use.",
		names(func(c *choices) *[]string { return &c.Terms.TagFields }),
	},
	{
		"expose-tags", "off | on",
		"Whether clients get to see those fields: a tier in front of this one needs them, nobody else does.",
		onOff(func(c *choices) *bool { return &c.Terms.ExposeTags }),
	},
	{
		"cache-groups", "on | off",
		"Whether Cache-Groups and Cache-Group-Invalidation count (RFC 9875): off where strangers share a host.",
		offOn(func(c *choices) *bool { return &c.Terms.NoGroups }),
	},
	{
		"group-invalidation", "on | off",
		"Whether a successful POST, PUT or DELETE also forgets what shares a group with what it changes (RFC 9875).",
		offOn(func(c *choices) *bool { return &c.Terms.KeepGroups }),
	},
	{
		"apparent-age", "on | off",
		"Whether Date tells how old an answer was when it came: off where the origin's clock is not to be trusted.",
		offOn(func(c *choices) *bool { return &c.Terms.TrustDate }),
	},
	{
		"language-select", "off | on",
		"Reuse by Content-Language although Accept-Language differs: against RFC 9111 4.1, yet often what is meant.",
		onOff(func(c *choices) *bool { return &c.Terms.LanguageSelect }),
	},
	{
		"vary-ignore", "none | FIELD,FIELD...",
		"Fields that Vary may name in vain: for applications that send Vary: User-Agent without need.",
		names(func(c *choices) *[]string { return &c.Terms.VaryIgnore }),
	},
	{
		"partial-length-tolerance", "off | on",
		"Keep a 206 that contradicts itself, by its start and what came: for broken origins only.",
		onOff(func(c *choices) *bool { return &c.Terms.PartTolerance }),
	},
	{
		"head-freshening", "rfc | validators | off",
		"Whether a 200 to HEAD refreshes a stored GET: if all agrees, if a validator does, or never.",
		choice(func(c *choices) *rules.HeadMode { return &c.Terms.HeadFreshening }, map[string]rules.HeadMode{
			"rfc": rules.HeadRFC, "validators": rules.HeadValidators, "off": rules.HeadNever,
		}),
	},
	{
		"revalidate-timeout", "none | TIME",
		"How long a validation may keep a client waiting before it gets something stale.",
		orNone(func(c *choices) *time.Duration { return &c.Terms.RevalidateTimeout }),
	},
	{
		"revalidate-backoff", "5s | TIME",
		"How long a background validation that failed is not tried again.",
		positive(func(c *choices) *time.Duration { return &c.Terms.RevalidateBackoff }, "1ms"),
	},
	{
		"early-hints", "off | on",
		"Whether links to preload are taken from a stale answer and sent as 103 while the origin is asked (RFC 8297).",
		onOff(func(c *choices) *bool { return &c.Terms.EarlyHints }),
	},
	{
		"max-ranges", "16 | NUMBER",
		"How many ranges a request may name before it gets everything: many small ones are an attack.",
		number(func(c *choices) *int { return &c.Terms.MaxRanges }, 1, 1000),
	},
	{
		"loop-limit", "0 | NUMBER",
		"How often a request may have passed here before; once more is answered with 502.",
		number(func(c *choices) *int { return &c.LoopLimit }, 0, 100),
	},
	{
		"cdn-loop-id", "none | NAME",
		"Our name in CDN-Loop (RFC 8586), by which caches know their own requests, and in Cache-Status.",
		func(c *choices, value string) error {
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
		onOff(func(c *choices) *bool { return &c.ViaResponse }),
	},
	{
		"forwarded-fields", "none | forwarded | x-forwarded",
		"How the origin learns of the client: not at all, by RFC 7239, or by X-Forwarded-For, -Host and -Proto.",
		choice(func(c *choices) *engine.ForwardedMode { return &c.Forwarded }, map[string]engine.ForwardedMode{
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
		func(c *choices, value string) error {
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
}}

// names sets a list of field names; none is an empty list.
func names(at func(*choices) *[]string) setter[choices] {
	return func(c *choices, value string) error {
		list := []string{}
		if value != "none" {
			for name := range strings.SplitSeq(value, ",") {
				if name = strings.TrimSpace(name); !field.IsToken(name) {
					return errors.New("field names with commas between them, or none")
				}
				list = append(list, http.CanonicalHeaderKey(name))
			}
		}
		*at(c) = list
		return nil
	}
}

// cookies sets a list of names of cookies; none is nil.
func cookies(at func(*choices) *[]string) setter[choices] {
	return func(c *choices, value string) error {
		var list []string
		if value != "none" {
			for name := range strings.SplitSeq(value, ",") {
				if name = strings.TrimSpace(name); !field.IsToken(name) {
					return errors.New("names of cookies with commas between them, or none")
				}
				list = append(list, name)
			}
		}
		*at(c) = list
		return nil
	}
}

// statuses reads a list of final status codes.
func statuses(c *choices, value string) error {
	c.Terms.Statuses = nil
	if value == "rfc" {
		return nil
	}
	for text := range strings.SplitSeq(value, ",") {
		code, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || code < 200 || code > 599 {
			return errors.New("status codes from 200 to 599 with commas between them, or rfc")
		}
		c.Terms.Statuses = append(c.Terms.Statuses, code)
	}
	return nil
}

func isProtocol(s string) bool {
	name, version, versioned := strings.Cut(s, "/")
	return field.IsToken(name) && (!versioned || field.IsToken(version))
}

// trusted reads networks. A single address is a network of one.
func trusted(c *choices, value string) error {
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
	c.Trusts = among(nets)
	return nil
}

// among tells whether a peer, host:port, is in one of the networks.
func among(nets []netip.Prefix) func(peer string) bool {
	return func(peer string) bool {
		a, err := netip.ParseAddrPort(peer)
		return err == nil && slices.ContainsFunc(nets, func(n netip.Prefix) bool {
			return n.Contains(a.Addr().Unmap().WithZone(""))
		})
	}
}

// applySwitches makes the choices of settings, each SWITCH=VALUE, on top of the
// defaults.
func applySwitches(c *choices, settings []string) error {
	c.Upgrades = []string{"websocket"}
	if err := policy.apply(c, settings); err != nil {
		return err
	}
	if !c.Assembles && (c.pages.Hosts != nil || c.pages.Cookies != nil) {
		return usagef("--set esi-hosts and esi-cookies do nothing without --set page-assembly=esi: add it, or leave them out")
	}
	if c.Terms.DateNow && !c.Terms.HideAge {
		return usagef("--set date-mode=now: Age would tell the truth beside it: add --set emit-age=off, or leave it out")
	}
	return nil
}

type switches struct{}

// Run prints the table.
func (switches) Run(std *streams) error {
	fmt.Fprint(std.out, "Policy switches for larder serve --set SWITCH=VALUE. The first value is the default:\nit follows the standards.\n")
	policy.list(std.out)
	return nil
}
