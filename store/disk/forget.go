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
	if err := v.forgetKey(ctx, hash, key, store.ID(s.ids.Load())); err != nil {
		return fmt.Errorf("store/disk: entries may come back after a restart: %w", err)
	}
	return s.told(ctx)
}

// forgetKey forgets what is under key, up to the ID bound, for good.
func (v *volume) forgetKey(ctx context.Context, hash uint64, key store.Key, bound store.ID) error {
	for {
		done, moved, err := v.tryForgetKey(ctx, hash, key, bound)
		switch {
		case errors.Is(err, store.ErrFull):
			if err := v.await(ctx, moved); err != nil {
				return err
			}
		case err != nil:
			return err
		case done:
			return v.waitRemoved(ctx)
		}
	}
}

// tryForgetKey buries all that is under key. It reports false if that changed
// meanwhile. ErrFull: not before moved is closed.
func (v *volume) tryForgetKey(ctx context.Context, hash uint64, key store.Key, bound store.ID) (done bool, moved <-chan struct{}, err error) {
	defer v.enterChange()()
	all, seen, err := v.find(ctx, hash, key)
	if err != nil {
		return false, nil, err
	}
	var kills []kill
	for _, r := range all {
		kills = append(kills, kill{hash, r.id, r.addr})
	}
	if v.recovering() {
		kills = append(kills, kill{hash, bound, everything})
	}
	return v.killSeen(hash, kills, seen)
}

// killSeen buries kills. It reports false if the index does not lead to seen any
// more. ErrFull: not before moved is closed.
func (v *volume) killSeen(hash uint64, kills []kill, seen []uint64) (done bool, moved <-chan struct{}, err error) {
	defer v.lock(hash).Unlock()
	var room [8]index.Ref
	if !sameAddrs(v.index.Find(hash, room[:0]), seen) {
		return false, nil, nil
	}
	if len(kills) == 0 {
		return true, nil, nil
	}
	v.mu.Lock()
	moved = v.log.moved
	v.mu.Unlock()
	if _, err := v.bury(kills); err != nil {
		return false, moved, err
	}
	for _, k := range kills {
		v.index.Remove(hash, k.addr) // there is none at 0 and at everything
	}
	return true, nil, nil
}

// waitRemoved returns when what was buried so far stays so.
func (v *volume) waitRemoved(ctx context.Context) error {
	v.mu.Lock()
	ticket := v.log.tombstone
	v.mu.Unlock()
	return v.wait(ctx, ticket, !v.opts.LazyRemoves)
}
