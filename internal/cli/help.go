package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// helpFlag prints help in place of running a command.
type helpFlag bool

// BeforeReset runs before arguments are missed.
func (helpFlag) BeforeReset(ctx *kong.Context, std *streams) error {
	n := ctx.Selected()
	if n == nil {
		n = ctx.Model.Node
	}
	writeHelp(std.out, n)
	return errDone
}

// An explainer says more about a command than fits in a line: examples first.
type explainer interface {
	examples() [][2]string // command, and what it is good for
	more() string          // may be empty
}

// writeHelp prints what a person in a hurry wants: the command, examples, then
// the rest.
func writeHelp(w io.Writer, n *kong.Node) {
	if n.Type == kong.ApplicationNode {
		fmt.Fprint(w, appHelp)
	} else {
		fmt.Fprintf(w, "larder %s\n\n%s\n", usage(n), n.Help)
	}
	if len(n.Children) > 0 {
		fmt.Fprintln(w, "\nCommands:")
		var rows [][2]string
		for _, c := range n.Leaves(true) {
			rows = append(rows, [2]string{usage(c), c.Help})
		}
		table(w, rows)
	}
	about, _ := n.Target.Addr().Interface().(explainer)
	if about != nil {
		fmt.Fprintln(w)
		table(w, about.examples())
	}
	var rows [][2]string
	flags := slices.Clone(n.Flags)
	for p := n.Parent; p != nil; p = p.Parent {
		flags = append(flags, p.Flags...)
	}
	for _, f := range flags {
		if f.Name == "version" && n.Type != kong.ApplicationNode {
			continue
		}
		name := "--" + f.Name
		if !f.IsBool() {
			name += " " + f.PlaceHolder
		}
		rows = append(rows, [2]string{name, f.Help})
	}
	fmt.Fprintln(w, "\nFlags:")
	table(w, rows)
	if about != nil && about.more() != "" {
		fmt.Fprintf(w, "\n%s\n", about.more())
	}
}

// path is a command as it is typed.
func path(n *kong.Node) string {
	if n.Parent == nil || n.Parent.Type == kong.ApplicationNode {
		return n.Name
	}
	return path(n.Parent) + " " + n.Name
}

func usage(n *kong.Node) string {
	s := path(n)
	for _, p := range n.Positional {
		s += " " + strings.ToUpper(p.Name)
	}
	if len(n.Flags) > 0 {
		s += " [flags]"
	}
	return s
}

// table prints two columns.
func table(w io.Writer, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		for i, line := range strings.Split(r[1], "\n") {
			left := r[0]
			if i > 0 {
				left = ""
			}
			fmt.Fprintf(w, "  %-*s  %s\n", width, left, line)
		}
	}
}

const appHelp = `Larder answers HTTP requests from memory in place of a slower origin, by the
rules of RFC 9111.

  larder serve http://127.0.0.1:8080   put it before a web server
  larder serve .                       try it on a folder, with nothing else
  larder serve s3://bucket             or on storage that speaks no HTTP
  curl -i http://127.0.0.1:8000/       ask twice: the second answer is a hit
`
