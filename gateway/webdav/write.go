package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/internal/conduit"
)

// cleanup is how long a Put that failed tries to remove what it wrote.
const cleanup = 5 * time.Second

// Put writes body to a new name and moves it to name. See the package's comment for
// what holds when others write too. The Info is what a HEAD says afterwards if its
// entity tag is one that the answer to the PUT or the MOVE had, and empty otherwise: then
// it might be of what another wrote since.
func (s *Source) Put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (gateway.Info, error) {
	tags, err := s.put(ctx, name, body, size, fields, only)
	if err != nil {
		return gateway.Info{}, s.wrong(name, err)
	}
	o, err := s.open(ctx, name, gateway.Want{})
	if err != nil {
		return gateway.Info{}, nil // it is written
	}
	if _, strong := o.state.strong(); !strong || !slices.Contains(tags, o.state.tag) {
		return gateway.Info{}, nil
	}
	return o.Info(), nil
}

// put returns the entity tags that the answers to the PUT and the MOVE have, maybe empty.
func (s *Source) put(ctx context.Context, name string, body io.Reader, size int64, fields http.Header, only gateway.If) (tags []string, err error) {
	if name == "" {
		return nil, errFolder
	}
	if err := check(name); err != nil {
		return nil, err
	}
	exists, err := s.writable(ctx, name, only)
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := s.folder(ctx, parent(name)); err != nil {
			return nil, err
		}
	}
	temporary := gateway.NewDraft(name)
	put, err := s.upload(ctx, temporary, body, size, fields.Get("Content-Type"))
	if err == nil && only.Version != "" {
		_, err = s.writable(ctx, name, only)
	}
	var moved string
	if err == nil {
		moved, err = s.move(ctx, temporary, name, only)
	}
	if err != nil {
		s.discard(ctx, temporary)
	}
	return []string{put, moved}, err
}

// writable fails unless name is an object or nothing, as only says.
func (s *Source) writable(ctx context.Context, name string, only gateway.If) (exists bool, err error) {
	e, err := s.stat(ctx, name, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && only.Version != "":
		return false, gateway.ErrConflict
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case e.folder:
		return false, errFolder
	case only.Absent:
		return false, gateway.ErrConflict
	case only.Version == "":
		return true, nil
	}
	o, err := s.open(ctx, name, gateway.Want{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, gateway.ErrConflict
	case err != nil:
		return false, err
	case o.folder || o.info.Version != only.Version:
		return false, gateway.ErrConflict
	}
	return true, nil
}

// folder makes a folder and those that it is in, where they are not there. The root is
// never made.
func (s *Source) folder(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	code, err := s.mkcol(ctx, name)
	if err == nil && code == http.StatusConflict { // what it is in is not there
		if err := s.folder(ctx, parent(name)); err != nil {
			return err
		}
		_, err = s.mkcol(ctx, name)
	}
	return err
}

// mkcol makes a folder. That it is there already, 405, is no error; whether it
// is one shows when something is put into it.
func (s *Source) mkcol(ctx context.Context, name string) (int, error) {
	resp, err := s.do(ctx, ask{method: "MKCOL", name: name, folder: true})
	if err != nil {
		return 0, err
	}
	done(resp)
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK, http.StatusMethodNotAllowed, http.StatusConflict:
		return resp.StatusCode, nil
	}
	return 0, fmt.Errorf("MKCOL of %q: %w", name, refused(resp))
}

// upload writes size octets of r. The server is asked first whether it wants them
// (Expect): so r is not begun in vain, and the server has begun once r is read.
func (s *Source) upload(ctx context.Context, name string, r io.Reader, size int64, kind string) (tag string, err error) {
	b := conduit.New(r, size)
	defer context.AfterFunc(ctx, func() { b.GiveUp(ctx.Err()) })()
	a := ask{method: http.MethodPut, name: name, body: b, size: size, header: http.Header{"Expect": {"100-continue"}}}
	if kind != "" {
		a.header.Set("Content-Type", kind)
	}
	if size == 0 {
		if _, err := io.Copy(io.Discard, b); err != nil {
			return "", err
		}
		a.body = http.NoBody
		a.header.Del("Expect")
	}
	resp, err := s.do(ctx, a)
	failed := b.Finish(ctx)
	if err != nil {
		if failed != nil && !errors.Is(failed, conduit.ErrEarly) {
			err = failed // it is why the request failed
		}
		return "", err
	}
	done(resp)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return resp.Header.Get("ETag"), failed
	}
	return "", fmt.Errorf("PUT of %q: %w", name, refused(resp))
}

// move gives an object its name.
func (s *Source) move(ctx context.Context, from, to string, only gateway.If) (tag string, err error) {
	overwrite := "T"
	if only.Absent {
		overwrite = "F"
	}
	resp, err := s.do(ctx, ask{method: "MOVE", name: from, header: http.Header{"Destination": {s.url(to, false).String()}, "Overwrite": {overwrite}}})
	if err != nil {
		return "", err
	}
	done(resp)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return resp.Header.Get("ETag"), nil
	case http.StatusPreconditionFailed:
		return "", gateway.ErrConflict
	}
	return "", fmt.Errorf("MOVE from %q: %w", from, refused(resp))
}

// discard removes what a Put that failed wrote. The server may not have noticed yet
// that the upload is over, and keeps it locked.
func (s *Source) discard(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		resp, err := s.do(ctx, ask{method: http.MethodDelete, name: name})
		if err != nil {
			return
		}
		done(resp)
		if resp.StatusCode != http.StatusLocked {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// Delete removes an object, by DELETE with If-Match if only has a version that is an
// entity tag.
func (s *Source) Delete(ctx context.Context, name string, only gateway.If) error {
	return s.wrong(name, s.remove(ctx, name, only))
}

func (s *Source) remove(ctx context.Context, name string, only gateway.If) error {
	if name == "" {
		return errFolder
	}
	if err := check(name); err != nil {
		return err
	}
	e, err := s.stat(ctx, name, false)
	switch {
	case err != nil:
		return err
	case e.folder:
		return errFolder
	case only.Absent:
		return gateway.ErrConflict
	}
	a := ask{method: http.MethodDelete, name: name, header: http.Header{}}
	if only.Version != "" {
		o, err := s.open(ctx, name, gateway.Want{})
		switch {
		case err != nil:
			return err
		case o.folder || o.info.Version != only.Version:
			return gateway.ErrConflict
		}
		if tag, ok := o.state.strong(); ok {
			a.header.Set("If-Match", `"`+tag+`"`)
		}
	}
	resp, err := s.do(ctx, a)
	if err != nil {
		return err
	}
	done(resp)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return nil
	case http.StatusAccepted: // it will be done, or not
		_, err := s.stat(ctx, name, false)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil:
			err = fmt.Errorf("the server has not removed it yet: %w", gateway.ErrUnavailable)
		}
		return err
	case http.StatusPreconditionFailed:
		return gateway.ErrConflict
	}
	return refused(resp)
}
