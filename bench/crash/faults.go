//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A fault is something that strace does to a system call.
type fault struct {
	call string
	what string // for people
	spec string // for strace -e inject=CALL:SPEC
}

// faults lists what is done to a call, in mode strace. Lies are answers of the
// kernel that are not true: a write that never came to the disk, a read that
// left in memory what was there before.
func faults(call string) []fault {
	all := []fault{{call, "EIO", "error=EIO"}, {call, "SIGKILL", "signal=KILL"}}
	switch call {
	case "pwrite64":
		all = append(all, fault{call, "ENOSPC", "error=ENOSPC"}, fault{call, "EROFS", "error=EROFS"},
			fault{call, "lie", "retval=512"}, fault{call, "3 s late", "delay_enter=3000000"})
	case "pread64":
		all = append(all, fault{call, "lie", "retval=512"}, fault{call, "3 s late", "delay_enter=3000000"})
	case "fallocate", "ftruncate", "renameat":
		all = append(all, fault{call, "ENOSPC", "error=ENOSPC"})
	case "openat":
		all = append(all, fault{call, "EMFILE", "error=EMFILE"})
	case "fdatasync", "fsync":
		all = append(all, fault{call, "3 s late", "delay_enter=3000000"})
	}
	return all
}

// shaky tells whether the disk may refuse, or lose, what is written.
func (f fault) shaky() bool {
	return f.what != "SIGKILL" && f.call != "pread64" && f.call != "openat"
}

// straceProgram says whether and how strace can be used here.
func straceProgram() error {
	if _, err := exec.LookPath("strace"); err != nil {
		return unable{fmt.Errorf("strace is not installed; apt-get install --no-install-recommends strace: %w", err)}
	}
	if out, err := exec.Command("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true").CombinedOutput(); err != nil {
		return unable{fmt.Errorf("strace may not trace here: %w: %s", err, bytes.TrimSpace(out))}
	}
	return nil
}

// sweep has the first call of each kind fail, then the second, and so on, as
// long as the call is made at all. After each life with a fault comes one
// without, on the same disk. strace counts the calls of each thread by itself.
func sweep(ctx context.Context, b *bench) error {
	if err := straceProgram(); err != nil {
		return err
	}
	b.told = map[fault]bool{}
	for _, call := range b.opts.calls {
		for _, f := range faults(call) {
			// What one fault has done is not to be blamed on the next.
			if err := b.renew(); err != nil {
				return err
			}
			refused, wrong, resurrected, undone, failed := b.refused, b.wrong.Load(), b.resurrected.Load(), b.undone.Load(), b.failed.Load()
			hit, reached := 0, 0
			for n := 1; n <= b.opts.most; n++ {
				injected, err := b.suffer(ctx, f, n)
				if err != nil {
					return err
				}
				if injected == 0 {
					break // there is no n-th call
				}
				hit, reached = hit+injected, n
			}
			b.notes = append(b.notes, fmt.Sprintf("%-10s %-9s up to call %2d: %4d faults, starts refused %d, wrong %d, resurrected %d (%d excused), client errors %d",
				f.call, f.what, reached, hit, b.refused-refused, b.wrong.Load()-wrong, b.resurrected.Load()-resurrected, b.undone.Load()-undone, b.failed.Load()-failed))
		}
	}
	return b.inspect(ctx, false)
}

// strace is the command that has the n-th call of each thread fail. -D makes
// larder the child and strace the grandchild.
func (f fault) strace(trace, dir string, n int) []string {
	argv := []string{
		"strace", "-D", "-f", "-q", "-o", trace,
		"-e", "trace=" + f.call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", f.call, f.spec, n),
	}
	if f.what != "SIGKILL" { // which does not go with it
		argv = append(argv, "--seccomp-bpf")
	}
	if f.what == "lie" { // elsewhere there are calls for less than it claims
		return append(argv, "-P", filepath.Join(dir, "segments"))
	}
	return append(argv, onDisk(dir)...)
}

