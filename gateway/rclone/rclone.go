// Package rclone is a gateway.Source over everything that rclone can reach: some
// seventy kinds of storage, by rclone's own code, configuration and names.
//
// It imports no backend. A program imports those that it wants to offer, or all by
//
//	import _ "github.com/rclone/rclone/backend/all"
//
// rclone's configuration is global to the process. The first Open reads rclone.conf
// (where RCLONE_CONFIG says, else where rclone looks for it), forbids rclone to ask
// for a password on the terminal (RCLONE_CONFIG_PASS decrypts), and keeps it from
// logging anything that it does not exit for, unless RCLONE_LOG_LEVEL is DEBUG, and
// from handling signals. What
// rclone cannot go on without, like a certificate that it is told to use and
// cannot read, ends the process, and so does a panic in a goroutine that a backend
// started itself; any other panic of rclone's is gateway.ErrUnavailable. Backends that renew their tokens write them to
// rclone.conf, as rclone does.
package rclone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configfile"
	"github.com/rclone/rclone/fs/hash"
	"github.com/rclone/rclone/lib/atexit"
)

// Options are how a remote is used. The zero value is good.
type Options struct {
	// Calls is how many calls of rclone run at a time; more wait. One that does
	// not heed the end of its context counts until it returns, and Put counts while its
	// body comes. Zero: 128. Reading from what is open does not count.
	Calls int

	// Now is the clock that ages of objects are told by. Nil: time.Now.
	Now func() time.Time
}

// A Source is one remote of rclone. It must come from Open.
//
// It is flat where rclone's remote has buckets and no folders of its own. Each Open
// looks an object up; each Range opens it and looks it up again before the last
// octets are given, for few of rclone's backends can be asked for one version.
type Source struct {
	f      fs.Fs
	label  string          // what errors call it
	config context.Context // carries rclone's configuration for this remote
	now    func() time.Time
	calls  chan struct{} // one for each call that runs
	hashes []hash.Type   // those that cost nothing, widest first
	flat   bool
	staged bool         // what is put is whole only once it is renamed
	room   atomic.Int64 // octets that bodies may still take in files
}

var _ gateway.Writer = (*Source)(nil)

// Open makes a Source of what rclone calls remote: "NAME:path" of rclone.conf, or a
// connection string like ":sftp,host=x,user=y:path", whose passwords are obscured as
// rclone does it. The path is a folder, which need not exist. Backends may
// connect now, while ctx holds. Errors have "…" for the values of options. The caller
// closes the Source.
func Open(ctx context.Context, remote string, o Options) (*Source, error) {
	if err := configure(); err != nil {
		return nil, fmt.Errorf("rclone's configuration cannot be read; try `rclone config file`: %w", err)
	}
	settings, ci := fs.AddConfig(context.Background())
	ci.LowLevelRetries = 1     // the Handler tries again, and knows for how long
	ci.UseServerModTime = true // what a writer says of its time tells versions apart less well
	f, err := connect(ctx, settings, remote)
	switch {
	case errors.Is(err, fs.ErrorIsFile):
		return nil, fmt.Errorf("rclone %s: the path is a file; name the folder that it is in", kind(remote))
	case err != nil:
		return nil, wrap("rclone "+kind(remote), "", withoutOptions(remote, err))
	}
	has := f.Features()
	s := &Source{
		f:      f,
		label:  "rclone " + strings.TrimSuffix(f.Name(), ":") + ":" + f.Root(),
		config: settings,
		now:    o.Now,
		hashes: cheap(f),
		flat:   has.BucketBased && !has.CanHaveEmptyDirectories,
		// rclone's WebDAV removes an object whose replacement failed.
		staged: has.PartialUploads || has.IsLocal || fs.Type(fs.UnWrapFs(f)) == "webdav",
	}
	if o.Calls <= 0 {
		o.Calls = 128
	}
	s.room.Store(maxSpooled)
	s.calls = make(chan struct{}, o.Calls)
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// kind is as much of a remote's name as has no secrets in it.
func kind(remote string) string {
	if i := strings.IndexAny(remote[min(1, len(remote)):], ",:="); i >= 0 {
		return remote[:i+1] + ":"
	}
	return remote
}

// connect makes the Fs. What it keeps of its context has to outlive ctx, and some
// backends do not heed it.
func connect(ctx, settings context.Context, remote string) (fs.Fs, error) {
	type connected struct {
		f   fs.Fs
		err error
	}
	done := make(chan connected, 1)
	go func() {
		var m connected
		m.err = guarded(func() (err error) {
			m.f, err = fs.NewFs(settings, remote)
			return err
		})
		if m.err != nil && m.f != nil {
			m.err = errors.Join(m.err, shutdown(m.f))
		}
		done <- m
	}()
	select {
	case m := <-done:
		return m.f, m.err
	case <-ctx.Done():
		go func() {
			if m := <-done; m.err == nil {
				_ = shutdown(m.f) // nobody waits for it
			}
		}()
		return nil, ours{ctx.Err()}
	}
}

// patience is how long the end of a Source may take.
const patience = 10 * time.Second

// shutdown lets go of the connections of a backend that can. Not all heed the context.
func shutdown(f fs.Fs) error {
	shut := f.Features().Shutdown
	if shut == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- guarded(func() error { return shut(ctx) }) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// configure reads rclone's configuration, once.
var configure = sync.OnceValue(func() error {
	ci := fs.GetConfig(context.Background())
	if ci.LogLevel != fs.LogLevelDebug {
		ci.LogLevel = fs.LogLevelCritical
	}
	ci.AskPassword = false
	if path := os.Getenv("RCLONE_CONFIG"); path != "" {
		if err := config.SetConfigPath(path); err != nil {
			return err
		}
	}
	atexit.IgnoreSignals() // else an upload makes signals end the process at once
	configfile.Install()
	if err := config.Data().Load(); err != nil && !errors.Is(err, config.ErrorConfigFileNotFound) {
		return err
	}
	config.LoadedData() // not safe for two at once; from now on it only looks
	return nil
})

// cheap are the checksums that tell objects apart and that f knows without reading
// them, widest first: 128 bits at least, which leaves CRC-32 out.
func cheap(f fs.Fs) []hash.Type {
	if f.Features().SlowHash {
		return nil
	}
	types := slices.DeleteFunc(f.Hashes().Array(), func(t hash.Type) bool { return hash.Width(t, false) < 32 })
	slices.SortStableFunc(types, func(a, b hash.Type) int { return hash.Width(b, false) - hash.Width(a, false) })
	return types
}

// Traits are Remote always, for rclone does not tell.
func (s *Source) Traits() gateway.Traits { return gateway.Traits{Remote: true, Flat: s.flat} }

// Close waits ten seconds at most for calls that were given up and clean up behind
// themselves, and closes connections where the backend lets it; others close when
// they have been idle.
func (s *Source) Close() error {
	s.wait()
	if err := shutdown(s.f); err != nil {
		return wrap(s.label, "", err)
	}
	return nil
}
