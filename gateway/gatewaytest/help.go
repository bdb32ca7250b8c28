package gatewaytest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

// Read opens an object and reads n octets of it from off on, or all from there if n is
// negative.
func Read(ctx context.Context, s gateway.Source, name string, off, n int64) ([]byte, error) {
	o, err := s.Open(ctx, name, gateway.Want{Off: off, N: n})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if n < 0 {
		n = o.Info().Size - off
	}
	return part(ctx, o, off, n)
}

// Closing closes a Source when the test is over.
func Closing[S gateway.Source](t *testing.T, s S) S {
	t.Cleanup(func() { _ = s.Close() }) // what it says then is no concern of the test
	return s
}

// WriteFile changes a file in place, as the worst of writers do, or makes it. A zero time
// is now.
func WriteFile(t *testing.T, path string, octets []byte, at time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, octets, 0o644); err != nil {
		t.Fatal(err)
	}
	if !at.IsZero() {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}
