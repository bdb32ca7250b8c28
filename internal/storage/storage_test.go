package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "hunter2"

// No address gives its password away, readable or not.
func TestSecretsAreNotShown(t *testing.T) {
	for _, a := range []string{
		"sftp://me:hunter2@host/x", "ftp://me:hunter2/x@host/", "ftp://me:hunter2?x@host/", "sftp:me:hunter2@host/", "webdav:https://me:hunter2@host/x",
		"webdavs://me:hunter2@host/x", "s3://b?secret=hunter2", "rclone::sftp,host=x,pass=hunter2:/p", "http://me:hunter2@host/", "s3://%zzhunter2",
	} {
		if s := Show(a); strings.Contains(s, secret) || s == "" {
			t.Errorf("%s is shown as %s", a, s)
		}
		if n := Name(a); strings.Contains(n, secret) {
			t.Errorf("%s is named %s", a, n)
		}
		if _, err := Known().Open(a); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// The same storage has one name, and no other has it.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("site", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{"site", "./site", "file:site", filepath.Join(dir, "site"), "file://" + filepath.Join(dir, "site"), "file://localhost" + filepath.Join(dir, "site")} {
		if Name(same) != filepath.Join(dir, "site") {
			t.Errorf("%s is %s", same, Name(same))
		}
		src, err := Known().Open(same)
		if err != nil {
			t.Errorf("%s: %v", same, err)
			continue
		}
		src.Close()
	}
	if Name("sftp://me:one@host/x") != Name("sftp://me:two@host/x") || Name("sftp://me@host/x") == Name("sftp://you@host/x") {
		t.Error("users tell storage apart, and passwords do not")
	}
	here := Name("s3://b")
	t.Setenv("AWS_ENDPOINT_URL", "http://elsewhere.example")
	if Name("s3://b") == here || here == Name("s3://c") {
		t.Error("two buckets have one name")
	}
}