// onDisk has strace meddle only with calls on the files of a disk: memory that
// larder keeps bodies in is a file as well, and what starts it reads others.
func onDisk(dir string) []string {
	argv := []string{"-P", dir} // what is opened, renamed or removed in it
	for _, name := range []string{"segments", "table", "larder.disk", "larder.disk.spare", "secret", "secret.new"} {
		argv = append(argv, "-P", filepath.Join(dir, name))
	}
	return argv
}

// suffer runs one life in which the n-th call of each thread fails, and then
// one without a fault. It returns how often the fault happened.
func (b *bench) suffer(ctx context.Context, f fault, n int) (int, error) {
	trace := filepath.Join(b.scratch, "trace")
	deadly := f.what == "SIGKILL"
	l, err := b.start(ctx, f.strace(trace, b.diskDir, n)...)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err == nil:
		l.fault, l.mortal, l.shaky = fmt.Sprintf("%s of %s %d", f.what, f.call, n), deadly, f.shaky()
		b.load(ctx, l, 40).Wait()
		b.leave(l)
	case !deadly:
		// With a fault at the start it may refuse to begin, and say so.
		if b.refused++; !b.told[f] {
			b.told[f] = true
			b.notes = append(b.notes, fmt.Sprintf("%-10s %-9s of call %d: %v", f.call, f.what, n, err))
		}
	}
	injected := occurrences(trace, "(INJECTED)") + occurrences(trace, "(DELAYED)")
	if deadly {
		injected = min(occurrences(trace, "+++ killed by SIGKILL"), 1) // each thread says it
	}
	if l, err = b.start(ctx); err != nil {
		b.unable = append(b.unable, fmt.Sprintf("after %s of %s %d: %v", f.what, f.call, n, err))
		return injected, context.Cause(ctx)
	}
	l.fault = fmt.Sprintf("after %s of %s %d", f.what, f.call, n)
	b.load(ctx, l, 10).Wait()
	b.leave(l)
	return injected, context.Cause(ctx)
}

// leave ends a life of which all clients are done: sometimes kindly.
func (b *bench) leave(l *life) {
	select {
	case <-l.Done():
		if !l.mortal {
			b.note(&b.failed, l, "larder ended by itself: %v", l.Err())
		}
		return
	default:
	}
	if b.random.IntN(2) == 0 {
		_ = l.stop() // it may complain about the disk
		return
	}
	l.ending.Store(true)
	l.Kill()
	l.transport.CloseIdleConnections()
}

// occurrences counts a text in a file; one that is not there has none.
func occurrences(file, text string) int {
	octets, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	return bytes.Count(octets, []byte(text))
}

// fails has all calls on the disk fail from a random moment of each life on,
// and work again from another one on.
func fails(ctx context.Context, b *bench) error {
	if err := straceProgram(); err != nil {
		return err
	}
	trace, total := filepath.Join(b.scratch, "trace"), 0
	for n := range b.opts.kills {
		l, err := b.start(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			b.unable = append(b.unable, err.Error())
			continue
		}
		broken := []string{"pwrite64,pread64,fdatasync,fsync", "pread64", "pwrite64", "fdatasync"}[n%4]
		l.fault, l.shaky = "EIO of "+broken, broken != "pread64"
		clients := b.load(ctx, l, -1)
		if err := rig.Pause(ctx, 50*time.Millisecond+time.Duration(b.random.Int64N(int64(200*time.Millisecond)))); err != nil {
			l.end(clients)
			return err
		}
		tracer, err := rig.Start(rig.Command{Argv: append([]string{
			"strace", "-f", "-q", "-p", fmt.Sprint(l.Pid), "-o", trace,
			"-e", "trace=" + broken, "-e", "inject=" + broken + ":error=EIO",
		}, onDisk(b.diskDir)...)})
		if err != nil {
			l.end(clients)
			return err
		}
		err = rig.Pause(ctx, 700*time.Millisecond)
		_ = tracer.Stop(5 * time.Second) // it says that it was told to stop
		if err == nil {
			err = rig.Pause(ctx, 200*time.Millisecond)
		}
		l.end(clients)
		total += occurrences(trace, "(INJECTED)")
		if err != nil {
			return err
		}
	}
	b.notes = append(b.notes, fmt.Sprintf("%d calls failed", total))
	if total == 0 && b.opts.disk != "" {
		return fmt.Errorf("no call failed: strace could not do its work")
	}
	return b.inspect(ctx, false)
}

