package webhdfs_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func (c *cluster) text(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.files[path]; f != nil {
		return string(f.octets)
	}
	return ""
}

// TestPutThatFailsLeavesTheOldObject checks each step that may be refused.
func TestPutThatFailsLeavesTheOldObject(t *testing.T) {
	quota := func(w http.ResponseWriter) { (&exception{403, "DSQuotaExceededException", "quota"}).send(w) }
	for what, x := range map[string]struct {
		op, node string
		answer   func(http.ResponseWriter)
		is       error
	}{
		"name node refuses":      {"CREATE", "name", quota, gateway.ErrFull},
		"no redirect":            {"CREATE", "name", func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated) }, nil},
		"data node refuses":      {"CREATE", "data", quota, gateway.ErrFull},
		"data node does nothing": {"CREATE", "data", func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated) }, nil},
		"no rename":              {"RENAME", "name", quota, gateway.ErrFull},
		"renameoptions unknown":  {"RENAME", "name", func(w http.ResponseWriter) { answer(w, map[string]bool{"boolean": false}) }, nil},
	} {
		c := newCluster(t)
		c.put("/d/a", []byte("old"), gatewaytest.Past())
		c.before = func(w http.ResponseWriter, r *http.Request) bool {
			here := r.Host == strings.TrimPrefix(c.data.URL, "http://") == (x.node == "data")
			if !here || r.URL.Query().Get("op") != x.op {
				return false
			}
			x.answer(w)
			return true
		}
		_, err := cleared(t, c).Put(t.Context(), "d/a", strings.NewReader(strings.Repeat("new", 100_000)), 300_000, nil, gateway.If{})
		if err == nil || x.is != nil && !errors.Is(err, x.is) {
			t.Errorf("%s: %v", what, err)
		}
		if all := c.below("/d"); !slices.Equal(all, []string{"/d/a"}) || c.text("/d/a") != "old" {
			t.Errorf("%s: %q", what, all)
		}
	}
}

// TestADataNodeThatTakesLess checks that what is there is as long as what was sent.
func TestADataNodeThatTakesLess(t *testing.T) {
	c := newCluster(t)
	c.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("namenoderpcaddress") {
			return false
		}
		b, _ := io.ReadAll(r.Body)
		c.put(pathOf(r), b[:len(b)-1], gatewaytest.Past())
		w.WriteHeader(http.StatusCreated)
		return true
	}
	s := cleared(t, c)
	for _, size := range []int64{3, -1} {
		if _, err := s.Put(t.Context(), "a", strings.NewReader("new"), size, nil, gateway.If{}); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	if all := c.below("/"); len(all) > 0 {
		t.Errorf("%q", all)
	}
}

// TestARenameIsDoneOnlyIfTheNameNodeSaysSo checks that JSON is no success by itself.
func TestARenameIsDoneOnlyIfTheNameNodeSaysSo(t *testing.T) {
	for said, done := range map[string]bool{
		"": true, `{"boolean": true}`: true,
		`{"boolean": false}`: false, `{"error": "maintenance"}`: false, `{"boolean": null}`: false, `{}`: false, `null`: false, `[]`: false,
	} {
		c := newCluster(t)
		c.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("op") != "RENAME" {
				return false
			}
			_, _ = io.WriteString(w, said)
			return true
		}
		if _, err := cleared(t, c).Put(t.Context(), "a", strings.NewReader("new"), 3, nil, gateway.If{}); (err == nil) != done {
			t.Errorf("%s: %v", said, err)
		}
	}
}

// TestAWriterThatComesBetween checks that what another writes during an upload is not
// replaced if a condition says so.
func TestAWriterThatComesBetween(t *testing.T) {
	c := newCluster(t)
	c.put("/a", []byte("old"), gatewaytest.Past())
	s := cleared(t, c)
	o, err := s.Open(t.Context(), "a", gateway.Want{})
	if err != nil {
		t.Fatal(err)
	}
	c.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("op") == "CREATE" {
			c.put("/a", []byte("other"), gatewaytest.Past())
		}
		return false
	}
	if _, err := s.Put(t.Context(), "a", strings.NewReader("new"), 3, nil, gateway.If{Version: o.Info().Version}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("replaced: %v", err)
	}
	c.remove("/a")
	if _, err := s.Put(t.Context(), "a", strings.NewReader("new"), 3, nil, gateway.If{Absent: true}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("made: %v", err)
	}
	if all := c.below("/"); !slices.Equal(all, []string{"/a"}) || c.text("/a") != "other" {
		t.Errorf("%q", all)
	}
	if info, err := s.Put(t.Context(), "a", strings.NewReader("new"), 3, nil, gateway.If{}); err != nil || info.Size != 3 || info.Version == "" {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestDeleteIsOfObjects(t *testing.T) {
	c := newCluster(t)
	c.put("/d/a", []byte("old"), gatewaytest.Past())
	c.put("/none/a", []byte("old"), gatewaytest.Past())
	c.remove("/none/a")
	s := cleared(t, c)
	for _, name := range []string{"", "d", "none"} {
		if err := s.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := strings.Join(c.requests(), "\n"); strings.Contains(got, "DELETE") {
		t.Errorf("%s", got)
	}
	c.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			if r.URL.Query().Get("recursive") != "false" {
				t.Errorf("%s", r.URL)
			}
			c.remove("/d/a") // somebody else does
		}
		return false
	}
	if err := s.Delete(t.Context(), "d/a", gateway.If{Absent: true}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("%v", err)
	}
	if err := s.Delete(t.Context(), "d/a", gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A stuck body never comes. It tells when it is waited for.
type stuck struct{ asked, end chan struct{} }

func (b stuck) Read([]byte) (int, error) {
	close(b.asked)
	<-b.end
	return 0, io.EOF
}

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	c := newCluster(t)
	body := stuck{make(chan struct{}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-body.asked
		cancel()
	}()
	if _, err := cleared(t, c).Put(ctx, "a", body, 3, nil, gateway.If{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(body.end)
	if all := c.below("/"); len(all) > 0 {
		t.Errorf("%q", all)
	}
}
