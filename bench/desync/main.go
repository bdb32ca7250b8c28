//go:build linux

// Desync tries to bring Larder and the origin behind it out of step.
//
//	go run ./bench/desync                                   # 100,000 streams, divided among the origins that are installed
//	go run ./bench/desync -origins node -seed 7 -first 4711 -streams 1 -v    # one stream again
//
// A desynchronisation is two parsers that disagree on where a request ends:
// what one takes for a body the next one takes for a request, and from then on
// answers belong to others (section 1a of the threat list, RS-01 to RS-17). So
// clients send streams of one to four pipelined requests made from a grammar,
// most with an attempt at ambiguity in them, all at once, to a larder whose few
// connections to the origin they share. Each request has a token of its own in
// its target, and bodies hold whole requests for /smuggled/..., which nobody may
// ever see as such.
//
// Three parties read every request by themselves:
//
//   - the reference (reference.go), the client's octets, before they are sent: a
//     plain strict reader that shares no code with Larder nor net/http;
//   - the same reference, what Larder writes to its origin, on a tap in between;
//   - the origin's own parser. Each answer carries, in a field and in the body, what
//     it understood: method, target, host, length and hash of the body, and which
//     request on which connection it was; and all it saw is told here besides, also
//     where the answer got lost. The origins go and node are such echoes
//     themselves. nginx, apache, haproxy and varnish are proxies before an echo of
//     net/http: whatever boundaries their parsers see in Larder's output are those of
//     the requests that arrive there, and the answers have to find the way back.
//
// What must hold: the tap and the origin see nothing but requests which the
// reference found, whole, with the same method, target, host and body, and what
// is not repeatable not more often than it was sent. Answers come in the order of
// the requests, each has the token of the request at its place, so none is for another
// client, and nothing unsound is answered by an origin. Anything else is a
// desynchronisation. A connection on which nothing comes for -timeout is a hang,
// and one that ends before an answer that is due, without Connection: close, was
// cut off; both fail the run like a desynchronisation. Each is printed with its
// octets.
//
// Requests that are refused are counted: by Larder, or by the origin with a
// status that Larder passed on. Neither is wrong as such. The reasons are listed, with
// one example each under -v.
//
// With -control there is no larder: the streams meet the origins as they are.
// That shows what the streams are worth, and that this program sees it when
// parsers disagree with the reference.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// options is what the command line says.
type options struct {
	streams int
	origins []string
	seed    uint64
	first   int
	clients int
	timeout time.Duration
	limit   time.Duration
	dir     string
	larder  string
	control bool
	verbose bool
}

// quiet is for servers whose complaints are expected.
var quiet = log.New(io.Discard, "", 0)

func main() {
	var o options
	var names []string
	for i := range origins {
		names = append(names, origins[i].name)
	}
	flag.IntVar(&o.streams, "streams", 100_000, "how many `streams` are sent in all, divided among the origins")
	which := flag.String("origins", strings.Join(names, " "), "the `origins`; one that is not installed is named and left out")
	flag.Uint64Var(&o.seed, "seed", 0, "of the streams; 0: a new one, which is printed")
	flag.IntVar(&o.first, "first", 0, "`number` of the first stream, to send one again")
	flag.IntVar(&o.clients, "clients", 12, "how many streams are on their way at the same time")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Second, "`time` without an octet from Larder after which it hangs")
	flag.DurationVar(&o.limit, "limit", time.Hour, "most `time` that all may take; then it fails")
	flag.StringVar(&o.dir, "dir", "", "`folder` to make the scratch folder in; empty: $TMPDIR, or /tmp")
	flag.StringVar(&o.larder, "larder", "", "the `program`; empty: it is built from this checkout")
	flag.BoolVar(&o.control, "control", false, "send the streams to the origins without larder, which has to fail")
	flag.BoolVar(&o.verbose, "v", false, "print an example for each reason of a refusal")
	flag.Parse()
	o.origins = strings.Fields(strings.ReplaceAll(*which, ",", " "))
	unknown := slices.ContainsFunc(o.origins, func(s string) bool { return !slices.Contains(names, s) })
	if unknown || len(o.origins) == 0 || flag.NArg() > 0 || o.streams < 1 || o.first < 0 || o.clients < 1 || o.timeout <= 0 {
		fmt.Fprintf(os.Stderr, "desync: the origins are %v, and numbers and times are above 0; see -h\n", names)
		os.Exit(2)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	rig.Run("desync", o.limit, "limit", func(ctx context.Context) error { return prove(ctx, &o) })
}

