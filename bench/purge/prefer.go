//go:build linux

package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/larderhq/larder/bench/rig"
)

// preferName is the variable by which a process of this program knows that it is
// to become another one.
const preferName = "LARDER_PURGE_PREFER"

// preferred has c run before whatever else wants its CPU, as far as we may say so:
// the programs of others on this machine are not to be measured.
func preferred(c rig.Command) (rig.Command, error) {
	self, err := os.Executable()
	c.Argv, c.Env = append([]string{self}, c.Argv...), append(c.Env, preferName+"=1")
	return c, err
}

// prefer becomes argv, with a priority of its own. Where the kernel weighs sessions
// (sched_autogroup_enabled), that of a process counts only within its session; so it
// has one of its own, too. A real-time priority would change how the threads of a Go
// program take turns.
func prefer(argv []string) error {
	if group, err := syscall.Getpgid(os.Getppid()); err == nil {
		_ = syscall.Setpgid(0, group) // who leads a group cannot begin a session
	}
	_, _ = syscall.Setsid() // all of this is as far as we may
	_ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0o644)
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)
	if err := os.Unsetenv(preferName); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}
