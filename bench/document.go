//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What is generated in a document lies between these lines.
const (
	documentBegin = "<!-- written by make bench -->\n"
	documentEnd   = "<!-- end of what make bench writes -->\n"
)

// replaceGenerated puts text between the two lines of a document.
func replaceGenerated(document []byte, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(documentBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(documentEnd))
	if !ok || !ok2 {
		return nil, fmt.Errorf("it has no lines %q and %q to write between", strings.TrimSpace(documentBegin), strings.TrimSpace(documentEnd))
	}
	return bytes.Join([][]byte{before, []byte(documentBegin), []byte(text), []byte(documentEnd), after}, nil), nil
}

// writeDocument writes the tables into a file.
func writeDocument(path string, o options, contenders []contender, tables []table, calls string) error {
	document, err := os.ReadFile(path)
	if err == nil {
		document, err = replaceGenerated(document, markdown(o, contenders, tables, calls))
	}
	if err == nil {
		err = os.WriteFile(path, document, 0o644)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && !strings.Contains(err.Error(), path) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// markdown is what a document says of a run: where and how it was made, each
// figure of ours with its spread, and all others as ratios, those that lose too.
func markdown(o options, contenders []contender, tables []table, calls string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: `SECS=%d ROUNDS=%d make bench`, %d connections if not said otherwise; %s. ", time.Now().Format("2 January 2006"), o.secs, o.rounds, o.conns, machine())
	var versions []string
	for _, c := range contenders {
		if c.version != "" {
			versions = append(versions, c.name+" "+c.version)
		}
	}
	if len(versions) > 0 {
		fmt.Fprintf(&b, "Peers: %s. ", strings.Join(versions, ", "))
	}
	b.WriteString("A peer ÷ ours above 1: the peer spends more than Larder.\n\n")
	b.WriteString("| workload | ours, CPU µs a request | ours ÷ floor |")
	line := "|---|---|---|"
	peers := func(visit func(name string)) {
		for _, c := range contenders {
			if c.name != nameOurs && c.name != nameFloor {
				visit(c.name)
			}
		}
	}
	peers(func(name string) {
		fmt.Fprintf(&b, " %s ÷ ours |", name)
		line += "---|"
	})
	b.WriteString("\n" + line + "\n")
	var notes []string
	for _, t := range tables {
		cpu, spread := "-", ""
		for _, r := range t.rows {
			if r.name == nameOurs && r.problem == "" {
				cpu, spread = fmt.Sprintf("%.1f", r.cpu), " ± "+percent(r.spread, r.rounds)
			}
			if note := t.note(r); note != "" {
				notes = append(notes, r.name+" "+note)
			}
			if r.problem != "" {
				notes = append(notes, fmt.Sprintf("%s, %s: INVALID: %s", t.work, r.name, r.problem))
			}
		}
		fmt.Fprintf(&b, "| %s | %s%s | %s |", named(t.work).title, cpu, spread, t.ratio(nameOurs, nameFloor))
		peers(func(name string) { fmt.Fprintf(&b, " %s |", t.ratio(name, nameOurs)) })
		b.WriteString("\n")
	}
	if len(notes) > 0 {
		fmt.Fprintf(&b, "\nNot quite the same: %s.\n", strings.Join(notes, "; "))
	}
	// The same ones are left out of all that is about TLS.
	if i := slices.IndexFunc(tables, func(t table) bool { return len(t.leftOut) > 0 }); i >= 0 {
		fmt.Fprintf(&b, "\nBy TLS there is no figure of %s: not set up for it here.\n", strings.Join(tables[i].leftOut, ", "))
	}
	if calls != "" {
		fmt.Fprintf(&b, "\nSystem calls of ours for each hit of 1 KiB (`strace -f -c`): %s.\n", calls)
	}
	return b.String()
}

// machine says what this is, as far as it matters.
func machine() string {
	model := "processor of unknown make"
	text, _ := os.ReadFile("/proc/cpuinfo") // unreadable: then that is unknown
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			model = strings.TrimSpace(strings.TrimLeft(name, " \t:"))
			break
		}
	}
	var u syscall.Utsname
	kernel := "Linux"
	if syscall.Uname(&u) == nil {
		var release []byte
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			release = append(release, byte(c))
		}
		kernel += " " + string(release)
	}
	return fmt.Sprintf("%d CPUs of an %s, %s, %s", runtime.NumCPU(), model, kernel, runtime.Version())
}
