package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/larderhq/larder/internal/daemon"
	"github.com/larderhq/larder/internal/storage"
)

type gatewayCmd struct {
	Source string `arg:"" name:"source" help:"A folder, or storage such as s3://bucket."`

	storageFlags
	door
}

func (*gatewayCmd) examples() [][2]string {
	return [][2]string{
		{"larder gateway ./site --listing", "a folder"},
		{"larder gateway s3://bucket --listen 127.0.0.1:8001", "behind a cache that asks 127.0.0.1:8001"},
		{"larder gateway sftp://user@host/path --fresh '*.css=1h' --fresh '**=1m'", "with lifetimes by name"},
	}
}

func (*gatewayCmd) more() string {
	return `Nothing is kept: each request asks the storage. larder serve keeps what it
answered, in the same process.

` + kindsOfStorage
}

// Run serves until a signal comes.
func (g *gatewayCmd) Run(std *streams, kinds storage.Kinds) error {
	if storage.IsOrigin(g.Source) {
		return usagef("%s is a web server already; larder serve caches what it answers", storage.Show(g.Source))
	}
	o := &daemon.Options{Uncached: true}
	if err := g.open(g.Source, kinds, o); err != nil {
		return err
	}
	if err := g.apply(std, o); err != nil {
		return errors.Join(err, o.Storage.Close())
	}
	return g.run(std, o, g.explain, func(d *daemon.Daemon) { g.greet(std.err, d) })
}

func (g *gatewayCmd) greet(w io.Writer, d *daemon.Daemon) {
	fmt.Fprintf(w, "larder %s serves %s at %s without a cache\n%s\n", release, storage.Show(g.Source), addresses(d), g.tell())
}

// explain says what to do about a choice that cannot be carried out.
func (g *gatewayCmd) explain(err error) error {
	e := (*daemon.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	if e.Option == "Listen" {
		return g.explainListen(e.Err)
	}
	return cmp.Or(g.secure.explain(e), err)
}
