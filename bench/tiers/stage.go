//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A stage is who plays.
type stage struct {
	dir, program string
	wire         *wire
	origin       *origin
	behind       *relay // between parent and origin
	between      *relay // between edge and parent
	parent, edge *rig.Larder
	client       http.Client
	ids          map[string]string // of the last purge, by the tier
	slow         chan error        // what came of a request that begin has begun
}

// newStage starts all of them. The caller closes it.
func newStage(ctx context.Context) (s *stage, err error) {
	s = &stage{wire: newWire(), ids: map[string]string{}}
	s.client.Transport = &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "larder-tiers-"); err != nil {
		return s, err
	}
	if s.program, err = rig.Build(ctx, s.dir); err != nil {
		return s, err
	}
	if s.origin, err = newOrigin(); err != nil {
		return s, err
	}
	if s.behind, err = newRelay("parent", "origin", s.origin.Addr().String(), s.wire); err != nil {
		return s, err
	}
	if err = s.startParent(ctx); err != nil {
		return s, err
	}
	if s.between, err = newRelay("edge", "parent", address(s.parent), s.wire); err != nil {
		return s, err
	}
	s.edge, err = s.start(ctx, "edge", s.between.url())
	return s, err
}

// startParent starts a parent with what is on its disk. Its tags are for the edge to see.
func (s *stage) startParent(ctx context.Context) (err error) {
	s.parent, err = s.start(ctx, "parent", s.behind.url(), "--set", "expose-tags=on", "--disk", filepath.Join(s.dir, "disk")+":64MiB")
	return err
}

func (s *stage) start(ctx context.Context, name, origin string, more ...string) (*rig.Larder, error) {
	argv := []string{s.program, "serve", origin, "--listen", "127.0.0.1:0", "--log", "off", "--set", "cdn-loop-id=" + name + ".example", "--admin", filepath.Join(s.dir, name)}
	return rig.StartLarder(ctx, rig.Command{Argv: append(argv, more...)})
}

func address(l *rig.Larder) string { return strings.TrimPrefix(l.URL, "http://") }

// close ends what was started, those who ask first.
func (s *stage) close() {
	for _, l := range []*rig.Larder{s.edge, s.parent} {
		if l != nil {
			l.Kill()
		}
	}
	for _, r := range []*relay{s.between, s.behind} {
		if r != nil {
			r.close()
		}
	}
	if s.origin != nil {
		s.origin.close()
	}
	_ = os.RemoveAll(s.dir) // it is among the temporary files
}

// restart ends the parent, has files of its disk be lost, and starts another one with the
// rest.
func restart(lost ...string) step {
	return func(ctx context.Context, s *stage) error {
		fmt.Println("   … the parent is stopped, and started again …")
		err := s.parent.Stop(patience)
		s.parent = nil
		for _, name := range lost {
			fmt.Printf("   … without the file %s of its disk …\n", name)
			err = errors.Join(err, os.Remove(filepath.Join(s.dir, "disk", name)))
		}
		if err != nil {
			return err
		}
		if err := s.startParent(ctx); err != nil {
			return err
		}
		to := address(s.parent)
		s.between.to.Store(&to)
		return nil
	}
}

// origins has the origin answer otherwise from now on, and says so.
func origins(what string, how func(*origin)) step {
	return func(_ context.Context, s *stage) error {
		fmt.Printf("   … %s …\n", what)
		s.origin.change(how)
		return nil
	}
}

// version has the origin have a version of the content.
func version(n int) step {
	return origins(fmt.Sprintf("the origin has version %d of the content", n), func(o *origin) { o.version = n })
}

// pause waits until something is over.
func pause(why string, d time.Duration) step {
	return func(ctx context.Context, _ *stage) error {
		fmt.Printf("   … %s …\n", why)
		return rig.Pause(ctx, d)
	}
}

// label has the origin send a field with what is at a path.
func label(path, field string) step {
	return origins(path+" has "+field, func(o *origin) { o.more[path] = field + "\r\n" })
}
