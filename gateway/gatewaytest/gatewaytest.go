// Package gatewaytest is the contract of gateway.Source as a test: each backend
// passes it, over a real server of its protocol.
package gatewaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larderhq/larder/gateway"
)

// A Storage is a backend over an empty root, and another way to the same root.
type Storage struct {
	Source gateway.Source

	// Put makes or replaces an object behind the Source's back, with the folders
	// it needs. The new version has the time of modification at, where the
	// storage lets it be set.
	Put func(t *testing.T, name string, octets []byte, at time.Time)

	// Remove removes an object behind the Source's back.
	Remove func(t *testing.T, name string)

	// Down makes the storage fail or hang up, and Up brings it back. Both may be nil.
	Down, Up func(t *testing.T)

	// Odd are names that the storage cannot hold, of those that are tried.
	Odd []string

	// Fixed says that nothing can be changed while the Source is open: an archive.
	// Its contents are Fill's.
	Fixed bool

	// Steady says that a Range of an open object goes on with the old version
	// when the object is replaced, as files do. Otherwise it has to fail.
	Steady bool
}

// past is when objects were made, so that their versions are certain.
var past = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// Fill is what is in the storage at the beginning of the tests that change nothing.
// Whoever creates a Fixed storage puts it there; for others Run does.
func Fill() map[string][]byte {
	return map[string][]byte{
		"a.txt":            []byte("hello, world\n"),
		"empty":            {},
		"dir/b.html":       []byte("<p>b"),
		"dir/sub/c.bin":    Octets(300_000, 1),
		"big.bin":          Octets(3<<20+17, 2),
		"sp ace/pl+us.txt": []byte("blank"),
		"odd/100%.txt":     []byte("percent"),
		"odd/q?d#e&f=g;h":  []byte("marks"),
		"odd/é–ü.txt":      []byte("utf-8"),
		"odd/[a]{b}'c\"":   []byte("brackets"),
		"odd/%2e%2e%2fx":   []byte("escaped"),
		"odd/-rf":          []byte("dash"),
		"odd/a:b":          []byte("colon"),
		"odd/trailing.":    []byte("dot"),
	}
}

// Past is the time of modification of what Fill says.
func Past() time.Time { return past }

// Octets returns n octets that look like chance and are the same for one seed.
func Octets(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b) // never fails
	return b
}

// Run runs the contract. create returns a new storage, empty but for Fill if Fixed; it
// cleans up by t.Cleanup, the Source excepted, which Run closes.
func Run(t *testing.T, create func(t *testing.T) *Storage) {
	open := func(t *testing.T) *suite {
		s := create(t)
		t.Cleanup(func() {
			if err := s.Source.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return &suite{Storage: s, content: Fill()}
	}
	for _, c := range []struct {
		name    string
		changes bool
		run     func(*suite, *testing.T)
	}{
		{"Read", false, (*suite).read},
		{"Missing", false, (*suite).missing},
		{"Ranges", false, (*suite).ranges},
		{"Wants", false, (*suite).wants},
		{"List", false, (*suite).list},
		{"Hostile", false, (*suite).hostile},
		{"Together", false, (*suite).together},
		{"GivenUp", false, (*suite).givenUp},
		{"Versions", true, (*suite).versions},
		{"ChangedBetween", true, (*suite).changedBetween},
		{"ChangedWithin", true, (*suite).changedWithin},
		{"Unavailable", true, (*suite).unavailable},
		{"Write", true, (*suite).write},
		{"WriteConditions", true, (*suite).conditions},
		{"WriteFails", true, (*suite).writeFails},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			if s.Fixed {
				if c.changes {
					return // nothing of it applies
				}
			} else {
				for _, name := range sorted(s.content) {
					if slices.Contains(s.Odd, name) {
						delete(s.content, name)
						continue
					}
					s.Put(t, name, s.content[name], past)
				}
			}
			c.run(s, t)
		})
	}
}

func sorted(m map[string][]byte) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

type suite struct {
	*Storage
	content map[string][]byte
}

func (s *suite) open(t *testing.T, name string, want gateway.Want) gateway.Object {
	t.Helper()
	o, err := s.Source.Open(t.Context(), name, want)
	if err != nil {
		t.Fatalf("Open %q: %v", name, err)
	}
	return o
}

