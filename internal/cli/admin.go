package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/larderhq/larder/internal/admin"
	"github.com/larderhq/larder/internal/purge"
)

// adminFlag says which Larder is asked.
type adminFlag struct {
	Admin []string `sep:"none" placeholder:"ADDR" help:"The admin API of the Larder: the path of its socket, or host:port or\nhttps://host:port with the token in the environment as\nLARDER_ADMIN_TOKEN. By default that of larder serve on port 8000 on\nthis machine, by this user."`
	trust
	JSON bool `help:"Print answers as JSON, one a line."`
}

// place is where it is.
func (a *adminFlag) place() (string, error) {
	switch len(a.Admin) {
	case 0:
	case 1:
		return a.Admin[0], nil
	default:
		return "", usagef("--admin is given %d times: one Larder is asked at a time; larder purge --via names those that are asked before it", len(a.Admin))
	}
	where, err := admin.Place("8000", false)
	if err != nil {
		return "", usagef("%v", err)
	}
	return where, nil
}

// client is who asks it.
func (a *adminFlag) client() (*admin.Client, error) {
	where, err := a.place()
	if err != nil {
		return nil, err
	}
	trust, err := a.config(strings.HasPrefix(where, "https://"))
	if err != nil {
		return nil, err
	}
	return a.clientOf("admin", where, trust)
}

// clientOf asks at the place that a flag names.
func (a *adminFlag) clientOf(flag, where string, trust *tls.Config) (*admin.Client, error) {
	token := os.Getenv("LARDER_ADMIN_TOKEN")
	if err := admin.Valid(where, token, a.Cert != ""); err != nil {
		return nil, usagef("--%s: %v", flag, err)
	}
	return admin.NewClient(where, token, trust), nil
}

// interrupted is a context that ends at Ctrl-C.
func interrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

// await returns when there is no more to come of a purge.
func await(ctx context.Context, c *admin.Client, r purge.Receipt) (purge.Receipt, error) {
	const turn = 30 // seconds
	id := r.ID
	var err error
	for err == nil && (r.State == purge.Scheduled || r.State == purge.InForce) {
		r, err = c.Receipt(ctx, id, turn)
	}
	if err != nil && ctx.Err() != nil {
		return r, fmt.Errorf("nobody waits any more, but the purge goes on: larder purges %v tells what comes of it", id)
	}
	return r, err
}

// refusal says what to do about an answer that did not come, or is no success: it is a mistake
// of whoever typed the command if the other says so.
func refusal(err error) error {
	var r *admin.Refusal
	var none *admin.Unreachable
	switch {
	case errors.As(err, &none) && errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: it is another user's: ask as that user", err)
	case errors.As(err, &none) && strings.HasPrefix(none.Where, "https://"):
		return fmt.Errorf("%w: start larder serve there with --admin-cert; --ca names whose certificates are believed, --cert one of ours", err)
	case errors.As(err, &none):
		return fmt.Errorf("%w: start larder serve, or name with --admin where it is", err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; larder purges tells whether it was taken")
	case !errors.As(err, &r):
		return err
	}
	err = errors.New(strings.Map(visible, r.Detail))
	switch r.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
		return usageError{err}
	case http.StatusUnauthorized:
		return fmt.Errorf("%w (larder sends what LARDER_ADMIN_TOKEN holds)", err)
	}
	return err
}

func (a *adminFlag) print(w io.Writer, v any, text func()) error {
	if !a.JSON {
		text()
		return nil
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
