package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

// adminFlag says which Larder is asked.
type adminFlag struct {
	Admin string `placeholder:"ADDR" help:"The admin API of the Larder: the path of its socket, or host:port with\nthe token in the environment as LARDER_ADMIN_TOKEN. By default that of\nlarder serve on port 8000 on this machine, by this user."`
	JSON  bool   `help:"Print answers as JSON, one a line."`
}

// client is who asks it.
func (a *adminFlag) client() (*admin.Client, error) {
	where := a.Admin
	if where == "" {
		var err error
		if where, err = admin.Place("8000", false); err != nil {
			return nil, usagef("%v", err)
		}
	}
	return admin.NewClient(where, os.Getenv("LARDER_ADMIN_TOKEN")), nil
}

// interrupted is a context that ends at Ctrl-C.
func interrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

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
			if v == "" && err == nil {
				err = usagef("an empty name is the name of nothing: --all purges everything")
			}
		}
	}
	add(p.URL, func(s *purge.Selector, v string) { s.URL = v })
	add(p.Tag, func(s *purge.Selector, v string) { s.Tag = v })
	add(p.Prefix, func(s *purge.Selector, v string) { s.Prefix = v })
	add(p.Glob, func(s *purge.Selector, v string) { s.Glob = v })
	add(p.Regex, func(s *purge.Selector, v string) { s.Regex = v })
	add(p.Group, func(s *purge.Selector, v string) { s.Group, s.Origin = v, p.Origin })
	if p.All {
		o.Selectors = append(o.Selectors, purge.Selector{All: true})
	}
	switch {
	case err != nil:
		return o, err
	case len(o.Selectors) == 0:
		return o, usagef("purge what? Name URLs, as in larder purge http://example.org/news, or --tag, --prefix, --glob, --regex, --group or --all")
	case p.Origin != "" && len(p.Group) == 0:
		return o, usagef("--origin is for --group; leave it out, or name a group")
	}
	if p.Soft {
		o.Mode = purge.Refresh
	}
	o.Start = p.Start.Time
	if p.For != nil {
		o.End = o.Start
		if o.End.IsZero() {
			o.End = time.Now()
		}
		o.End = o.End.Add(time.Duration(*p.For))
	}
	return o, nil
}

// Run purges, at those behind first.
func (p *purgeCmd) Run(std *streams) error {
	o, err := p.order()
	if err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	for i, where := range p.Via {
		via := adminFlag{Admin: where, JSON: p.JSON}
		if err := p.at(ctx, std, &via, o, where+": "); err != nil {
			if i > 0 || len(p.Via) > 1 {
				err = fmt.Errorf("%s: %w (it was not asked for behind that; purging again does no harm)", where, err)
			}
			return err
		}
	}
	return p.at(ctx, std, &p.adminFlag, o, "")
}

// at purges at one Larder.
func (p *purgeCmd) at(ctx context.Context, std *streams, a *adminFlag, o purge.Order, label string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if p.DryRun {
		v, err := c.Preview(ctx, o)
		if err != nil {
			return refusal(err)
		}
		return a.print(std.out, v, func() { writePreview(std.out, label, &v) })
	}
	r, err := c.Purge(ctx, o)
	if err != nil {
		return refusal(err)
	}
	if p.Wait {
		if r, err = await(ctx, c, r); err != nil {
			return refusal(err)
		}
	}
	return a.print(std.out, r, func() { writeReceipt(std.out, label, &r) })
}

// await returns when there is no more to come of a purge.
func await(ctx context.Context, c *admin.Client, r purge.Receipt) (purge.Receipt, error) {
	const turn = 30 // seconds
	var err error
	for err == nil && (r.State == purge.Scheduled || r.State == purge.InForce) {
		r, err = c.Receipt(ctx, r.ID, turn)
	}
	return r, err
}

// refusal is a mistake of whoever typed the command, if that is why the other refused.
func refusal(err error) error {
	var r *admin.Refusal
	if errors.As(err, &r) && (r.Status == 400 || r.Status == 404 || r.Status == 409) {
		return usageError{err}
	}
	return err
}

func (a *adminFlag) print(w io.Writer, v any, text func()) error {
	if !a.JSON {
		text()
		return nil
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func writeReceipt(w io.Writer, label string, r *purge.Receipt) {
	fmt.Fprintf(w, "%s%s  %s of %s: %s%s\n", label, r.ID, r.Mode, selectors(r.Selectors), r.State, found(r))
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
		return " for " + r.Start.Local().Format(time.DateTime)
	case r.Complete:
		return fmt.Sprintf("; %s, %v", count(r.Objects, "object"), size(r.Bytes))
	}
	return fmt.Sprintf("; %s, %v so far", count(r.Objects, "object"), size(r.Bytes))
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func writePreview(w io.Writer, label string, v *purge.Preview) {
	fmt.Fprintf(w, "%swould purge %s of %s, %v\n", label, count(v.Objects, "object"), count(v.URLs, "URL"), size(v.Bytes))
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

type purgesCmd struct {
	ID *purge.ID `arg:"" optional:"" name:"id" help:"Only this one, as in 3-17."`

	Cancel bool `help:"End it. What it has reached stays as it is."`
	Undo   bool `help:"Take a soft purge back: what it made stale is as fresh as it was,\nunless it was refreshed meanwhile."`
	Repeat bool `help:"Purge the same once more, from now on."`
	Wait   bool `help:"Return when there is no more to come of it."`
	adminFlag
}

func (*purgesCmd) examples() [][2]string {
	return [][2]string{
		{"larder purges", "all that are scheduled, in force, or were lately"},
		{"larder purges 3-17", "what it has come to"},
		{"larder purges 3-17 --undo", "the soft purge was a mistake"},
	}
}

func (*purgesCmd) more() string { return "" }

// Run lists purges, or does something to one.
func (p *purgesCmd) Run(std *streams) error {
	chosen := 0
	for _, is := range []bool{p.Cancel, p.Undo, p.Repeat} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen > 1:
		return usagef("--cancel, --undo and --repeat: one of them at a time")
	case p.ID == nil && (chosen > 0 || p.Wait):
		return usagef("which purge? larder purges lists them; write larder purges ID with the flag")
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interrupted()
	defer stop()
	if p.ID == nil {
		return p.list(ctx, std.out, c)
	}
	do := func(ctx context.Context, id purge.ID) (purge.Receipt, error) { return c.Receipt(ctx, id, 0) }
	switch {
	case p.Cancel:
		do = c.Cancel
	case p.Undo:
		do = c.Undo
	case p.Repeat:
		do = c.Repeat
	}
	r, err := do(ctx, *p.ID)
	if err == nil && p.Wait {
		r, err = await(ctx, c, r)
	}
	if err != nil {
		return refusal(err)
	}
	return p.print(std.out, r, func() { writeReceipt(std.out, "", &r) })
}

func (p *purgesCmd) list(ctx context.Context, w io.Writer, c *admin.Client) error {
	all, err := c.Receipts(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if err := p.print(w, all[i], func() {
			fmt.Fprintf(w, "%s  ", all[i].Created.Local().Format(time.DateTime))
			writeReceipt(w, "", &all[i])
		}); err != nil {
			return err
		}
	}
	if len(all) == 0 && !p.JSON {
		fmt.Fprintln(w, "nothing was purged yet")
	}
	return nil
}
