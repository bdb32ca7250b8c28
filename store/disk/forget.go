package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk/internal/index"
)

// everything is the address of a kill that is about all entries of its hash up
// to its ID, wherever their records lie.
const everything = 1<<48 - 1

// Forget implements store.Store. It fails as Remove does. In the rare case that
// another key has the same hash, while the disk is being recovered, that may be
// forgotten too.
func (s *Store) Forget(ctx context.Context, key store.Key) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	v, hash := s.home(key)
	if v == nil {
		return s.alone()
	}
	if err := v.forget(ctx, key, kill{hash, store.ID(s.ids.Load()), everything}); err != nil {
		return fmt.Errorf("store/disk: entries may come back after a restart: %w", err)
	}
	return s.told(ctx)
}

// forget takes what k covers of that which is under key out of the volume, for
// good. k names no record's address.
func (v *volume) forget(ctx context.Context, key store.Key, k kill) error {
	err := v.insist(ctx, func() error {
		defer v.enterChange()()
		for {
			all, seen, err := v.find(ctx, k.hash, key)
			if err != nil {
				return err
			}
			if done, err := v.forgetSeen(k, all, seen); done || err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	return v.waitRemoved(ctx, k.hash)
}

// forgetSeen kills what k covers of all. It reports false if the index does not
// lead to seen any more.
func (v *volume) forgetSeen(k kill, all []record, seen []uint64) (bool, error) {
	var kills []kill
	for _, r := range all {
		if k.covers(r.id, r.addr) {
			kills = append(kills, kill{k.hash, r.id, r.addr})
		}
	}
	if v.recovering() {
		kills = append(kills, k) // there may be more than were found
	}
	defer v.lock(k.hash).Unlock()
	var room [8]index.Ref
	if !sameAddrs(v.index.Find(k.hash, room[:0]), seen) {
		return false, nil
	}
	if len(kills) == 0 {
		return true, nil
	}
	return true, v.kill(kills)
}

// kill buries kills and takes them out of the index. The caller holds the stripe
// of all they name.
func (v *volume) kill(kills []kill) error {
	if _, err := v.bury(kills); err != nil {
		return err
	}
	for _, k := range kills {
		v.index.Remove(k.hash, k.addr) // there is none at 0 and at everything
	}
	return nil
}

// insist calls try until it does not say ErrFull, for as long as the disk comes
// on. What must go has more patience than what may be stored: see patiently.
func (v *volume) insist(ctx context.Context, try func() error) error {
	for {
		v.mu.Lock()
		moved := v.log.moved
		v.mu.Unlock()
		if err := try(); !errors.Is(err, store.ErrFull) {
			return err
		}
		if err := v.await(ctx, moved); err != nil {
			return err
		}
	}
}

// await waits for the disk to come on, since moved was taken from the log.
func (v *volume) await(ctx context.Context, moved <-chan struct{}) error {
	stop, late := v.expiry()
	defer stop()
	select {
	case <-moved:
		return nil
	case <-late:
		return store.ErrFull
	case <-ctx.Done():
		return ctx.Err()
	case <-v.out:
		return errOut
	}
}

// waitRemoved returns when what was killed so far of this hash stays so: also what
// somebody else killed a moment ago and this one has not found any more.
func (v *volume) waitRemoved(ctx context.Context, hash uint64) error {
	return v.wait(ctx, v.lastKill(hash), !v.opts.LazyRemoves)
}

// lastKill returns the ticket of the last record that killed something of this
// hash, or of one in its stripe.
func (v *volume) lastKill(hash uint64) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.killed[hash%stripes]
}
