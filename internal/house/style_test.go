package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// A source is one parsed Go file of the module.
type source struct {
	path string // from the root, with slashes
	file *ast.File
	fset *token.FileSet
}

func (s source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, source{filepath.ToSlash(rel), file, fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// calls reports each call of pkg.name in a file.
func calls(s source, pkg, name string, found func(n ast.Node)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				found(n)
			}
		}
		return true
	})
}

func TestPureCodeHasNoClock(t *testing.T) {
	for _, s := range sources(t) {
		for _, pure := range []string{"internal/field/", "internal/rules/", "internal/canon/", "internal/message/", "internal/flight/", "internal/evict/"} {
			if strings.HasPrefix(s.path, pure) && !strings.HasSuffix(s.path, "_test.go") {
				calls(s, "time", "Now", func(n ast.Node) { t.Errorf("%s reads the clock: now is an argument there", s.at(n)) })
			}
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		inBubble := false
		for _, imp := range s.file.Imports {
			inBubble = inBubble || imp.Path.Value == `"testing/synctest"` || imp.Path.Value == `"`+module+`/internal/sim"`
		}
		if !inBubble {
			calls(s, "time", "Sleep", func(n ast.Node) { t.Errorf("%s sleeps: wait for the event, or use testing/synctest", s.at(n)) })
		}
	}
}

func TestNamesOfPackages(t *testing.T) {
	for _, s := range sources(t) {
		switch strings.TrimSuffix(s.file.Name.Name, "_test") {
		case "util", "utils", "common", "helper", "helpers", "types", "manager", "misc":
			t.Errorf("%s: package %s says nothing of its one idea", s.path, s.file.Name.Name)
		}
	}
}

func TestExportedHasAComment(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown(d.Name.Name) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: %s has no comment", s.at(ts), ts.Name.Name)
					}
				}
			}
		}
	}
}

// exportedReceiver tells a function, or a method that others can call by name.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if index, ok := expr.(*ast.IndexExpr); ok {
		expr = index.X
	}
	id, ok := expr.(*ast.Ident)
	return ok && id.IsExported()
}

// wellKnown are methods whose interface says what they do.
func wellKnown(name string) bool {
	switch name {
	case "Error", "Unwrap", "String", "Close", "Read", "Write", "RoundTrip":
		return true
	}
	return false
}

func TestNoPathsOfAMachine(t *testing.T) {
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, path := range []string{"/work/", "/root/", "/home/"} {
			if strings.Contains(string(b), path) {
				t.Errorf("%s names %s, which is on one machine only", name, path)
			}
		}
	}
}
