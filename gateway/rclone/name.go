package rclone

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/lib/encoder"
)

// check refuses names that lead outside the remote's root or are none.
func (s *Source) check(name string) error {
	if name != "" && !s.safe(name) {
		return wrap(s.label, name, errName)
	}
	return nil
}

var errName = fmt.Errorf("no such name: %w", iofs.ErrNotExist)

// errRoot is for what only an object can be asked.
var errRoot = errors.Join(errors.New("the root is no object"), iofs.ErrPermission)

// safe looks at a name as rclone's backends do, too: they take some characters for what
// others stand for, "．．" for "..", and what they write instead depends
// on the backend and its configuration.
func (s *Source) safe(name string) bool {
	plain := strings.Split(name, "/")
	for i, segment := range plain {
		plain[i] = encoder.Standard.Decode(segment)
	}
	empty := s.flat && s.f.Features().DoubleSlash
	draft := strings.Contains("/"+name, "/"+gateway.Draft)
	return !draft && gateway.ValidName(name, empty) && gateway.ValidName(strings.Join(plain, "/"), empty)
}
