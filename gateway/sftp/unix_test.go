//go:build unix

package sftp

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestOnlyFilesAndFoldersAreOpened(t *testing.T) {
	s := serve(t)
	if err := syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	src := gatewaytest.Closing(t, s.source(t))
	if _, err := src.Open(t.Context(), "pipe", gateway.Want{N: -1}); !errors.Is(err, fs.ErrNotExist) || s.count(opOpen) > 0 {
		t.Errorf("%v, opened %d times", err, s.count(opOpen))
	}
	if got, err := src.List(t.Context(), "", 9); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
}
