package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// release is the version of this source.
const release = "0.1.0-dev"

// version is release, and what the build knows of the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " and changes"
		}
	}
	return release + commit + changed
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(std *streams) error {
	fmt.Fprintf(std.out, "larder %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

type versionFlag bool

// BeforeReset runs before a command is missed.
func (versionFlag) BeforeReset(_ *kong.Context, std *streams) error {
	_ = versionCmd{}.Run(std) // it has no errors
	return errDone
}
