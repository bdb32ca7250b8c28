package admin

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Place is where the admin API of a server with that port is unless somebody says
// otherwise: a socket in the folder that the system has for this user, or in one of our
// own beside the temporary files. made says to make that folder if it is not there. The
// error says that it is somebody else's, or others can write into it.
func Place(port string, made bool) (string, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(os.TempDir(), "larder-"+strconv.Itoa(os.Getuid()))
		if made {
			if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
				return "", err
			}
		}
	}
	path := filepath.Join(dir, "larder-"+port+".sock")
	info, err := os.Lstat(dir)
	if err != nil {
		if !made {
			return path, nil // who asks there learns that nobody listens
		}
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode()&(fs.ModePerm&0o022) != 0 || ok && int(owner.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is not this user's alone: name a socket by --admin", dir)
	}
	return path, nil
}