// part reads one range of an object that is open.
func part(ctx context.Context, o gateway.Object, off, n int64) ([]byte, error) {
	r, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func (s *suite) all(t *testing.T, name string) ([]byte, gateway.Info, error) {
	t.Helper()
	o, err := s.Source.Open(t.Context(), name, gateway.Want{N: -1})
	if err != nil {
		return nil, gateway.Info{}, err
	}
	defer o.Close()
	info := o.Info()
	if info.Size == 0 {
		return nil, info, nil
	}
	b, err := part(t.Context(), o, 0, info.Size)
	return b, info, err
}

func (s *suite) has(t *testing.T, name string, want []byte) gateway.Info {
	t.Helper()
	got, info, err := s.all(t, name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	if info.Folder || info.Unchanged || info.Size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Fatalf("%q: %d octets of %+v, want %d", name, len(got), info, len(want))
	}
	return info
}

func (s *suite) read(t *testing.T) {
	for name, want := range s.content {
		info := s.has(t, name, want)
		if info.Version == "" || !info.Certain {
			t.Errorf("%q: version %q, certain %t, made in %v", name, info.Version, info.Certain, info.Modified)
		}
		if strings.ContainsFunc(info.Version, func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }) {
			t.Errorf("%q: version %q is no entity tag", name, info.Version)
		}
		again := s.open(t, name, gateway.Want{}).Info()
		if again.Version != info.Version || !again.Modified.Equal(info.Modified) || again.Size != info.Size {
			t.Errorf("%q: %+v, and then %+v", name, info, again)
		}
	}
}

func (s *suite) missing(t *testing.T) {
	for _, name := range []string{"none", "dir/none", "none/none", "a.txt/none", "dir/b", "DIR/nope", strings.Repeat("n", 200)} {
		for _, want := range []gateway.Want{{}, {N: -1}, {Off: 3, N: 4}, {Off: -5, N: -1}} {
			o, err := s.Source.Open(t.Context(), name, want)
			if err == nil {
				o.Close()
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open %.30q %+v: %v", name, want, err)
			}
		}
	}
	if s.Source.Traits().Flat {
		if _, err := s.Source.Open(t.Context(), "dir", gateway.Want{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open of a folder that is none: %v", err)
		}
		return
	}
	for _, name := range []string{"", "dir", "dir/sub", "sp ace"} {
		o, err := s.Source.Open(t.Context(), name, gateway.Want{N: -1})
		if err != nil {
			t.Errorf("Open %q: %v", name, err)
			continue
		}
		if !o.Info().Folder {
			t.Errorf("Open %q: %+v", name, o.Info())
		}
		o.Close()
	}
}

func (s *suite) ranges(t *testing.T) {
	octets := s.content["big.bin"]
	size := int64(len(octets))
	o := s.open(t, "big.bin", gateway.Want{})
	defer o.Close()
	for _, r := range [][2]int64{{0, 1}, {0, size}, {size - 1, 1}, {1, 4096}, {4095, 2}, {size / 2, size - size/2}, {100_000, 1 << 20}, {1 << 20, 1 << 20}, {7, 1}} {
		got, err := part(t.Context(), o, r[0], r[1])
		if err != nil || !bytes.Equal(got, octets[r[0]:r[0]+r[1]]) {
			t.Errorf("%v: %d octets, %v", r, len(got), err)
		}
	}
	for range 3 { // left off early, and begun again
		r, err := o.Range(t.Context(), 5, size-5)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, octets[5:15]) {
			t.Errorf("%v %x", err, b)
		}
		r.Close()
	}
}

