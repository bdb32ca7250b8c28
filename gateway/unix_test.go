//go:build unix

package gateway_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/larderhq/larder/gateway"
)

func TestFG03_OnlyRegularFiles(t *testing.T) {
	dir := tree(t, nil)
	check(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	check(t, syscall.Mkfifo(filepath.Join(dir, "index.html"), 0o644))
	h := serve(t, dir, gateway.Options{Listing: true})
	if rec := get(h, "GET", "/fifo"); rec.Code != 404 { // and it does not block
		t.Errorf("%d", rec.Code)
	}
	if rec := get(h, "GET", "/"); rec.Code != 200 || strings.Contains(rec.Body.String(), "fifo") {
		t.Errorf("%d: the listing has what is not served\n%s", rec.Code, rec.Body)
	}
}