// full has the folder of the disk on a file system of its own, which is too
// small, and then one that fills up while larder runs.
func full(ctx context.Context, b *bench) error {
	if err := b.mount(16 << 20); err != nil {
		return err
	}
	l, err := b.start(ctx)
	if err != nil {
		b.refused++
		b.notes = append(b.notes, "with too little room: "+err.Error())
	} else {
		b.notes = append(b.notes, "with too little room it serves")
		b.load(ctx, l, 40).Wait()
		b.leave(l)
	}
	if err := b.unmount(); err != nil {
		return err
	}
	room, err := parseSize(b.opts.disk)
	if err != nil {
		return err
	}
	if err := b.mount(room + room/8 + 16<<20); err != nil {
		return err
	}
	defer b.unmount()
	for n := range b.opts.kills {
		if err := b.fillUp(ctx, n); err != nil {
			return err
		}
	}
	return b.inspect(ctx, true)
}

// fillUp runs one life, during which the last octet of room is taken. In every
// second one it has been taken from the start.
func (b *bench) fillUp(ctx context.Context, n int) error {
	ballast := filepath.Join(b.diskDir, "ballast")
	if n%2 == 1 && n > 1 {
		if err := takeRoom(ballast); err != nil {
			return err
		}
	}
	l, err := b.start(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		b.unable = append(b.unable, err.Error())
		return os.RemoveAll(ballast)
	}
	if b.starts[len(b.starts)-1] > b.opts.limit {
		b.late++
	}
	clients := b.load(ctx, l, -1)
	err = rig.Pause(ctx, time.Duration(b.random.Int64N(int64(200*time.Millisecond))))
	if err == nil {
		err = takeRoom(ballast)
	}
	if err == nil {
		err = rig.Pause(ctx, time.Duration(b.random.Int64N(int64(400*time.Millisecond))))
	}
	if n%3 == 0 { // in peace, which is when most is written
		l.ending.Store(true)
		clients.Wait()
		_ = l.stop() // it may complain about the disk
	} else {
		l.end(clients)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(ballast)
}

// takeRoom writes to a file until there is no room left.
func takeRoom(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		if noRoom(err) {
			return nil
		}
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); noRoom(err) {
			block = block[:len(block)/2]
		} else if err != nil {
			return err
		}
	}
	return nil
}

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// mount puts a file system in memory with so many octets under the disk.
func (b *bench) mount(octets int64) error {
	err := syscall.Mount("tmpfs", b.diskDir, "tmpfs", 0, fmt.Sprintf("size=%d", octets))
	if err != nil {
		return unable{fmt.Errorf("mounting a small file system needs to be root, with the right to mount: %w", err)}
	}
	b.mounted = true
	return nil
}

// unmount takes the file system away, and what is in it.
func (b *bench) unmount() error {
	if !b.mounted {
		return nil
	}
	b.mounted = false
	return syscall.Unmount(b.diskDir, syscall.MNT_DETACH)
}

// parseSize reads sizes as in 512MiB.
func parseSize(s string) (int64, error) {
	units := []string{"KiB", "MiB", "GiB"}
	var n int64
	var unit string
	if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil || !slices.Contains(units, unit) {
		return 0, fmt.Errorf("-disk %q: write it as 512MiB or 1GiB", s)
	}
	return n << (10 * (slices.Index(units, unit) + 1)), nil
}