// wants checks that a hint changes nothing but the number of round trips.
func (s *suite) wants(t *testing.T) {
	octets := s.content["dir/sub/c.bin"]
	size := int64(len(octets))
	for _, w := range []gateway.Want{
		{},
		{N: -1},
		{N: 5},
		{Off: 7, N: -1},
		{Off: 7, N: 9},
		{Off: size - 1, N: 1},
		{Off: size - 1, N: 100},
		{Off: size, N: 1},
		{Off: size + 9, N: -1},
		{Off: -1, N: -1},
		{Off: -size, N: -1},
		{Off: -size - 5, N: -1},
		{Unless: "no-such-version", N: -1},
		{UnlessSince: past.Add(-time.Hour), N: -1},
	} {
		for _, r := range [][2]int64{{0, size}, {7, 9}, {7, size - 7}, {size - 1, 1}} {
			o := s.open(t, "dir/sub/c.bin", w)
			if i := o.Info(); i.Size != size || i.Unchanged || i.Version == "" {
				t.Fatalf("%+v: %+v", w, i)
			}
			got, err := part(t.Context(), o, r[0], r[1])
			if err != nil || !bytes.Equal(got, octets[r[0]:r[0]+r[1]]) {
				t.Errorf("want %+v, read %v: %d octets, %v", w, r, len(got), err)
			}
			o.Close()
		}
		if o := s.open(t, "empty", w); o.Info().Size != 0 || o.Info().Unchanged {
			t.Errorf("empty, %+v: %+v", w, o.Info())
		} else {
			o.Close()
		}
	}
	known := s.open(t, "a.txt", gateway.Want{}).Info()
	for _, w := range []gateway.Want{{Unless: known.Version, N: -1}, {Unless: known.Version}, {UnlessSince: known.Modified, N: -1}} {
		o := s.open(t, "a.txt", w)
		if i := o.Info(); i.Unchanged && (i.Version != "" && i.Version != known.Version || i.Folder) || !i.Unchanged && i.Version != known.Version {
			t.Errorf("%+v: %+v", w, i)
		}
		o.Close()
	}
}

func (s *suite) list(t *testing.T) {
	folders := map[string][]string{}
	for name := range s.content {
		for name != "" {
			dir, base := "", name
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				dir, base = name[:i], name[i+1:]
			}
			if _, leaf := s.content[name]; !leaf {
				base += "/"
			}
			if !slices.Contains(folders[dir], base) {
				folders[dir] = append(folders[dir], base)
			}
			name = dir
		}
	}
	for folder, want := range folders {
		got, err := s.Source.List(t.Context(), folder, 1000)
		if err != nil {
			t.Errorf("List %q: %v", folder, err)
			continue
		}
		var names []string
		for _, i := range got {
			n := i.Name
			if i.Folder {
				n += "/"
			} else if octets := s.content[strings.TrimPrefix(folder+"/"+n, "/")]; i.Size != int64(len(octets)) {
				t.Errorf("%q in %q: %+v", n, folder, i)
			}
			names = append(names, n)
		}
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("List %q: %q, want %q", folder, names, want)
		}
		if got, err := s.Source.List(t.Context(), folder, 1); err != nil || len(got) != 1 {
			t.Errorf("List %q, one: %v %v", folder, got, err)
		}
	}
	for _, folder := range []string{"none", "dir/none", "a.txt", "di"} {
		if got, err := s.Source.List(t.Context(), folder, 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List %q: %v %v", folder, got, err)
		}
	}
}

// hostile asks for what no Handler would: nothing outside the root may come, and
// nothing may panic.
func (s *suite) hostile(t *testing.T) {
	for _, name := range []string{"../secret", "..", "dir/../../secret", "/etc/passwd", "./../secret", "dir/..", "a.txt\x00", "\x00", "dir\\..\\..\\secret", "a\r\nDELE a.txt", "a.txt\n"} {
		o, err := s.Source.Open(t.Context(), name, gateway.Want{N: -1})
		if err != nil {
			continue
		}
		if i := o.Info(); !i.Folder && i.Size > 0 {
			b, _ := part(t.Context(), o, 0, i.Size)
			t.Errorf("Open %q: %+v %.30q", name, i, b)
		}
		o.Close()
	}
	for _, name := range []string{"..", "../", "/etc", "dir/../..", "a\r\nb"} {
		if got, err := s.Source.List(t.Context(), name, 10); err == nil && len(got) > 0 {
			t.Errorf("List %q: %+v", name, got)
		}
	}
	s.has(t, "a.txt", s.content["a.txt"])
}

