// Larder is a caching reverse proxy.
package main

import (
	"os"

	"github.com/larderhq/larder/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
