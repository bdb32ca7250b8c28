//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/vfs"
)

// orders is how many purges are published where the time of each is measured.
const orders = 1000

// publishBar is how long a purge by tag may take in memory, in microseconds.
const publishBar = 1000

// measurePublish measures purges by tag at the Ledger. It does not know how much is kept.
func measurePublish(_ context.Context, _ *options, r *report) error {
	took, err := publishAll(purge.New(purge.Options{}), tags("t", orders))
	if err != nil {
		return err
	}
	r.most("one purge by tag, in this process, median", "us", took.typical(), publishBar)
	r.most("  the slowest of 1,000", "us", took.greatest(), publishBar)

	l := purge.New(purge.Options{})
	const others = 50_000
	for i := range others / purge.MaxSelectors {
		if _, err := l.Publish(purge.Order{Selectors: tags(fmt.Sprint("o", i, "-"), purge.MaxSelectors)}); err != nil {
			return err
		}
	}
	if took, err = publishAll(l, tags("t", orders)); err != nil {
		return err
	}
	r.most("  with 50,000 tags in force, in 50 purges, median", "us", took.typical(), publishBar)

	l = purge.New(purge.Options{})
	if took, err = publishAll(l, tags("o", others)); err != nil {
		return err
	}
	r.most("  with 50,000 purges in force, median", "us", took[len(took)-orders:].typical(), publishBar)
	return journalled(r)
}

// journalled measures the same with a journal, which is on a disk.
func journalled(r *report) error {
	dir, err := os.MkdirTemp("", "larder-purge-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fs, err := vfs.Dir(dir)
	if err != nil {
		return err
	}
	j, err := purge.OpenJournal([]purge.Folder{{FS: fs, Name: dir}}, func(note string) { fmt.Fprintln(os.Stderr, note) })
	if err != nil {
		return err
	}
	l := purge.New(purge.Options{Journal: j})
	defer l.Close()
	took, err := publishAll(l, tags("t", orders/5))
	if err != nil {
		return err
	}
	r.note("  with a journal on disk, median of 200", "us", took.typical())
	r.note("  the slowest of them", "us", took.greatest())
	return nil
}

func publishAll(l *purge.Ledger, selectors []purge.Selector) (took figure, err error) {
	for _, s := range selectors {
		began := time.Now()
		if _, err := l.Publish(purge.Order{Selectors: []purge.Selector{s}}); err != nil {
			return nil, err
		}
		took = append(took, micro(time.Since(began)))
	}
	return took, nil
}