func (s *suite) together(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for name, want := range s.content {
				got, _, err := s.all(t, name)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("goroutine %d, %q: %d octets, %v", i, name, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// givenUp checks that a context that ends is obeyed, and harms nobody else.
func (s *suite) givenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o, err := s.Source.Open(ctx, "big.bin", gateway.Want{N: -1}); err == nil {
		if s.Source.Traits().Remote {
			t.Errorf("opened when it was over")
		}
		o.Close()
	}
	ctx, cancel = context.WithCancel(t.Context())
	o, err := s.Source.Open(ctx, "big.bin", gateway.Want{N: -1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Range(ctx, 0, o.Info().Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	r.Close()
	o.Close()
	s.has(t, "a.txt", s.content["a.txt"])
}

// versions checks that other octets have another version, also of the same size and
// made in the same second.
func (s *suite) versions(t *testing.T) {
	seen := map[string]string{}
	uncertain := 0
	for i := range 5 {
		octets := fmt.Appendf(nil, "version %d", i)
		s.Put(t, "v", octets, time.Time{})
		info := s.has(t, "v", octets)
		if !info.Certain {
			uncertain++
			continue
		}
		if other, ok := seen[info.Version]; ok {
			t.Errorf("%q and %q have one version, %q", other, octets, info.Version)
		}
		seen[info.Version] = string(octets)
	}
	t.Logf("%d of 5 versions are certain at once", 5-uncertain)
}

// changedBetween replaces an object after it was opened and before it is read.
func (s *suite) changedBetween(t *testing.T) {
	older, newer := Octets(200_000, 3), Octets(200_000, 4)
	for _, w := range []gateway.Want{{}, {N: -1}, {Off: 10, N: 20}} {
		s.Put(t, "v", older, past)
		o := s.open(t, "v", w)
		s.Put(t, "v", newer, past.Add(time.Hour))
		got, err := part(t.Context(), o, 1000, 150_000)
		switch {
		case err == nil && bytes.Equal(got, older[1000:151_000]): // it had them, or holds on to them
		case err == nil:
			t.Errorf("%+v: %d octets of another version", w, len(got))
		case !errors.Is(err, gateway.ErrChanged) && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%+v: %v", w, err)
		}
		if s.Steady && err != nil {
			t.Errorf("%+v: %v", w, err)
		}
		o.Close()
		s.has(t, "v", newer)
	}
	s.Put(t, "v", older, past)
	o := s.open(t, "v", gateway.Want{})
	defer o.Close()
	s.Remove(t, "v")
	if got, err := part(t.Context(), o, 0, 200_000); err == nil && !bytes.Equal(got, older) {
		t.Errorf("removed: %d octets", len(got))
	}
}

// changedWithin replaces an object while it is read.
func (s *suite) changedWithin(t *testing.T) {
	older, newer := Octets(4<<20, 5), Octets(4<<20, 6)
	s.Put(t, "v", older, past)
	o := s.open(t, "v", gateway.Want{N: -1})
	defer o.Close()
	r, err := o.Range(t.Context(), 0, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first := make([]byte, 1000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	s.Put(t, "v", newer, past.Add(time.Hour))
	rest, err := io.ReadAll(r)
	if got := append(first, rest...); err == nil && !bytes.Equal(got, older) {
		t.Errorf("a mix of two versions, taken for whole")
	}
	t.Logf("%d octets more, %v", len(rest), err)
	s.has(t, "v", newer)
}

func (s *suite) unavailable(t *testing.T) {
	if s.Down == nil {
		return // this storage is this machine's
	}
	s.has(t, "a.txt", s.content["a.txt"])
	s.Down(t)
	for range 3 {
		if _, _, err := s.all(t, "a.txt"); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("while it is down: %v", err)
		}
		if _, err := s.Source.List(t.Context(), "dir", 10); !errors.Is(err, gateway.ErrUnavailable) {
			t.Errorf("while it is down: %v", err)
		}
	}
	s.Up(t)
	var err error
	for range 3 { // a pool may hold what broke
		if _, _, err = s.all(t, "a.txt"); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("when it is up again: %v", err)
	}
}

func (s *suite) writer(t *testing.T) gateway.Writer {
	w, ok := s.Source.(gateway.Writer)
	if !ok {
		t.Fatal("it is no gateway.Writer")
	}
	return w
}

func (s *suite) write(t *testing.T) {
	w := s.writer(t)
	for name, octets := range map[string][]byte{
		"new": []byte("new"), "deep/er/new": []byte("deep"), "a.txt": []byte("replaced"), "large": Octets(5<<20, 7), "none": {}, "sp ace/é%?#": []byte("odd"),
	} {
		for _, size := range []int64{int64(len(octets)), -1} {
			info, err := w.Put(t.Context(), name, io.MultiReader(bytes.NewReader(octets)), size, nil, gateway.If{})
			if err != nil {
				t.Errorf("Put %q: %v", name, err)
				continue
			}
			if got := s.has(t, name, octets); info.Version != "" && got.Certain && got.Version != info.Version {
				t.Errorf("Put %q: version %q, and then %q", name, info.Version, got.Version)
			}
		}
		if err := w.Delete(t.Context(), name, gateway.If{}); err != nil {
			t.Errorf("Delete %q: %v", name, err)
		}
		if _, _, err := s.all(t, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is still there: %v", name, err)
		}
		if err := w.Delete(t.Context(), name, gateway.If{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete %q again: %v", name, err)
		}
	}
	for _, name := range []string{"", "../x", "a/../../x", "/x", "dir/b.html/x"} {
		if name == "dir/b.html/x" && w.Traits().Flat {
			continue
		}
		if _, err := w.Put(t.Context(), name, strings.NewReader("x"), 1, nil, gateway.If{}); err == nil {
			t.Errorf("Put %q went through", name)
		}
		if err := w.Delete(t.Context(), name, gateway.If{}); err == nil {
			t.Errorf("Delete %q went through", name)
		}
	}
	if !w.Traits().Flat {
		if err := w.Delete(t.Context(), "dir", gateway.If{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete of a folder: %v", err)
		}
		if _, err := w.Put(t.Context(), "dir", strings.NewReader("x"), 1, nil, gateway.If{}); err == nil {
			t.Errorf("Put over a folder went through")
		}
	}
	s.has(t, "dir/b.html", s.content["dir/b.html"])
}

func (s *suite) conditions(t *testing.T) {
	w := s.writer(t)
	put := func(text string, only gateway.If) error {
		_, err := w.Put(t.Context(), "a.txt", strings.NewReader(text), int64(len(text)), nil, only)
		return err
	}
	was := s.has(t, "a.txt", s.content["a.txt"])
	for _, only := range []gateway.If{{Absent: true}, {Version: "no-such-version"}} {
		if err := put("no", only); !errors.Is(err, gateway.ErrConflict) {
			t.Errorf("Put if %+v: %v", only, err)
		}
	}
	if err := w.Delete(t.Context(), "a.txt", gateway.If{Version: "no-such-version"}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("Delete: %v", err)
	}
	s.has(t, "a.txt", s.content["a.txt"])
	if err := put("yes", gateway.If{Version: was.Version}); err != nil {
		t.Errorf("Put of the version at hand: %v", err)
	}
	now := s.has(t, "a.txt", []byte("yes"))
	if err := put("no", gateway.If{Version: was.Version}); !errors.Is(err, gateway.ErrConflict) {
		t.Errorf("Put of the version before: %v", err)
	}
	s.has(t, "a.txt", []byte("yes"))
	if err := w.Delete(t.Context(), "a.txt", gateway.If{Version: now.Version}); err != nil {
		t.Errorf("Delete of the version at hand: %v", err)
	}
	if err := put("no", gateway.If{Version: was.Version}); !errors.Is(err, gateway.ErrConflict) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put of a version that is gone: %v", err)
	}
	if err := put("again", gateway.If{Absent: true}); err != nil {
		t.Errorf("Put where there is none: %v", err)
	}
	s.has(t, "a.txt", []byte("again"))
}

// broken gives some octets and fails.
type broken struct{ left int }

var errBroken = errors.New("the client went away")

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func (s *suite) writeFails(t *testing.T) {
	w := s.writer(t)
	before, err := s.Source.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body io.Reader
		size int64
	}{
		{&broken{100}, 200},
		{&broken{3 << 20}, -1},
		{&broken{0}, 10},
		{strings.NewReader("short"), 6},
		{strings.NewReader("long"), 3},
	} {
		for _, name := range []string{"a.txt", "new"} {
			if _, err := w.Put(t.Context(), name, c.body, c.size, http.Header{"Content-Type": {"text/x"}}, gateway.If{}); err == nil {
				t.Errorf("Put of a broken body, %d octets announced, went through", c.size)
			}
		}
	}
	s.has(t, "a.txt", s.content["a.txt"])
	if _, _, err := s.all(t, "new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half an object: %v", err)
	}
	after, err := s.Source.List(t.Context(), "", 1000)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d entries before, %d after (%v): something was left behind", len(before), len(after), err)
	}
}
