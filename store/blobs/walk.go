package blobs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/larderhq/larder/store"
)

// A Lister is a Cache that can say what it has, which Store.Walk needs.
type Lister interface {
	Cache

	// Names calls visit with each name that has a value during the whole call, at
	// least once; with others too, if it likes. visit may call the Cache, and ends
	// it by returning false. An error says that there may be more names.
	Names(visit func(name string) bool) error
}

// errNames is why Walk cannot do without a Lister.
var errNames = fmt.Errorf("store/blobs: the backend cannot say what it has, as a Lister could: %w", errors.ErrUnsupported)

var _ store.Walker = (*Store)(nil)

// Walk implements store.Walker, over a Cache that is a Lister: it costs one Get for
// each key, and reads no bodies. Otherwise it fails with errors.ErrUnsupported. Close
// does not wait for it: the backend is in use until Walk returns.
func (s *Store) Walk(ctx context.Context, visit func(key store.Key, e store.Entry, head []byte) bool) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	lister, ok := s.cache.(Lister)
	if !ok {
		return errNames
	}
	var failed error
	err := lister.Names(func(name string) bool {
		var more bool
		more, failed = s.show(ctx, name, visit)
		return more
	})
	if failed == nil && err != nil {
		failed = fmt.Errorf("store/blobs: the names of the backend: %w", err)
	}
	return failed
}

// alive says why a walk cannot go on.
func (s *Store) alive(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// show shows the entries of the index of that name, if it is one of this store. It
// reports false if that was enough.
func (s *Store) show(ctx context.Context, name string, visit func(store.Key, store.Entry, []byte) bool) (more bool, err error) {
	if rest, ok := strings.CutPrefix(name, s.prefix); !ok || len(rest) != indexName {
		return true, s.alive(ctx)
	}
	key, list, err := s.indexOf(ctx, name)
	if err != nil {
		return false, err
	}
	for i := range list {
		if err := s.alive(ctx); err != nil {
			return false, err
		}
		if r := &list[i]; !visit(key, r.entry(), r.head) {
			return false, nil
		}
	}
	return true, nil
}

// indexOf reads the index of that name, and returns whose it is. It may be nobody's.
// It does not go on while visit runs, which may close the store.
func (s *Store) indexOf(ctx context.Context, name string) (store.Key, []record, error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer s.leave()
	value, ok := s.cache.Get(name)
	if !ok {
		return nil, nil, nil
	}
	key, ok := keyIn(value, s.prefix)
	if !ok {
		return nil, nil, nil
	}
	p := s.place(key)
	if p.index != name { // of a backend that confuses names
		return nil, nil, nil
	}
	list, _ := unsealIndex(value, p.label)
	return key, list, nil
}
