// Larder-rclone is larder with rclone linked in: rclone:REMOTE:path stands for storage
// wherever larder takes an origin.
package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/rclone"
	"github.com/larderhq/larder/internal/cli"
	"github.com/larderhq/larder/internal/storage"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, storage.Kinds{"rclone": open}))
}

// open opens rclone:REMOTE:path. Some of rclone's backends connect now.
func open(address string) (gateway.Source, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, remote, _ := strings.Cut(address, ":")
	s, err := rclone.Open(ctx, remote, rclone.Options{})
	if err != nil {
		return nil, err // and no nil *Source, which would be a Source
	}
	return s, nil
}
