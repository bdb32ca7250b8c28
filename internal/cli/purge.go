package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

type purgeCmd struct {
	URL []string `arg:"" optional:"" name:"url" help:"Exactly these, queries included, with all their variants."`

	Tag    []string `placeholder:"TAG" sep:"none" help:"What the origin has labelled so (Surrogate-Key, Cache-Tag, xkey).\nThis and the following may be repeated."`
	Prefix []string `placeholder:"PREFIX" sep:"none" help:"URLs that begin so. A host alone is that host."`
	Glob   []string `placeholder:"GLOB" sep:"none" help:"URLs that fit, as /img/*.png or http://example.org/**/*.css. What\nfollows a ? is about the query; without one that does not matter."`
	Regex  []string `placeholder:"EXPR" sep:"none" help:"URLs, http://host/path?query, in which the expression (RE2) is found."`
	Group  []string `placeholder:"NAME" sep:"none" help:"What is in this group (Cache-Groups, RFC 9875) of --origin."`
	Origin string   `placeholder:"URL" help:"Of --group: http://host."`
	All    bool     `help:"Everything."`

	Soft   bool     `help:"Have it validated, and served stale meanwhile where that is allowed.\nWithout this it is never served again."`
	DryRun bool     `help:"Only say what would be found, and what it would cost the origin."`
	Wait   bool     `help:"Return when all that is kept has been gone through."`
	Start  moment   `placeholder:"TIME" help:"Begin then: at 2026-12-24T18:00:00Z, or in 10m. Now by default."`
	For    *span    `placeholder:"TIME" help:"End so long after the start, although not all was found."`
	Via    []string `placeholder:"ADDR" sep:"none" help:"Purge at this Larder first, the one behind: what an edge fetches must\nbe new in its parent. May be repeated, the farthest first."`
	adminFlag
}

func (*purgeCmd) examples() [][2]string {
	return [][2]string{
		{"larder purge http://example.org/news", "one page, at once"},
		{"larder purge --tag article-17 --soft", "all pages that show it, and nobody waits"},
		{"larder purge --prefix http://example.org/img/ --dry-run", "what it would cost"},
		{"larder purge --all", "everything"},
		{"larder purge --tag x --via /run/parent.sock --admin /run/edge.sock", "through two tiers, parent first"},
	}
}

func (*purgeCmd) more() string {
	return `URLs are those that clients ask for: http://host/path, //host/path for http and
https, or /path for all hosts. When it returns, no lookup overlooks it any more;
what is kept is gone through behind that. larder purges lists, cancels and undoes.`
}

// A moment is a time of day, or so long from now.
type moment struct{ time.Time }

// UnmarshalText reads a time as RFC 3339 has it, or a span.
func (m *moment) UnmarshalText(text []byte) error {
	if d, err := parseSpan(string(text)); err == nil {
		m.Time = time.Now().Add(d)
		return nil
	}
	var err error
	if m.Time, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return fmt.Errorf("%q is no time: write it as 2026-12-24T18:00:00Z, or in how long as 10m", text)
	}
	return nil
}

// order is what was asked for.
func (p *purgeCmd) order() (o purge.Order, err error) {
	add := func(values []string, set func(s *purge.Selector, v string)) {
		for _, v := range values {
			var s purge.Selector
			set(&s, v)
			o.Selectors = append(o.Selectors, s)
			switch {
			case err != nil:
			case v == "":
				err = usagef("an empty name is the name of nothing: --all purges everything")
			case strings.ContainsRune(v, utf8.RuneError): // which stands for them by now, and would be purged
				err = usagef("%q has octets that are not UTF-8: in URLs write them as %%E9", v)
			}
		}
	}
	add(p.URL, func(s *purge.Selector, v string) { s.URL = v })
	add(p.Tag, func(s *purge.Selector, v string) { s.Tag = v })
	add(p.Prefix, func(s *purge.Selector, v string) { s.Prefix = v })
	add(p.Glob, func(s *purge.Selector, v string) { s.Glob = v })
	add(p.Regex, func(s *purge.Selector, v string) { s.Regex = v })
	add(p.Group, func(s *purge.Selector, v string) { s.Group, s.Origin = v, p.Origin })
	switch {
	case err != nil:
		return o, err
	case p.All && len(o.Selectors) > 0:
		return o, usagef("--all is everything: leave the rest out, or leave out --all to purge only that")
	case p.Origin != "" && len(p.Group) == 0:
		return o, usagef("--origin is for --group; leave it out, or name a group")
	case p.All:
		o.Selectors = []purge.Selector{{All: true}}
	case len(o.Selectors) == 0:
		return o, usagef("purge what? Name URLs, as in larder purge http://example.org/news, or --tag, --prefix, --glob, --regex, --group or --all")
	}
	if p.Soft {
		o.Mode = purge.Refresh
	}
	return o, p.times(&o)
}

