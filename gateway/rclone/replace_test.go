package rclone

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// TestRemoteThatCannotRenameOverAnObject loses neither the old object nor the new.
func TestRemoteThatCannotRenameOverAnObject(t *testing.T) {
	root := t.TempDir()
	s, err := Open(t.Context(), ":local:"+root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	has := s.f.Features()
	rename := has.Move
	has.Move = func(ctx context.Context, o fs.Object, remote string) (fs.Object, error) {
		octets, err := os.ReadFile(filepath.Join(root, o.Remote()))
		if _, there := os.Stat(filepath.Join(root, remote)); err != nil || there == nil || string(octets) == "stuck" {
			return nil, errors.New("it cannot be renamed")
		}
		return rename(ctx, o, remote)
	}
	put := func(text string) error {
		_, err := s.Put(t.Context(), "a", strings.NewReader(text), int64(len(text)), nil, gateway.If{})
		return err
	}
	is := func(want string) {
		t.Helper()
		entries, err := os.ReadDir(root)
		got, err2 := os.ReadFile(filepath.Join(root, "a"))
		if string(got) != want || len(entries) != 1 || errors.Join(err, err2) != nil {
			t.Errorf("%q in %v: %v %v", got, entries, err, err2)
		}
	}
	for _, text := range []string{"first", "second"} {
		if err := put(text); err != nil {
			t.Fatal(err)
		}
		is(text)
	}
	if err := put("stuck"); err == nil {
		t.Error("what cannot be renamed went through")
	}
	is("second")
}

// TestCallThatHeedsNoContextCounts until it returns, and holds nobody up.
func TestCallThatHeedsNoContextCounts(t *testing.T) {
	s, err := Open(t.Context(), ":local:"+t.TempDir(), Options{Calls: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	free := make(chan bool)
	err = s.call(ctx, func(context.Context) error {
		cancel()
		<-free
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(s.calls) != 1 {
		t.Errorf("%v, %d calls", err, len(s.calls))
	}
	close(free)
	if err := s.Close(); err != nil || len(s.calls) != 0 {
		t.Errorf("%v, %d calls", err, len(s.calls))
	}
}

func TestErrorsHaveNoSecrets(t *testing.T) {
	err := wrap("rclone x:", "a", errors.New(`Get "https://user:hushhush@host/b?sig=hushhush": EOF`))
	if got := err.Error(); got != `rclone x:: "a": Get "https://host/b": EOF` {
		t.Error(got)
	}
	if got := kind(":sftp,host=x,pass=hushhush:path"); got != ":sftp:" {
		t.Error(got)
	}
	for _, remote := range []string{":local,nounc=hushhush:/tmp", ":local,override.transfers=hushhush:/tmp", `:local,nounc="hush""hush":/tmp`} {
		_, err := Open(t.Context(), remote, Options{})
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "couldn't parse") {
			t.Errorf("%s: %v", remote, err)
		}
	}
	inner := withoutOptions(":local,encoding=':local,nounc=hushhush:x':", errors.New("it is hushhush"))
	if got := inner.Error(); got != "it is …" {
		t.Error(got)
	}
}
