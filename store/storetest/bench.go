package storetest

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/larderhq/larder/store"
)

// Bench measures what an accelerator does most, on stores that open returns:
// empty, within the bounds of Run.
func Bench(b *testing.B, open func(b *testing.B) store.Store) {
	ctx := context.Background()
	const keys = 512
	filled := func(b *testing.B, size int) (store.Store, []store.Key) {
		s := open(b)
		names := make([]store.Key, keys)
		body := make([]byte, size)
		for i := range names {
			names[i] = fmt.Appendf(nil, "site\x00https://www.example.com/a/path/of/usual/length/%d", i)
			if _, err := commit(ctx, s, string(names[i]), make([]byte, 300), body, int64(size)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		b.ResetTimer()
		return s, names
	}
	b.Run("Lookup", func(b *testing.B) {
		s, names := filled(b, 100)
		for i := 0; b.Loop(); i++ {
			var room [2]store.Entry
			if es, err := s.Lookup(ctx, names[i%keys], room[:0]); err != nil || len(es) != 1 {
				b.Fatal(len(es), err)
			}
		}
	})
	b.Run("Miss", func(b *testing.B) {
		s, _ := filled(b, 100)
		key := store.Key("site\x00https://www.example.com/a/path/that/nobody/stored")
		for b.Loop() {
			if es, err := s.Lookup(ctx, key, nil); err != nil || len(es) != 0 {
				b.Fatal(len(es), err)
			}
		}
	})
	b.Run("Touch", func(b *testing.B) {
		s, names := filled(b, 100)
		id := idOf(b, s, names[keys/2])
		for b.Loop() {
			if err := take(ctx, s, names[keys/2], id, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, size := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("Hit/%dKiB", size>>10), func(b *testing.B) {
			s, names := filled(b, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if err := hit(ctx, s, names[i%keys]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Hit/Parallel", func(b *testing.B) {
		s, names := filled(b, 1<<10)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if err := hit(ctx, s, names[i%keys]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, known := range []bool{true, false} {
			b.Run(fmt.Sprintf("Commit/%dKiB/known=%t", size>>10, known), func(b *testing.B) {
				s, names := filled(b, 0)
				head, body := make([]byte, 300), make([]byte, size)
				declared := int64(size)
				if !known {
					declared = -1
				}
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					old := idOf(b, s, names[i%keys])
					if _, err := commit(ctx, s, string(names[i%keys]), head, body, declared, old); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func idOf(b *testing.B, s store.Store, key store.Key) store.ID {
	es, err := s.Lookup(context.Background(), key, nil)
	if err != nil {
		b.Fatal(err)
	}
	if len(es) == 0 {
		return 0 // let go for want of room
	}
	return es[0].ID
}

// hit looks key up and reads the body of its first entry.
func hit(ctx context.Context, s store.Store, key store.Key) error {
	var room [2]store.Entry
	es, err := s.Lookup(ctx, key, room[:0])
	if err != nil {
		return err
	}
	if len(es) == 0 {
		return store.ErrGone
	}
	return take(ctx, s, key, es[0].ID, -1)
}

// take reads n octets of id.
func take(ctx context.Context, s store.Store, key store.Key, id store.ID, n int64) error {
	r, err := s.Open(ctx, key, id, 0, n)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return r.Close()
}