// A lab is what all origins share.
type lab struct {
	*options
	scratch string
}

// A row is what came of one origin.
type row struct {
	name, version string
	streams       int
	ledger        *ledger
	took          time.Duration
}

// prove runs all origins, prints the table, and says what is wrong.
func prove(ctx context.Context, o *options) (err error) {
	l := &lab{options: o}
	if l.scratch, err = os.MkdirTemp(o.dir, "larder-desync-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(l.scratch)) }()
	if o.larder == "" && !o.control {
		if o.larder, err = rig.Build(ctx, l.scratch); err != nil {
			return err
		}
	}
	there, err := l.installed(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("seed %d, %d streams from number %d, %d at the same time\n", o.seed, o.streams, o.first, o.clients)
	var rows []row
	number := o.first
	for i, at := range there {
		n := o.streams / len(there)
		if i < o.streams%len(there) {
			n++
		}
		at.streams = n
		if err = l.run(ctx, &at, number); at.ledger != nil {
			rows = append(rows, at)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", at.name, err)
			break
		}
		number += n
	}
	return errors.Join(err, l.report(rows))
}

// installed are rows for the origins that can be started here.
func (l *lab) installed(ctx context.Context) (there []row, err error) {
	for i := range origins {
		o := &origins[i]
		if !slices.Contains(l.origins, o.name) {
			continue
		}
		version, err := o.about(ctx)
		switch {
		case errors.Is(err, errAbsent):
			fmt.Printf("%s is not installed, and left out (bench/install-peers has most)\n", o.name)
		case err != nil:
			return nil, err
		default:
			there = append(there, row{name: o.name, version: version})
		}
	}
	if len(there) == 0 {
		return nil, errors.New("none of the origins is installed; install one of those in -h")
	}
	return there, nil
}

// run sends the streams of one origin.
func (l *lab) run(ctx context.Context, r *row, first int) error {
	dir := filepath.Join(l.scratch, r.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	book := newLedger()
	book.mends = r.name == "varnish" && !l.control
	book.slashes = r.name == "apache"
	at := slices.IndexFunc(origins, func(o origin) bool { return o.name == r.name })
	back, err := origins[at].start(ctx, dir, book)
	if err != nil {
		return err
	}
	defer back.stop()
	address := back.address
	if !l.control {
		between, err := newTap(back.address, book)
		if err != nil {
			return err
		}
		defer between.close()
		larder, err := rig.StartLarder(ctx, rig.Command{Argv: []string{
			l.larder, "serve", "http://" + between.Addr().String(), "--listen", "127.0.0.1:0", "--log", "off", "--memory", "64MiB",
		}})
		if err != nil {
			return err
		}
		defer func() {
			select {
			case <-larder.Done():
				book.find(hang, nil, "Larder ended by itself: %v", larder.Err())
			default:
			}
			_ = larder.Stop(15 * time.Second) // the table is what counts
		}()
		address = strings.TrimPrefix(larder.URL, "http://")
	}
	r.ledger = book
	began := time.Now()
	err = l.all(ctx, r, first, address)
	r.took = time.Since(began)
	return err
}

// tooMany hangs end a run: it has failed, and each takes its time.
const tooMany = 50

// all sends streams from many clients at once.
func (l *lab) all(ctx context.Context, r *row, first int, address string) error {
	var next, done atomic.Int64
	var group sync.WaitGroup
	for range l.clients {
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= r.streams || r.ledger.hangs() > tooMany {
					return
				}
				send(r.ledger, newStream(l.seed, first+n), address, l.timeout)
				done.Add(1)
			}
		})
	}
	stop := make(chan struct{})
	var progress sync.WaitGroup
	progress.Go(func() {
		for tick := time.NewTicker(10 * time.Second); ; {
			select {
			case <-tick.C:
				fmt.Printf("%s: %d of %d streams, %d with findings\n", r.name, done.Load(), r.streams, r.ledger.total())
			case <-stop:
				tick.Stop()
				return
			}
		}
	})
	group.Wait()
	close(stop)
	progress.Wait()
	r.streams = int(done.Load())
	return context.Cause(ctx)
}
