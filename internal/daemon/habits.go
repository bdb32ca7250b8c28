package daemon

import (
	"net/http"
)

// habits has clients purge by the methods that others know, if they may.
func (d *Daemon) habits(next http.Handler) http.Handler {
	return next
}
