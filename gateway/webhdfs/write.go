package webhdfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// cleanup is how long a Put that failed tries to remove what it wrote.
const cleanup = 5 * time.Second

// Put writes body to a new name and renames it. See the package's comment for what holds
// when others write too. The Info is of the file that was written.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, _ http.Header, only gateway.If) (gateway.Info, error) {
	st, err := s.put(ctx, name, body, size, only)
	if err != nil {
		return gateway.Info{}, s.wrong(name, err)
	}
	return s.info(st), nil
}

func (s *Source) put(ctx context.Context, name string, body io.Reader, size int64, only gateway.If) (status, error) {
	exists, err := s.writable(ctx, name, only)
	if err != nil {
		return status{}, err
	}
	if dir := parent(name); !exists && dir != "" {
		if err := s.change(ctx, http.MethodPut, "MKDIRS", dir, nil); err != nil {
			return status{}, err
		}
	}
	temporary := gateway.NewDraft(name)
	st, err := s.create(ctx, temporary, body, size)
	if err == nil && only.Version != "" {
		_, err = s.writable(ctx, name, only)
	}
	if err == nil {
		err = s.rename(ctx, temporary, name, only)
	}
	if err != nil {
		s.discard(ctx, temporary)
	}
	return st, err
}

// writable fails unless name is a file or nothing, as only says.
func (s *Source) writable(ctx context.Context, name string, only gateway.If) (exists bool, err error) {
	if err := check(name); err != nil {
		return false, err
	}
	st, err := s.status(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && only.Version != "":
		return false, gateway.ErrConflict
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case st.folder():
		return false, errFolder
	case only.Absent, only.Version != "" && s.info(st).Version != only.Version:
		return false, gateway.ErrConflict
	}
	return true, nil
}

// create writes a new file, and tells what it is.
func (s *Source) create(ctx context.Context, name string, r io.Reader, size int64) (status, error) {
	resp, err := s.ask(ctx, http.MethodPut, "CREATE", name, url.Values{"overwrite": {"false"}})
	if err != nil {
		return status{}, err
	}
	if resp.StatusCode != http.StatusTemporaryRedirect {
		defer done(resp)
		return status{}, refused(resp)
	}
	done(resp)
	u, err := s.redirected(resp)
	if err != nil {
		return status{}, err
	}
	sent, err := s.upload(ctx, u, r, size)
	if err != nil {
		return status{}, err
	}
	st, err := s.status(ctx, name)
	if err == nil && st.Length != sent {
		err = fmt.Errorf("the data node took %d octets of %d: %w", st.Length, sent, gateway.ErrUnavailable)
	}
	return st, err
}

// upload sends size octets of r to a data node. That is asked first whether it wants
// them (Expect): so r is not begun in vain.
func (s *Source) upload(ctx context.Context, u string, r io.Reader, size int64) (sent int64, err error) {
	counted := &counter{r: r}
	b := conduit.New(counted, size)
	defer context.AfterFunc(ctx, func() { b.GiveUp(ctx.Err()) })()
	var body io.Reader = b
	if size == 0 {
		if _, err := io.Copy(io.Discard, b); err != nil {
			return 0, err
		}
		body = http.NoBody
	}
	resp, err := s.send(ctx, http.MethodPut, u, body, size)
	failed := b.Finish(ctx)
	if err != nil {
		if failed != nil && !errors.Is(failed, conduit.ErrEarly) {
			err = failed // it is why the request failed
		}
		return 0, err
	}
	defer done(resp)
	if resp.StatusCode != http.StatusCreated {
		return 0, refused(resp)
	}
	if failed != nil {
		return 0, failed
	}
	return counted.n, nil
}

// A counter counts the octets that are read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// rename gives a file its name. Without renameoptions, HDFS would move it into
// a folder of that name.
func (s *Source) rename(ctx context.Context, from, to string, only gateway.If) error {
	options := "OVERWRITE"
	if only.Absent {
		options = "NONE"
	}
	err := s.change(ctx, http.MethodPut, "RENAME", from, url.Values{"destination": {s.path(to)}, "renameoptions": {options}})
	if errors.Is(err, errNotDone) && only.Absent {
		return gateway.ErrConflict
	}
	return err
}

// errNotDone is for {"boolean": false}.
var errNotDone = errors.New("the name node did not do it, and does not say why")

// A verdict is what a change is answered by: {"boolean": true}, or nothing. Something
// else is no answer of WebHDFS.
type verdict bool

func (v *verdict) UnmarshalJSON(text []byte) error {
	var said struct {
		Boolean *bool `json:"boolean"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return err
	}
	if said.Boolean == nil {
		return errors.New("it has no boolean")
	}
	*v = verdict(*said.Boolean)
	return nil
}

// change asks the name node for what has no answer, or a verdict.
func (s *Source) change(ctx context.Context, method, op, name string, params url.Values) error {
	resp, err := s.ask(ctx, method, op, name, params)
	if err != nil {
		return err
	}
	did := verdict(true)
	if err := reply(resp, &did); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if !did {
		return fmt.Errorf("%s: %w", op, errNotDone)
	}
	return nil
}

// discard removes what a Put that failed wrote.
func (s *Source) discard(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	_ = s.change(ctx, http.MethodDelete, "DELETE", name, url.Values{"recursive": {"false"}}) // there is nobody to tell
}

// Delete removes a file.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	return s.wrong(name, s.remove(ctx, name, only))
}

func (s *Source) remove(ctx context.Context, name string, only gateway.If) error {
	st, err := s.status(ctx, name)
	switch {
	case err != nil:
		return err
	case st.folder():
		return errFolder
	case only.Absent, only.Version != "" && s.info(st).Version != only.Version:
		return gateway.ErrConflict
	}
	err = s.change(ctx, http.MethodDelete, "DELETE", name, url.Values{"recursive": {"false"}})
	if errors.Is(err, errNotDone) {
		return fs.ErrNotExist // somebody else removed it
	}
	return err
}
