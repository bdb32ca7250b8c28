package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/larderhq/larder"

// layers is the statement of policy: a package may import those of its own
// module that stand in an earlier layer, and none else. What stands in one
// layer does not know each other.
var layers = [][]string{
	{"internal/field", "internal/flight", "internal/interim", "store", "internal/evict", "internal/vfs", "store/internal/flow", "store/disk/internal/index", "internal/canon"},
	{"internal/rules", "store/memory", "store/disk", "store/blobs", "store/storetest", "internal/observe", "internal/purge", "internal/simulate", "internal/encode", "internal/esi", "internal/warm", "internal/certs", "internal/certs/certstest"},
	{"internal/message", "internal/standing", "store/tier"},
	{"internal/engine", "internal/page", "internal/habit", "internal/h2"},
	{"internal/origin", "internal/local", "gateway", "internal/front"},
	{"gateway/internal/conduit"},
	{"gateway/file", "gateway/archive", "gateway/s3", "gateway/sftp", "gateway/ftp", "gateway/webdav", "gateway/webhdfs", "gateway/gatewaytest", "internal/admin", "internal/front3"},
	{"internal/storage"},
	{"", "internal/sim"},
	{"internal/daemon"},
	{"internal/cli"},
	{"cmd/larder"},
	{"bench/rig"},
	{"conformance/face", "conformance/h2spec", "conformance/browser", "conformance/certificate", "bench", "bench/origin", "bench/replay", "bench/disk", "bench/ceiling", "bench/crash", "bench/goroutines", "bench/latency", "bench/clients", "bench/desync", "bench/seed", "bench/tiers", "bench/gateway", "bench/purge", "bench/floods", "internal/house"},
}

// bans are finer than the layers. A pattern ending in /... bans the folder.
var bans = []struct{ importer, banned, why string }{
	{"internal/evict", "time", "pure: who leaves depends on what was asked for, not on when"},
	{"internal/evict", "io", "it names victims and does nothing"},
	{"internal/evict", "math/rand/v2", "chance comes in by the door"},
	{"internal/evict", module + "/store", "a policy knows slots, not entries"},
	{"internal/vfs", module + "/...", "files are files"},
	{"internal/field", "net/http", "text to values, whoever carries the text"},
	{"internal/field", "os", "pure: the outcome depends on the arguments alone"},
	{"internal/field", "sync", "pure: nothing is shared"},
	{"internal/rules", "context", "rules decide, they do not wait"},
	{"internal/rules", "io", "rules decide, they do not do"},
	{"internal/rules", "os", "rules decide, they do not do"},
	{"internal/rules", "net", "rules decide, they do not do"},
	{"internal/rules", "net/http", "rules know HTTP by its texts, not by Go's types"},
	{"internal/rules", "log", "the Decision says why"},
	{"internal/rules", "log/slog", "the Decision says why"},
	{"internal/rules", "sync", "pure: nothing is shared"},
	{"internal/rules", "math/rand", "chance comes in by the door"},
	{"internal/rules", "math/rand/v2", "chance comes in by the door"},
	{"internal/rules", "crypto/rand", "chance comes in by the door"},
	{"store", "net/http", "a store knows no HTTP"},
	{"store", "time", "a store knows no freshness"},
	{"store/memory", "net/http", "a store knows no HTTP"},
	{"store/memory", module + "/internal/...", "a store is judged by its contract alone; a policy it may have"},
	{"store/disk", "net/http", "a store knows no HTTP"},
	{"store/disk", module + "/internal/...", "a store is judged by its contract alone; files it may have"},
	{"store/internal/flow", module + "/...", "octets are octets"},
	{"store/blobs", "net/http", "a store knows no HTTP"},
	{"store/blobs", module + "/internal/...", "a store is judged by its contract alone"},
	{"store/tier", "net/http", "a store knows no HTTP"},
	{"store/tier", module + "/internal/...", "a store is judged by its contract alone"},
	{"store/storetest", module + "/internal/...", "whoever writes a store must be able to run it"},
	{"internal/flight", "net/http", "a fetch is whatever the engine makes it"},
	{"internal/canon", "os", "no I/O at the door"},
	{"internal/canon", module + "/internal/rules", "a request is cleaned before anything is decided"},
	{"internal/message", "context", "no I/O"},
	{"internal/observe", module + "/internal/engine", "an Event is told, it does not ask"},
	{"internal/engine", "net", "the engine meets the network through a RoundTripper"},
	{"internal/engine", "os", "the engine has no machine"},
	{"internal/engine", module + "/store/memory", "the engine knows the contract, not the stores"},
	{"internal/engine", module + "/internal/origin", "an origin is a RoundTripper"},
	{"internal/origin", module + "/internal/engine", "an origin serves whoever asks"},
	{"internal/origin", module + "/internal/rules", "an origin does not cache"},
	{"internal/origin", module + "/store/...", "an origin does not cache"},
	{"gateway", module + "/internal/...", "a gateway stands on its own, also behind other caches"},
	{"gateway", module + "/store/...", "a gateway does not cache"},
	{"gateway/file", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/archive", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/s3", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/sftp", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/ftp", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/webdav", module + "/internal/...", "a backend knows its contract alone"},
	{"gateway/webhdfs", module + "/internal/...", "a backend knows its contract alone"},
	{"internal/admin", module + "/internal/engine", "the API tells, the daemon does"},
	{"", "os", "a library has no machine"},
	{"", "flag", "a library has no command line"},
	{"", module + "/internal/origin", "the library asks whom it is given"},
	{"cmd/larder", module + "/internal/daemon", "the program is its command line"},
}

// exempt from the bans of whole folders.
var exempt = map[string]string{
	"store/memory": module + "/internal/evict",
	"store/disk":   module + "/internal/vfs",
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func layerOf(path string) int {
	name := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, name) })
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		own := layerOf(p.ImportPath)
		if own < 0 {
			t.Errorf("%s is in no layer: say in imports_test.go where it belongs", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			if other := layerOf(imported); other >= own {
				t.Errorf("%s imports %s, which is not in an earlier layer", p.ImportPath, imported)
			}
		}
	}
}

func TestBans(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")] = p.Imports
	}
	for _, ban := range bans {
		list, ok := imports[ban.importer]
		if !ok {
			t.Errorf("there is no package %q: mend the ban", ban.importer)
		}
		for _, imported := range list {
			prefix, folder := strings.CutSuffix(ban.banned, "...")
			if imported == ban.banned || folder && strings.HasPrefix(imported, prefix) && imported != exempt[ban.importer] {
				t.Errorf("%s must not import %s: %s", ban.importer, imported, ban.why)
			}
		}
	}
}
