package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	return p.noted(p.engine.Purge(ctx, o))
}

// Cancel implements admin.Purges.
func (p purges) Cancel(id purge.ID) (purge.Receipt, error) { return p.noted(p.Ledger.Cancel(id)) }

// Undo implements admin.Purges.
func (p purges) Undo(id purge.ID) (purge.Receipt, error) { return p.noted(p.Ledger.Undo(id)) }

// noted has the log say what has become of a purge, also if that could not be written down.
func (p purges) noted(r purge.Receipt, err error) (purge.Receipt, error) {
	if r.ID != 0 {
		p.audit(r)
	}
	return r, err
}

// Preview implements admin.Purges.
func (p purges) Preview(ctx context.Context, o purge.Order) (purge.Preview, error) {
	return p.engine.Preview(ctx, o)
}

// audit has the log say who has purged what, or has taken it back.
func (d *Daemon) audit(r purge.Receipt) {
	if d.opt.Log == nil {
		return
	}
	what := strings.Replace(r.Selectors[0].String(), " ", "=", 1)
	if more := len(r.Selectors) - 1; more > 0 {
		what += fmt.Sprintf("+%d", more)
	}
	d.opt.Log.Observe(&observe.Event{
		Start: time.Now(), Client: r.By, Method: "PURGE", Target: what, Status: 200, Why: "purge " + r.ID.String() + " (" + r.Mode.String() + "): " + string(r.State),
	})
}

// complaining is an Engine that tells of walks that fail.
type complaining struct {
	*engine.Engine
	failed func(string)
}

// Walk implements purge.Keeper.
func (c complaining) Walk(ctx context.Context) error {
	err := c.Engine.Walk(ctx)
	if err != nil && ctx.Err() == nil {
		c.failed(err.Error())
	}
	return err
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
	tending.Go(func() { d.ledger.Tend(ctx, complaining{d.engine, failed}) })
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
	// Under a name that nobody knows: in a folder of all, a link could wait under another.
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "# What larder serve kept, what was asked for most often lately first: larder warm %s\n", name)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	if err = errors.Join(w.Flush(), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // half a list is none
	}
	return err
}
