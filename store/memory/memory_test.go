package memory

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/storetest"
)

// ctx is for calls that have no use for one.
var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suite holds stores of the size that storetest asks for to the contract.
func suite(t *testing.T, opts Options, change func(s *Store)) {
	opts.Budget, opts.MaxObject = 4*storetest.Room, 8<<20
	open := func(t *testing.T) *Store {
		s := New(opts)
		change(s)
		t.Cleanup(func() { s.Close() })
		return s
	}
	storetest.Run(t, func(t *testing.T) store.Store { return open(t) })
	t.Run("Prompt", func(t *testing.T) {
		storetest.Prompt(t, func(t *testing.T) storetest.PromptStore { return open(t) })
	})
}

func TestStore(t *testing.T) { suite(t, Options{}, func(*Store) {}) }

func TestHeap(t *testing.T) { suite(t, Options{Heap: true}, func(*Store) {}) }

// An equal hash is not an equal key.
func TestCollisions(t *testing.T) { suite(t, Options{}, func(s *Store) { s.mask = 0 }) }

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Store {
		s := New(Options{Budget: 4 * storetest.Room, MaxObject: 8 << 20})
		b.Cleanup(func() { s.Close() })
		return s
	})
}
