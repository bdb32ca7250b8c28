package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/larderhq/larder/store"
)

// maxSets is how many sets of disks are remembered. Entries from before these do
// not count any more.
const maxSets = 8

// A set is the disks that made up the store at a time. Keys are spread over them
// by their hashes; an entry counts only if its disk was the one for its key in
// all sets since it was committed: otherwise it may have been replaced or removed
// on another disk meanwhile.
type set struct {
	// From is the least ID that can have been given while it was.
	From uint64 `json:"from"`

	Disks []member `json:"disks"`
}

// A member is one disk of a set.
type member struct {
	Identity string `json:"identity"`
	Secret   string `json:"secret"` // it keys the hash that spreads
	Octets   int64  `json:"octets"` // its weight
}

func (s set) sane() bool {
	for _, m := range s.Disks {
		if !isKey(m.Identity) || !isKey(m.Secret) || m.Octets <= 0 {
			return false
		}
	}
	return len(s.Disks) > 0
}

// rank says how much a disk of so many octets wants a key of this hash: the disk
// with the least rank has it. A disk gets a share of keys like its share of
// octets, and what one disk loses goes to all others.
func rank(hash uint64, octets int64) float64 {
	u := (float64(hash>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / float64(octets)
}

// home returns the disk of the set that has key.
func (s set) home(key store.Key) string {
	var best string
	var least float64
	for _, m := range s.Disks {
		k := superblock{Secret: m.Secret}
		hash := k.key()
		if r := rank(hash.sum(key), m.Octets); best == "" || r < least {
			best, least = m.Identity, r
		}
	}
	return best
}

// sets are the sets of a store, oldest first, and who they are kept by.
type sets struct {
	all   []set
	known chan struct{} // closed when all disks that work have been told
	past  chan struct{} // closed when there are others
}

func newSets(all []set) *sets {
	return &sets{all, make(chan struct{}), make(chan struct{})}
}

// are says whether the last set is now.
func (s *sets) are(now []member) bool { return slices.Equal(s.all[len(s.all)-1].Disks, now) }

// counts says whether the entry of id on v is to be believed.
func (s *Store) counts(v *volume, key store.Key, id store.ID) bool {
	all := s.sets.Load().all
	if len(all) == 1 {
		return true
	}
	if uint64(id) < all[0].From {
		return false
	}
	for i, set := range all {
		over := i+1 < len(all) && all[i+1].From <= uint64(id)
		if !over && set.home(key) != v.super.Identity {
			return false
		}
	}
	return true
}

// members returns the disks that work.
func (s *Store) members() (all []member, volumes []*volume) {
	for _, d := range s.disks {
		if v := d.volume.Load(); !v.isOut() {
			all = append(all, member{v.super.Identity, v.super.Secret, d.Size})
			volumes = append(volumes, v)
		}
	}
	return all, volumes
}

// extend returns all with one more set, of those who have all keys from now on.
func extend(all []set, from uint64, now []member) []set {
	if n := len(all); n == 0 {
		from = 0
	} else if slices.Equal(all[n-1].Disks, now) {
		return all
	}
	all = append(slices.Clone(all), set{from, now})
	return all[max(0, len(all)-maxSets):]
}

// regroup spreads the keys over the disks that work now, and tells these.
func (s *Store) regroup() {
	s.grouping.Lock()
	defer s.grouping.Unlock()
	now, volumes := s.members()
	old := s.sets.Load()
	if len(now) == 0 || old.are(now) {
		return // nobody to tell, or nothing
	}
	next := newSets(extend(old.all, uint64(s.NextID()), now))
	s.sets.Store(next)
	close(old.past)
	for _, v := range volumes {
		err := v.unlessOut(func() error { return v.describe(func(s *superblock) { s.Sets = next.all }) })
		if err != nil {
			v.fail(fmt.Errorf("writing what it is: %w", err))
			return // whoever tends it regroups again
		}
	}
	close(next.known)
}

// told waits until a restart would know which disks work now: before that, what
// was on a disk that is out might come back.
func (s *Store) told(ctx context.Context) error {
	if len(s.disks) == 1 {
		return nil
	}
	var late <-chan time.Time
	for {
		last := s.sets.Load()
		now, _ := s.members()
		if len(now) == 0 {
			return errAlone
		}
		wait := last.past
		if last.are(now) {
			select {
			case <-last.known:
				return nil
			default:
				wait = last.known
			}
		}
		if late == nil {
			t := time.NewTimer(s.opts.Patience)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-wait:
		case <-last.past:
		case <-late:
			return errOut
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Waits before a disk that went out is tried again.
const (
	firstRetry = 10 * time.Second
	lastRetry  = 10 * time.Minute
)

// tend waits for a disk to go out, and tries to use it again, empty: what was on
// it may have been replaced or removed meanwhile.
func (s *Store) tend(d *slot) {
	for {
		select {
		case <-s.life.Done():
			return
		case <-d.volume.Load().out:
		}
		s.regroup()
		if !s.revive(d) {
			return
		}
		s.regroup()
	}
}

// revive tries to begin the disk anew until it works; false: the store was closed.
func (s *Store) revive(d *slot) bool {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		t := time.NewTimer(wait)
		select {
		case <-s.life.Done():
			t.Stop()
			return false
		case <-t.C:
		}
		if s.restart(d) {
			return true
		}
	}
}

// restart puts a new volume, with a new identity, into the place of one that is
// out.
func (s *Store) restart(d *slot) bool {
	old := d.volume.Load()
	old.die()
	select {
	case <-old.disowned:
	default:
		return false // who tells it to begin anew would do so when it has
	}
	if err := d.look(); err != nil && !errors.Is(err, errNotSuper) {
		return false
	}
	v := newVolume(s, d.Disk, newSuper(&s.opts, d.Size, s.ids.Add(1)))
	if err := v.open(old.super.Epoch); err != nil {
		v.abandon()
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		v.abandon()
		return false
	}
	v.start()
	d.volume.Store(v)
	old.release()
	v.note("in use again, and empty")
	return true
}

// behind says whether a disk with the superblock a has missed what one with b
// knows.
func behind(a, b *superblock) bool {
	if a.Epoch != b.Epoch {
		return a.Epoch < b.Epoch
	}
	return a.lastSet() < b.lastSet()
}

func (s *superblock) lastSet() uint64 {
	if len(s.Sets) == 0 {
		return 0
	}
	return s.Sets[len(s.Sets)-1].From
}

// alone is what Remove says when all disks are out: nothing comes back from those
// that begin anew.
func (s *Store) alone() error {
	for _, d := range s.disks {
		if v := d.volume.Load(); !v.isOut() || !v.void.Load() {
			return errAlone
		}
	}
	return nil
}

// errAlone is why Remove cannot promise anything when all disks are out.
var errAlone = errors.New("store/disk: the entry may come back after a restart: no disk works")
