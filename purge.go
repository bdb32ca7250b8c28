package larder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/store"
)

// A Selector names responses that are kept. One of its fields is set, but for Group, which
// goes with Origin.
//
// URL, Prefix and Glob begin with http://host/path, with //host/path for http and https,
// or with /path for all hosts; they are what clients ask for.
type Selector struct {
	// URL is exactly this one, query included, with all its variants.
	URL string

	// Prefix is all whose URL begins with these octets. A host alone is that host.
	Prefix string

	// Glob is all whose URL fits: * stands for anything but a slash, /**/ for any
	// folders, [a-z] and {png,jpg} for one of several. What follows a ? is about the query,
	// where * stands for anything; without one the query does not matter. It has at most
	// 1024 octets.
	Glob string

	// Regex is all in whose URL, http://host/path?query, the expression (RE2) is found. It
	// has at most 1024 octets.
	Regex string

	// Tag is all that was labelled so, to the letter, by Surrogate-Key, Cache-Tag or xkey.
	// Clients do not get to see those fields.
	Tag string

	// Group is all that is in this group (Cache-Groups, RFC 9875) of Origin, which is
	// written http://host.
	Group, Origin string

	// All is everything.
	All bool
}

// PurgeWhere forgets what any of the selectors names, in all handlers and transports: from
// when it returns, requests get none of it, and fetches under way do not bring it back. It
// takes no longer for much than for little; the room is freed in the background. Where
// there is a Store, PurgeWhere goes through all that it keeps before it returns: that is
// what others who share it learn of it by.
//
// The error says what is wrong with a selector, and then nothing was purged; or that a
// Store could not be gone through, as those of store/blobs cannot for anything but URLs:
// then it is purged in this process alone, and comes back with the next.
func (c *Cache) PurgeWhere(ctx context.Context, selectors ...Selector) error {
	return c.purge(ctx, purge.Refetch, selectors)
}

// TouchWhere has what any of the selectors names refreshed gracefully: the next request
// for each gets it as it is, where stale is allowed, and causes one refresh; nobody waits.
// Otherwise it is as PurgeWhere.
func (c *Cache) TouchWhere(ctx context.Context, selectors ...Selector) error {
	return c.purge(ctx, purge.Refresh, selectors)
}

func (c *Cache) purge(ctx context.Context, mode purge.Mode, selectors []Selector) error {
	o := purge.Order{Mode: mode, Selectors: make([]purge.Selector, len(selectors))}
	for i, s := range selectors {
		o.Selectors[i] = purge.Selector(s)
	}
	c.mu.Lock()
	ledger := c.records()
	c.mu.Unlock()
	faces := c.sides()
	if len(faces) == 0 && c.Store != nil {
		return errors.New("larder: what the Store has is not known before the first handler or transport was made")
	}
	c.tending.Do(c.tend)
	r, err := ledger.Publish(o)
	if err != nil {
		return fmt.Errorf("larder: %w", err)
	}
	all := true
	for _, f := range faces {
		all = f.Settle(ctx, r.Order) && all
	}
	if !all && c.Store != nil {
		if err := walk(ctx, faces); err != nil {
			return fmt.Errorf("larder: purged here, but not for others that share the Store, nor for the next start: %w", err)
		}
		all = true
	}
	if all && len(c.sides()) == len(faces) { // or a new one may have found something
		ledger.Visited(r.ID)
	}
	return nil
}

// records is what knows of the purges. The caller holds mu.
func (c *Cache) records() *purge.Ledger {
	if c.ledger == nil {
		c.ledger = purge.New(purge.Options{Shared: c.Store != nil})
	}
	return c.ledger
}

// tend goes through what is kept, behind the purges, until Close.
func (c *Cache) tend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stopTending = cancel
	ledger := c.ledger
	c.background.Go(func() { ledger.Tend(ctx, cleaner{c}) })
}

// A cleaner is the Cache as a purge.Keeper.
type cleaner struct{ c *Cache }

// Walk implements purge.Keeper.
func (k cleaner) Walk(ctx context.Context) error {
	err := walk(ctx, k.c.sides())
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
		slog.Warn("larder: what was purged is not served, but stays in the store for now", "error", err)
	}
	return err
}

// Sync implements purge.Keeper.
func (k cleaner) Sync(ctx context.Context) error {
	for _, f := range k.c.sides() {
		if err := f.Sync(ctx); err != nil {
			return err
		}
	}
	return nil
}

// walk has all faces go through what they keep.
func walk(ctx context.Context, faces []*face) error {
	for _, f := range faces {
		if err := f.Walk(ctx); err != nil {
			return err
		}
	}
	return nil
}