// times says when o begins and ends.
func (p *purgeCmd) times(o *purge.Order) error {
	o.Start = p.Start.Time
	if !o.Start.IsZero() && len(p.Via) > 0 {
		return usagef("--start with --via: they would begin at once, and an edge could fetch what its parent has not purged yet; schedule each, the parent's earlier")
	}
	if p.For == nil {
		return nil
	}
	o.End = o.Start
	if o.End.IsZero() {
		o.End = time.Now()
	}
	o.End = o.End.Add(time.Duration(*p.For))
	switch {
	case *p.For == 0:
		return usagef("--for 0s: it would end before it starts: give it time, or leave --for out")
	case o.End.Year() > 9999:
		return usagef("--for %v: it would end after the year 9999: leave --for out", *p.For)
	}
	return nil
}

// Run purges, at those behind first.
func (p *purgeCmd) Run(std *streams) error {
	o, err := p.order()
	if err != nil {
		return err
	}
	own, err := p.place()
	if err != nil {
		return err
	}
	places := append(slices.Clone(p.Via), own)
	trust, err := p.config(slices.ContainsFunc(places, func(where string) bool { return strings.HasPrefix(where, "https://") }))
	if err != nil {
		return err
	}
	clients := make([]*admin.Client, len(places))
	for i, where := range places { // all are known to be places before the first one is asked
		flag := "via"
		if i == len(p.Via) {
			flag = "admin"
		}
		if clients[i], err = p.clientOf(flag, where, trust); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	ctx, stop := interrupted()
	defer stop()
	for i, c := range clients {
		label := ""
		if len(p.Via) > 0 {
			label = places[i] + ": "
		}
		if err := p.at(ctx, std, c, o, label); err != nil {
			return halfway(err, places, i)
		}
	}
	return nil
}

// halfway says how far it came, where it failed at the i-th of several places.
func halfway(err error, places []string, i int) error {
	if len(places) == 1 {
		return err
	}
	err = fmt.Errorf("%s: %w", places[i], err)
	if left := places[i+1:]; len(left) > 0 {
		err = fmt.Errorf("%w; not asked after that: %s", err, strings.Join(left, ", "))
	}
	if i > 0 { // so that it is no mistake that nothing came of
		err = fmt.Errorf("%v; done before that: %s; purging again does no harm", err, strings.Join(places[:i], ", "))
	}
	return err
}

// soon is what a purge comes to in a moment: most are over by then.
func soon(ctx context.Context, c *admin.Client, r purge.Receipt) purge.Receipt {
	const moment = 250 * time.Millisecond
	ctx, stop := context.WithTimeout(ctx, moment)
	defer stop()
	if r.State != purge.InForce {
		return r
	}
	if later, err := c.Receipt(ctx, r.ID, 1); err == nil {
		return later
	}
	return r
}

// at purges at one Larder.
func (p *purgeCmd) at(ctx context.Context, std *streams, c *admin.Client, o purge.Order, label string) error {
	if p.DryRun {
		v, err := c.Preview(ctx, o)
		if err != nil {
			return refusal(err)
		}
		return p.print(std.out, v, func() { writePreview(std.out, label, &v) })
	}
	r, err := c.Purge(ctx, o)
	switch {
	case err != nil:
	case p.Wait:
		r, err = await(ctx, c, r)
	default:
		r = soon(ctx, c, r)
	}
	if err != nil {
		return refusal(err)
	}
	return p.print(std.out, r, func() { writeReceipt(std.out, label, &r) })
}

func writeReceipt(w io.Writer, label string, r *purge.Receipt) {
	fmt.Fprintf(w, "%s%s  %s of %s: %s%s\n", label, r.ID, r.Mode, selectors(r.Selectors), strings.Map(visible, string(r.State)), found(r))
}

// selectors is what a purge is about, in a few words.
func selectors(all []purge.Selector) string {
	const few = 3
	words := make([]string, 0, few)
	for _, s := range all[:min(few, len(all))] {
		words = append(words, strings.Map(visible, s.String()))
	}
	text := strings.Join(words, ", ")
	if more := len(all) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// found is what came of a purge.
func found(r *purge.Receipt) string {
	switch {
	case r.State == purge.Scheduled:
		return " for " + r.Start.Local().Format(time.DateTime+" -07:00")
	case r.State == purge.InForce && !r.Complete:
		return fmt.Sprintf("; %s, %s so far", count(r.Objects, "object"), approximate(r.Bytes))
	}
	return fmt.Sprintf("; %s, %s", count(r.Objects, "object"), approximate(r.Bytes))
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func writePreview(w io.Writer, label string, v *purge.Preview) {
	fmt.Fprintf(w, "%swould purge %s of %s, %s\n", label, count(v.Objects, "object"), count(v.URLs, "URL"), approximate(v.Bytes))
	if v.Requests > 0 {
		fmt.Fprintf(w, "%straffic: %.1f %% of the last %d requests or so, in %v\n", label, 100*v.Share, v.Requests, time.Duration(v.Seconds)*time.Second)
		fmt.Fprintf(w, "%sorigin: at most %s, %d of them soon\n", label, count(v.OriginRequests, "request"), v.Soon)
	} else {
		fmt.Fprintf(w, "%sorigin: at most %s\n", label, count(v.OriginRequests, "request"))
	}
	for _, u := range v.Examples {
		fmt.Fprintf(w, "%s  %s\n", label, strings.Map(visible, u))
	}
	if more := v.URLs - int64(len(v.Examples)); more > 0 {
		fmt.Fprintf(w, "%s  and %d more\n", label, more)
	}
}
