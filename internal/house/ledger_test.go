package house

import (
	"bufio"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A requirement is one row of spec/requirements.tsv.
type requirement struct {
	line                     int
	id, section, level, rule string
	tests                    []string // package/path.TestName; larder.TestName for the root
	note                     string   // where there are none: why
}

func ledger(t *testing.T) []requirement {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "spec", "requirements.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []requirement
	for in, line := bufio.NewScanner(f), 1; in.Scan(); line++ {
		cols := strings.Split(in.Text(), "\t")
		if line == 1 {
			if got := strings.Join(cols, " "); got != "id section level rule test" {
				t.Fatalf("the columns are %q", got)
			}
			continue
		}
		if len(cols) != 5 {
			t.Fatalf("line %d has %d columns, want 5", line, len(cols))
		}
		r := requirement{line: line, id: cols[0], section: cols[1], level: cols[2], rule: cols[3]}
		if cols[4] == "later" || strings.HasPrefix(cols[4], "not done: ") {
			r.note = cols[4]
		} else {
			for name := range strings.SplitSeq(cols[4], ",") {
				r.tests = append(r.tests, strings.TrimSpace(name))
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// binding tells the sections in which a MUST without a test fails the build.
func binding(section string) bool {
	switch section {
	case "18", "19", "23", "24", "26", "27", "28":
		return false
	}
	return true
}

// packageOf is what the ledger calls the package of a file.
func packageOf(path string) string {
	if dir := filepath.ToSlash(filepath.Dir(path)); dir != "." {
		return dir
	}
	return "larder"
}

func TestEveryRequirementHasItsTest(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") && !strings.HasPrefix(s.path, "store/storetest/") {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				exists[packageOf(s.path)+"."+f.Name.Name] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, r := range ledger(t) {
		where := fmt.Sprintf("spec/requirements.tsv:%d: %s", r.line, r.id)
		switch {
		case seen[r.id]:
			t.Errorf("%s stands twice", where)
		case r.level != "MUST" && r.level != "SHOULD" && r.level != "MAY":
			t.Errorf("%s has level %q", where, r.level)
		case r.rule == "":
			t.Errorf("%s says nothing", where)
		case len(r.tests) == 0 && r.level == "MUST" && binding(r.section):
			t.Errorf("%s is a MUST and has no test (%s)", where, r.note)
		case r.note == "later" && binding(r.section) && r.level == "SHOULD":
			t.Errorf("%s: later is no reason in section %s; write a test or \"not done: why\"", where, r.section)
		}
		seen[r.id] = true
		for _, name := range r.tests {
			if !exists[name] {
				t.Errorf("%s names %s, which does not exist", where, name)
			}
		}
	}
	if len(seen) < 300 {
		t.Errorf("only %d requirements: the ledger is cut short", len(seen))
	}
}
