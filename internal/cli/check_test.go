package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larderhq/larder/internal/vfs"
	"github.com/larderhq/larder/store"
	"github.com/larderhq/larder/store/disk"
)

// keepOne returns a disk with one response on it, whose body is body.
func keepOne(t *testing.T, body string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	folder, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	s, err := disk.Open(disk.Options{Disks: []disk.Disk{{FS: folder, Size: 8 << 20}}, Segment: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), store.Key("key"), store.Head{Octets: []byte("head")}, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheckDisk(t *testing.T) {
	const body = "the body of this response"
	dir := keepOne(t, body)
	if code, out, msg := try("check", "disk", dir); code != 0 || msg != "" || !strings.Contains(out, "1 responses, 25B of bodies") || !strings.Contains(out, "nothing is damaged") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, msg)
	}

	file := filepath.Join(dir, "segments")
	octets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(octets), body)
	octets[at+3] ^= 1
	if err := os.WriteFile(file, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // to look changes nothing
		if code, out, msg := try("check", "disk", dir); code != 1 || !strings.Contains(out, "segments at ") || !strings.Contains(msg, "1 damaged places") {
			t.Errorf("damaged: exit code %d, stdout %q, stderr %q", code, out, msg)
		}
	}
	if code, out, msg := try("check", "disk", dir, "--repair"); code != 0 || msg != "" || !strings.Contains(out, "forgotten now") {
		t.Errorf("repair: exit code %d, stdout %q, stderr %q", code, out, msg)
	}
	if code, out, msg := try("check", "disk", dir); code != 0 || !strings.Contains(out, "0 responses") {
		t.Errorf("repaired: exit code %d, stdout %q, stderr %q", code, out, msg)
	}
}

func TestCheckWhatIsNoDisk(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"check", "disk", t.TempDir()}, "holds no disk of Larder's"},
		{[]string{"check", "disk", filepath.Join(t.TempDir(), "absent")}, "is no folder"},
		{[]string{"check"}, "larder check --help"},
		{[]string{"check", "disk"}, "needs a folder"},
	} {
		if code, out, msg := try(c.args...); code != 2 || out != "" || !strings.Contains(msg, c.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", c.args, code, out, msg, c.want)
		}
	}
}
