package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/observe"
	"github.com/larderhq/larder/internal/purge"
)

// purges is what the admin API may do.
type purges struct {
	*purge.Ledger
	engine *engine.Engine
	audit  func(purge.Receipt)
}

// Purge implements admin.Purges.
func (p purges) Purge(ctx context.Context, o purge.Order) (purge.Receipt, error) {
	r, err := p.engine.Purge(ctx, o)
	if r.ID != 0 {
		p.audit(r)
	}
	return r, err
}

// Preview implements admin.Purges.
func (p purges) Preview(ctx context.Context, o purge.Order) (purge.Preview, error) {
	return p.engine.Preview(ctx, o)
}

// audit has the log say who has purged what.
func (d *Daemon) audit(r purge.Receipt) {
	if d.opt.Log == nil {
		return
	}
	what := r.Selectors[0].String()
	if more := len(r.Selectors) - 1; more > 0 {
		what += fmt.Sprintf(" and %d more", more)
	}
	d.opt.Log.Observe(&observe.Event{
		Start: r.Created, Client: r.By, Method: "PURGE", Target: what, Status: 200, Why: "purge " + r.ID.String() + " (" + r.Mode.String() + "): " + string(r.State),
	})
}

// startTending has jobs begin and end in time, and what is kept gone through behind them.
// The function returned ends that.
func (d *Daemon) startTending() (stop func()) {
	if d.engine == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tending sync.WaitGroup
	failed := atMost(time.Hour, func(why string) {
		d.opt.Notes.Warn("what was purged is not served, but stays in the store for now: " + why)
	})
	tending.Go(func() {
		d.ledger.Tend(ctx, func(ctx context.Context) error {
			err := d.engine.Walk(ctx)
			if err != nil && ctx.Err() == nil {
				failed(err.Error())
			}
			return err
		})
	})
	return func() {
		cancel()
		tending.Wait()
	}
}

// mostHot is how many URLs are written to Options.Hot.
const mostHot = 100_000

// hotPatience is how long gathering them may take.
const hotPatience = 5 * time.Second

// saveHot writes the URLs of what is kept into the file for that, at one stroke.
func (d *Daemon) saveHot() {
	if d.opt.Hot == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), hotPatience)
	defer cancel()
	if err := writeLines(d.opt.Hot, d.engine.Hot(ctx, mostHot)); err != nil {
		d.opt.Notes.Warn(fmt.Sprintf("--hot %s: %v", d.opt.Hot, err))
	}
}

func writeLines(name string, lines []string) error {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "# What larder serve kept, what was asked for most often lately first: larder warm %s\n", name)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
