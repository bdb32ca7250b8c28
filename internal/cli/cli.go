// Package cli is what a person types: commands, flags, and sentences that say
// what is wrong and what to do about it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/larderhq/larder/internal/storage"
)

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1 // it ran, and failed
	exitUsage = 2 // it was asked for something it cannot do, and did nothing
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// grammar is the whole command line.
type grammar struct {
	Serve    serve       `cmd:"" help:"Cache what a web server or storage answers, and answer in its place."`
	Gateway  gatewayCmd  `cmd:"" help:"Give storage an HTTP face, without a cache."`
	Warm     warmCmd     `cmd:"" help:"Have a running Larder fetch the URLs of a list or a sitemap."`
	Purge    purgeCmd    `cmd:"" help:"Have a running Larder forget or validate what it keeps."`
	Purges   purgesCmd   `cmd:"" help:"List the purges of a running Larder; cancel, undo or repeat one."`
	Simulate simulateCmd `cmd:"" help:"Tell from access logs what a cache would do, at several sizes of memory."`
	Check    check       `cmd:"" help:"Verify what is on a disk."`
	Switches switches    `cmd:"" help:"List the policy switches that serve --set knows, and why each is as it is."`
	Limits   limitsCmd   `cmd:"" help:"List the limits that serve --limit knows, and what each is for."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
	Help     helpFlag    `short:"h" help:"Print this help."`
	Ver      versionFlag `name:"version" help:"Print the version."`
}

// A usageError is a mistake of whoever typed the command: one line that says
// what is wrong and what to do.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errDone ends parsing after a flag that has done everything by itself.
var errDone = errors.New("done")

// Main runs the command line args, without the program's name, and returns the
// exit code: 0 if all went well, 1 if something failed on the way, 2 if it was
// asked for something impossible, which is then told in one line on stderr,
// and nothing was started. more are kinds of storage beside those of the package
// storage.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, more ...storage.Kinds) int {
	std := &streams{stdin, stdout, stderr}
	kinds := storage.Known()
	for _, m := range more {
		maps.Copy(kinds, m)
	}
	err := run(args, std, kinds)
	var usage usageError
	switch {
	case err == nil, errors.Is(err, errDone):
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "larder: %v\n", oneLine(err))
		return exitUsage
	}
	fmt.Fprintf(stderr, "larder: %v\n", oneLine(err))
	return exitFault
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func run(args []string, std *streams, kinds storage.Kinds) error {
	var g grammar
	parser, err := kong.New(&g, kong.Name("larder"), kong.Bind(std, kinds), kong.NoDefaultHelp(),
		kong.Writers(std.out, std.err))
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef("nothing to do: try larder serve http://127.0.0.1:8080, or larder --help")
	}
	ctx, err := parser.Parse(bareLog(args))
	if err != nil {
		return explain(err, args)
	}
	return ctx.Run()
}

// bareLog gives a --log that stands alone its value.
func bareLog(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range args {
		alone := i+1 == len(args) || strings.HasPrefix(args[i+1], "-") || strings.Contains(args[i+1], "://")
		switch {
		case arg == "--":
			return out
		case arg == "--log" && alone:
			out[i] = "--log=auto"
		}
	}
	return out
}

// explain turns an error of the parser into a sentence with a way out.
func explain(err error, args []string) error {
	var parse *kong.ParseError
	if errors.Is(err, errDone) || !errors.As(err, &parse) {
		return err
	}
	msg := err.Error()
	command := ""
	if n := parse.Context.Selected(); n != nil {
		command = path(n) + " "
	}
	switch {
	case strings.Contains(msg, "did you mean"):
		return usagef("%s", msg)
	case command == "" && looksLikeOrigin(args[0]):
		return usagef("%q is no command: did you mean larder serve %s?", args[0], args[0])
	case command == "" && !strings.HasPrefix(args[0], "-"):
		return usagef("%q is no command: larder --help lists what there is", args[0])
	case strings.Contains(msg, `"<origin>"`):
		return usagef("serve needs an origin: name a web server, as in larder serve http://127.0.0.1:8080, or a folder, as in larder serve .")
	case strings.Contains(msg, `"<source>"`):
		return usagef("gateway needs storage: name a folder, as in larder gateway ., or another kind, as in larder gateway s3://bucket")
	case strings.Contains(msg, `"<source> ..."`):
		return usagef("warm needs URLs: name a list or a sitemap, as in larder warm https://example.org/sitemap.xml, or - for stdin")
	case strings.Contains(msg, `"<dir>"`):
		return usagef("check disk needs a folder: the one that serve --disk was given, as in larder check disk /var/cache/larder")
	case command != "" && strings.HasPrefix(msg, "expected "):
		return usagef("%sneeds more: larder %s--help says what", command, command)
	case strings.HasPrefix(msg, "unexpected argument"):
		return usagef("%s: leave it out; larder %s--help says what goes there", msg, command)
	case strings.Contains(msg, ": expected "):
		flag, _, _ := strings.Cut(msg, ":")
		return usagef("%s: no value, or one that begins with a dash: larder %s--help says what it takes", flag, command)
	case strings.HasPrefix(msg, "unknown flag"):
		return usagef("%s: larder %s--help lists what there is", msg, command)
	}
	return usagef("%s", msg)
}

func looksLikeOrigin(arg string) bool {
	return strings.ContainsAny(arg, "/.:") && !strings.HasPrefix(arg, "-")
}
