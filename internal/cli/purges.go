package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

type purgesCmd struct {
	ID string `arg:"" optional:"" name:"id" help:"Only this one, as in 3-17."`

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
	case p.ID == "" && (chosen > 0 || p.Wait):
		return usagef("which purge? larder purges lists them; write larder purges ID with the flag")
	}
	id, err := purge.ParseID(p.ID)
	if p.ID != "" && err != nil {
		return usagef("%v", err)
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interrupted()
	defer stop()
	if p.ID == "" {
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
	r, err := do(ctx, id)
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
		return refusal(err)
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
