package larder_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/larderhq/larder"
)

// docs/policies.md has every field, and every test that it names is there.
func TestPoliciesPage(t *testing.T) {
	octets, err := os.ReadFile("docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(octets)
	for prefix, kind := range map[string]reflect.Type{"": reflect.TypeFor[larder.Policy](), "ESI.": reflect.TypeFor[larder.ESI]()} {
		for i := range kind.NumField() {
			if name := "`" + prefix + kind.Field(i).Name + "`"; !strings.Contains(page, name) {
				t.Errorf("the page lacks %s", name)
			}
		}
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Example|Benchmark)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		octets, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(octets, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`((?:Test|Example|Benchmark)\\w+)`").FindAllStringSubmatch(page, -1) {
		if !there[m[1]] {
			t.Errorf("the page names %s, which is not there", m[1])
		}
	}
}
