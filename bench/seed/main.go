//go:build linux

// Seed plays the story that the gateway was made for, message by message, and fails if
// it ends otherwise than it should.
//
//	go run ./bench/seed
//
// A storage system without HTTP stood behind a proxy service, and that behind Squid. The
// service answered 304 with Content-Length: 0, and each client for which Squid had
// validated a body got nothing of it. Here the storage is S3, in this process; Larder
// serves it alone, stands in front of such a service, and is the service
// behind a real Squid. bench/install-peers installs that.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

func main() {
	limit := flag.Duration("limit", 2*time.Minute, "how long all of it may take")
	flag.Parse()
	rig.Run("seed", *limit, "limit", play)
}

// object is what is stored: its octets tell which are missing.
var object = func() []byte {
	var b []byte
	for len(b) < 100_000 {
		b = fmt.Appendf(b, "octet %d\n", len(b))
	}
	return b
}()

const name = "/report.txt"

func play(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "larder-seed-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	larder, err := rig.Build(ctx, dir)
	if err != nil {
		return err
	}
	storage, err := newStorage()
	if err != nil {
		return err
	}
	defer storage.Close()
	service, err := newService()
	if err != nil {
		return err
	}
	defer service.Close()
	address := "s3://shop?anonymous=true&endpoint=" + storage.URL

	fmt.Println("1. What it was: the service of the story behind Squid")
	if err := behindSquid(ctx, service.address(), false); err != nil {
		return err
	}
	fmt.Println("\n2. The same service behind Larder: larder serve http://SERVICE")
	if err := withLarder(ctx, larder, []string{"serve", "http://" + service.address()}); err != nil {
		return err
	}
	fmt.Println("\n3. One process: larder serve s3://shop --fresh '**=1s'")
	storage.tell.Store(true)
	if err := withLarder(ctx, larder, []string{"serve", address, "--fresh", "**=1s"}); err != nil {
		return err
	}
	fmt.Println("\n4. The gateway behind Squid: larder gateway s3://shop --fresh '**=1s'")
	g, err := rig.StartLarder(ctx, rig.Command{Argv: []string{larder, "gateway", address, "--fresh", "**=1s", "--listen", "127.0.0.1:0", "--log", "off"}})
	if err != nil {
		return err
	}
	defer g.Kill()
	gateway := strings.TrimPrefix(g.URL, "http://")
	if err := showNotModified(gateway); err != nil {
		return err
	}
	if err := behindSquid(ctx, gateway, true); err != nil {
		return err
	}
	fmt.Println("\nAll as it should be.")
	return nil
}
