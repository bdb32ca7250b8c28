package ftp

import (
	"fmt"
	"io/fs"
	"strings"
)

// control tells whether r ends a command, or is otherwise not part of a name.
func control(r rune) bool { return r < ' ' || r == 0x7f }

// check refuses names that could mean something else to a server: a line end is another
// command, the octet 255 begins one of Telnet's, which some servers take out; a
// backslash separates, and blanks and dots at the end are nothing, on others.
func check(name string) error {
	if strings.ContainsFunc(name, control) || strings.IndexByte(name, 255) >= 0 {
		return fmt.Errorf("a control character: %w", fs.ErrNotExist)
	}
	if name == "" {
		return nil
	}
	for s := range strings.SplitSeq(name, "/") {
		for part := range strings.SplitSeq(s, `\`) {
			if strings.Trim(part, " .") == "" && (part != "" || s == "") {
				return fmt.Errorf("a segment %q: %w", s, fs.ErrNotExist)
			}
		}
	}
	return nil
}

// split returns the folder of a name, and its last segment.
func split(name string) (folder, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// below is the name or path of base in a folder.
func below(folder, base string) string {
	if folder == "" {
		return base
	}
	return strings.TrimSuffix(folder, "/") + "/" + base
}
