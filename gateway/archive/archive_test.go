package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var past = gatewaytest.Past()

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes an archive file of the time at.
func put(t testing.TB, path string, octets []byte, at time.Time) {
	t.Helper()
	check(t, os.WriteFile(path, octets, 0o600))
	check(t, os.Chtimes(path, at, at))
}

// replace puts an archive in the place of another one at once.
func replace(t testing.TB, path string, octets []byte, at time.Time) {
	t.Helper()
	put(t, path+".new", octets, at)
	check(t, os.Rename(path+".new", path))
}

// serve opens an archive of these octets.
func serve(t testing.TB, make func(string, Options) (*Source, error), octets []byte) *Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	put(t, path, octets, past)
	s, err := make(path, Options{})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func part(ctx context.Context, o gateway.Object, off, n int64) ([]byte, error) {
	r, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// all reads an object as a whole.
func all(s *Source, name string) ([]byte, error) {
	o, err := s.Open(context.Background(), name, gateway.Want{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	switch info := o.Info(); {
	case info.Folder:
		return nil, errors.New("it is a folder")
	case info.Size == 0:
		return nil, nil
	default:
		return part(context.Background(), o, 0, info.Size)
	}
}

func has(t *testing.T, s *Source, name, want string) {
	t.Helper()
	if got, err := all(s, name); err != nil || string(got) != want {
		t.Errorf("%q: %d octets, %.40q, %v", name, len(got), got, err)
	}
}

func hasNot(t *testing.T, s *Source, name string, want error) {
	t.Helper()
	if got, err := all(s, name); !errors.Is(err, want) {
		t.Errorf("%q: %.40q, %v, want %v", name, got, err, want)
	}
}

// walk returns the names of all that is listed below a folder, folders with a slash.
func walk(t testing.TB, s *Source, folder string) []string {
	t.Helper()
	list, err := s.List(context.Background(), folder, 1<<20)
	check(t, err)
	var names []string
	for _, i := range list {
		name := strings.TrimPrefix(folder+"/"+i.Name, "/")
		if i.Folder {
			names = append(names, name+"/")
			names = append(names, walk(t, s, name)...)
		} else {
			names = append(names, name)
		}
	}
	return names
}

// An item is what a test puts into an archive.
type item struct {
	name, text string
	deflate    bool
}

func zipOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		h := &zip.FileHeader{Name: i.name, Modified: past}
		if i.deflate {
			h.Method = zip.Deflate
		}
		to, err := w.CreateHeader(h)
		check(t, err)
		_, err = io.WriteString(to, i.text)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// tarOf makes a tar file of headers; the size is that of the text.
func tarOf(t testing.TB, headers []tar.Header, texts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range headers {
		text := ""
		if i < len(texts) {
			text = texts[i]
		}
		if h.Size = int64(len(text)); h.ModTime.IsZero() {
			h.ModTime = past
		}
		check(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, text)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func TestContract(t *testing.T) {
	fill := gatewaytest.Fill()
	names := slices.Sorted(maps.Keys(fill))
	var items []item
	for i, n := range names {
		items = append(items, item{n, string(fill[n]), i%2 == 0})
	}
	flipped := slices.Clone(items)
	for i := range flipped {
		flipped[i].deflate = !flipped[i].deflate
	}
	var headers []tar.Header
	var texts []string
	for _, n := range names {
		headers = append(headers, tar.Header{Name: "./" + n})
		texts = append(texts, string(fill[n]))
	}
	for _, c := range []struct {
		name   string
		make   func(string, Options) (*Source, error)
		octets []byte
	}{
		{"zip", Zip, zipOf(t, items...)},
		{"zip, the other way round", Zip, zipOf(t, flipped...)},
		{"tar", Tar, tarOf(t, headers, texts...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
				path := filepath.Join(t.TempDir(), "archive")
				put(t, path, c.octets, past)
				s, err := c.make(path, Options{})
				check(t, err)
				return &gatewaytest.Storage{Source: s, Fixed: true}
			})
		})
	}
}

// TestRealArchives reads what GNU tar 1.34 and Info-ZIP 3.0 made of one folder in the
// zone of New York, with -S and -y.
func TestRealArchives(t *testing.T) {
	want := []string{"a.txt", "dir/", "dir/long.txt", "dir/sub/", "dir/sub/x", "empty", "hard", "hollow/", "hollow/sparse"}
	for _, c := range []struct {
		file    string
		make    func(string, Options) (*Source, error)
		skipped int // the symbolic link, and the fifo
	}{{"infozip.zip", Zip, 1}, {"prefixed.zip", Zip, 1}, {"adjusted.zip", Zip, 1}, {"gnu.tar", Tar, 2}, {"pax.tar", Tar, 2}} {
		t.Run(c.file, func(t *testing.T) {
			s, err := c.make(filepath.Join("testdata", c.file), Options{})
			check(t, err)
			defer s.Close()
			if got := walk(t, s, ""); !slices.Equal(got, want) || s.Skipped() != c.skipped {
				t.Errorf("%q, and %d skipped", got, s.Skipped())
			}
			has(t, s, "a.txt", "hello, world\n")
			has(t, s, "hard", "hello, world\n")
			has(t, s, "empty", "")
			has(t, s, "dir/sub/x", "x")
			has(t, s, "dir/long.txt", strings.Repeat("the same line\n", 300))
			hasNot(t, s, "symbolic", fs.ErrNotExist)
			hasNot(t, s, "fifo", fs.ErrNotExist)
			if strings.HasSuffix(c.file, ".tar") {
				hasNot(t, s, "hollow/sparse", errors.ErrUnsupported)
			} else {
				has(t, s, "hollow/sparse", strings.Repeat("\x00", 1_000_000)+"end"+strings.Repeat("\x00", 1<<20-1_000_003))
			}
			o, err := s.Open(t.Context(), "a.txt", gateway.Want{})
			check(t, err)
			if got := o.Info().Modified; !got.Equal(past) {
				t.Errorf("modified %v", got)
			}
			check(t, o.Close())
		})
	}
	s, err := Tar("testdata/v7.tar", Options{})
	check(t, err)
	defer s.Close()
	if got := walk(t, s, ""); !slices.Equal(got, []string{"a.txt", "dir/", "dir/long.txt", "dir/sub/", "dir/sub/x", "empty", "hard"}) {
		t.Errorf("%q", got)
	}
	has(t, s, "hard", "hello, world\n")
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	for _, c := range []struct {
		file, name string
		want       error
		text       string
	}{
		{"locked.zip", "a.txt", fs.ErrPermission, "encrypted"},
		{"locked.zip", "dir/long.txt", fs.ErrPermission, "encrypted"},
		{"locked.zip", "dir/long.txt.gz", fs.ErrNotExist, ""},
		{"bzip2.zip", "dir/long.txt", errors.ErrUnsupported, "method 12"},
		{"bzip2.zip", "dir/long.txt", zip.ErrAlgorithm, "method 12"},
		{"bzip2.zip", "dir/long.txt.gz", fs.ErrNotExist, ""},
	} {
		s, err := Zip(filepath.Join("testdata", c.file), Options{})
		check(t, err)
		_, err = all(s, c.name)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.file) {
			t.Errorf("%s: %v", c.name, err)
		}
		check(t, s.Close())
	}
}

// hostileNames are names that no entry is served by.
var hostileNames = []string{
	"../up", "a/../b", "a/..", "..", "/etc/passwd", "//x", "a//b", "a/./b", "back\\slash", "..\\up",
	"nul\x00", "x/.larder-x/y", "C:/x", "c:x", "line\nbreak", "del\x7f", "a/../", "x/" + strings.Repeat("n", maxName),
}

func TestNamesThatAreNotServed(t *testing.T) {
	items := []item{{"good", "good", false}, {"./also/good", "also", false}, {"also/a:b", "colon", false}}
	var headers []tar.Header
	for _, n := range hostileNames {
		items = append(items, item{n, "", false})
		if !strings.Contains(n, "\x00") { // which the writer refuses
			headers = append(headers, tar.Header{Name: n, Format: tar.FormatPAX})
		}
	}
	headers = append(headers, tar.Header{Name: "good"}, tar.Header{Name: "./also/good"}, tar.Header{Name: "also/a:b"})
	for kind, s := range map[string]*Source{"zip": serve(t, Zip, zipOf(t, items...)), "tar": serve(t, Tar, tarOf(t, headers))} {
		if got := walk(t, s, ""); !slices.Equal(got, []string{"also/", "also/a:b", "also/good", "good"}) {
			t.Errorf("%s: %q", kind, got)
		}
		if got, want := s.Skipped(), len(hostileNames); got != want && (kind == "zip" || got != want-1) {
			t.Errorf("%s: %d skipped", kind, got)
		}
		for _, n := range append(hostileNames, "also\x00good", "./good", "good/", "") {
			if b, err := all(s, n); err == nil {
				t.Errorf("%s: %q: %q", kind, n, b)
			}
		}
	}
}

func TestTheLastOfANameCounts(t *testing.T) {
	s := serve(t, Zip, zipOf(t, item{"a", "first", true}, item{"b", "b", false}, item{"a", "second", false}))
	has(t, s, "a", "second")
	if got := walk(t, s, ""); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
	s = serve(t, Tar, tarOf(t, []tar.Header{{Name: "a"}, {Name: "b"}, {Name: "./a"}, {Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a"}}, "first", "b", "second"))
	has(t, s, "a", "second")
	hasNot(t, s, "b", fs.ErrNotExist)
}

func TestAFileHidesTheFolderOfItsName(t *testing.T) {
	items := []item{{"a/b", "below", true}, {"a/c/", "", false}, {"a", "file", true}, {"a-b", "beside", true}, {"a/", "", false}, {"e/", "", false}}
	var headers []tar.Header
	var texts []string
	for _, i := range items {
		headers, texts = append(headers, tar.Header{Name: i.name}), append(texts, i.text)
	}
	for kind, s := range map[string]*Source{"zip": serve(t, Zip, zipOf(t, items...)), "tar": serve(t, Tar, tarOf(t, headers, texts...))} {
		has(t, s, "a", "file")
		hasNot(t, s, "a/b", fs.ErrNotExist)
		if _, err := s.List(t.Context(), "a", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", kind, err)
		}
		if got := walk(t, s, ""); !slices.Equal(got, []string{"a", "a-b", "e/"}) || s.Skipped() != 3 {
			t.Errorf("%s: %q, %d skipped", kind, got, s.Skipped())
		}
	}
}

func TestAHardLinkIsTheFileBeforeIt(t *testing.T) {
	to := func(name, target string) tar.Header {
		return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}
	}
	s := serve(t, Tar, tarOf(t, []tar.Header{
		{Name: "dir/a"},
		to("before", "./dir/a"), to("of-link", "before"),
		{Name: "dir/a"},
		to("after", "dir/a"),
		to("self", "self"), to("none", "later"),
		{Name: "later"},
		to("out", "../dir/a"), to("folder", "dir"), to("of-none", "none"),
	}, "old", "", "", "new", "", "", "", "later"))
	for name, want := range map[string]string{"dir/a": "new", "before": "old", "of-link": "old", "after": "new", "later": "later"} {
		has(t, s, name, want)
	}
	for _, name := range []string{"self", "none", "out", "folder", "of-none"} {
		hasNot(t, s, name, fs.ErrNotExist)
	}
	if s.Skipped() != 5 {
		t.Errorf("%d skipped", s.Skipped())
	}
}

func TestDeflateIsThereAsGzip(t *testing.T) {
	text := strings.Repeat("compressible ", 1000)
	octets := zipOf(t, item{"a", text, true}, item{"stored", text, false}, item{"own", text, true}, item{"own.gz", "mine", true}, item{"dir", text, true}, item{"dir.gz/x", "x", true}, item{"e", "", true})
	s := serve(t, Zip, octets)
	gz, err := all(s, "a.gz")
	check(t, err)
	r, err := gzip.NewReader(bytes.NewReader(gz))
	check(t, err)
	if b, err := io.ReadAll(r); err != nil || string(b) != text {
		t.Errorf("%d octets, %v", len(b), err)
	}
	o, err := s.Open(t.Context(), "a.gz", gateway.Want{})
	check(t, err)
	defer o.Close()
	plain, err := s.Open(t.Context(), "a", gateway.Want{})
	check(t, err)
	defer plain.Close()
	p, z := plain.Info(), o.Info()
	if z.Version == p.Version || !strings.HasPrefix(z.Version, p.Version) || z.Certain != p.Certain || !z.Modified.Equal(p.Modified) || z.Size != int64(len(gz)) {
		t.Errorf("%+v, %+v", p, z)
	}
	for off := range z.Size {
		for _, n := range []int64{1, 9, 30, z.Size - off} {
			if n = min(n, z.Size-off); n == 0 {
				continue
			}
			if got, err := part(t.Context(), o, off, n); err != nil || !bytes.Equal(got, gz[off:off+n]) {
				t.Fatalf("%d octets from %d on: %x, %v", n, off, got, err)
			}
		}
	}
	has(t, s, "own.gz", "mine")
	hasNot(t, s, "stored.gz", fs.ErrNotExist)
	hasNot(t, s, "a.gz.gz", fs.ErrNotExist)
	if o, err := s.Open(t.Context(), "dir.gz", gateway.Want{}); err != nil || !o.Info().Folder {
		t.Errorf("a folder: %v", err)
	}
	if got := walk(t, s, ""); slices.Contains(got, "a.gz") {
		t.Errorf("%q", got)
	}
	if empty, err := all(s, "e.gz"); err != nil || len(empty) == 0 {
		t.Errorf("%x, %v", empty, err)
	}
	s = serve(t, Tar, tarOf(t, []tar.Header{{Name: "a"}}, text))
	hasNot(t, s, "a.gz", fs.ErrNotExist)

	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, err = w.CreateRaw(&zip.FileHeader{Name: "none", Method: zip.Deflate}) // not even an end
	check(t, errors.Join(err, w.Close()))
	s = serve(t, Zip, b.Bytes())
	has(t, s, "none", "")
	hasNot(t, s, "none.gz", fs.ErrNotExist)
}

func TestTimesThatAreNotThere(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, err := w.CreateRaw(&zip.FileHeader{Name: "none"})
	check(t, err)
	_, err = w.CreateRaw(&zip.FileHeader{Name: "dos"})
	check(t, err)
	check(t, w.Close())
	dos := b.Bytes()[bytes.LastIndex(b.Bytes(), []byte(sigDirectory)):]
	set16(dos[12:], 4<<11|5<<5|3)
	set16(dos[14:], (2001-1980)<<9|2<<5|3)
	s := serve(t, Zip, b.Bytes())
	tarred := serve(t, Tar, tarOf(t, []tar.Header{{Name: "none", ModTime: time.Unix(0, 0)}}))
	for _, c := range []struct {
		s    *Source
		name string
		want time.Time
	}{{s, "none", past}, {s, "dos", time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)}, {tarred, "none", past}} {
		o, err := c.s.Open(t.Context(), c.name, gateway.Want{})
		check(t, err)
		if got := o.Info().Modified; !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		check(t, o.Close())
	}
}

// TestLittleIsReadOfMuch indexes and reads an archive of 64 GiB, nearly all of it a hole.
func TestLittleIsReadOfMuch(t *testing.T) {
	const size = 64 << 30
	path := filepath.Join(t.TempDir(), "huge.tar")
	f, err := os.Create(path)
	check(t, err)
	w := tar.NewWriter(f)
	check(t, w.WriteHeader(&tar.Header{Name: "huge", Size: size, Format: tar.FormatGNU}))
	_, err = f.Seek(size-3, io.SeekCurrent)
	check(t, err)
	_, err = f.WriteString("end")
	check(t, err)
	w = tar.NewWriter(f)
	check(t, w.WriteHeader(&tar.Header{Name: "after", Size: 1}))
	_, err = w.Write([]byte("x"))
	check(t, errors.Join(err, w.Close(), f.Close()))
	s, err := Tar(path, Options{})
	check(t, err)
	defer s.Close()
	has(t, s, "after", "x")
	o, err := s.Open(t.Context(), "huge", gateway.Want{})
	check(t, err)
	defer o.Close()
	if got, err := part(t.Context(), o, size-4, 4); err != nil || string(got) != "\x00end" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestOffsetsAreTakenAtTheirWord has something between the directory and its end, so
// that the size seems to tell of something in front of the archive.
func TestOffsetsAreTakenAtTheirWord(t *testing.T) {
	octets := zipOf(t, item{"a", "text", true})
	s := serve(t, Zip, slices.Insert(octets, len(octets)-lenEnd, []byte("between")...))
	has(t, s, "a", "text")
}

// A holer writes zeros that come alone as a hole.
type holer struct{ *os.File }

var hole = make([]byte, 1<<20)

func (h holer) Write(p []byte) (int, error) {
	if !bytes.Equal(p, hole) {
		return h.File.Write(p)
	}
	_, err := h.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// TestZip64 has an entry of more octets, and one further from the beginning, than fit
// into 32 bits.
func TestZip64(t *testing.T) {
	const size = 5<<30 + 3
	path := filepath.Join(t.TempDir(), "huge.zip")
	f, err := os.Create(path)
	check(t, err)
	w := zip.NewWriter(holer{f})
	to, err := w.CreateRaw(&zip.FileHeader{Name: "huge", Modified: past, CompressedSize64: size, UncompressedSize64: size})
	check(t, err)
	check(t, w.Flush()) // so that what follows comes alone
	for range 5 << 10 {
		_, err = to.Write(hole)
		check(t, err)
	}
	_, err = io.WriteString(to, "end")
	check(t, err)
	to, err = w.Create("after")
	check(t, err)
	_, err = io.WriteString(to, "x")
	check(t, errors.Join(err, w.Close(), f.Close()))
	s, err := Zip(path, Options{})
	check(t, err)
	defer s.Close()
	has(t, s, "after", "x")
	o, err := s.Open(t.Context(), "huge", gateway.Want{})
	check(t, err)
	defer o.Close()
	if o.Info().Size != size {
		t.Errorf("%+v", o.Info())
	}
	if got, err := part(t.Context(), o, size-4, 4); err != nil || string(got) != "\x00end" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestManyEntries(t *testing.T) {
	const many = 65_540 // more than a directory without ZIP64 can count
	items := make([]item, many)
	for i := range items {
		items[i] = item{fmt.Sprintf("%d/%d", i%100, i), "", false}
	}
	for _, i := range []int{0, 1, 65_535, 65_536, many - 1} {
		items[i].text = items[i].name
	}
	s := serve(t, Zip, zipOf(t, items...))
	for _, i := range []int{0, 1, 65_535, 65_536, many - 1} {
		has(t, s, items[i].name, items[i].text)
	}
	if list, err := s.List(t.Context(), "99", 1000); err != nil || len(list) != many/100 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

func TestAnIndexHasALimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive")
	for _, c := range []struct {
		f      format
		octets []byte
	}{
		{readZip, zipOf(t, item{"a", "", false}, item{"../b", "", false}, item{"a", "", false})},
		{readTar, tarOf(t, []tar.Header{{Name: "a"}, {Name: "../b"}, {Name: "a"}})},
	} {
		put(t, path, c.octets, past)
		s, err := open(path, Options{}, c.f, 3)
		check(t, err)
		check(t, s.Close())
		if _, err := open(path, Options{}, c.f, 2); err == nil || !strings.Contains(err.Error(), "more than 2 entries") {
			t.Errorf("%v", err)
		}
	}
}

// TestFewRangesAreLookedForAtATime in what must be inflated: the others wait, as
// long as their context holds. What needs no inflating before its first octet does not.
func TestFewRangesAreLookedForAtATime(t *testing.T) {
	text := strings.Repeat("x", 1<<20)
	s := serve(t, Zip, zipOf(t, item{"a", text, true}, item{"stored", text, false}))
	for range cap(s.skips) {
		s.skips <- struct{}{}
	}
	for _, c := range []struct {
		name              string
		off               int64
		sequential, waits bool
	}{{"a", 1, true, true}, {"a", 0, true, false}, {"a.gz", 1, false, false}, {"stored", 1, false, false}} {
		o, err := s.Open(t.Context(), c.name, gateway.Want{})
		check(t, err)
		if o.Info().Sequential != c.sequential {
			t.Errorf("%s: %+v", c.name, o.Info())
		}
		if c.waits {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if _, err := part(ctx, o, c.off, 10); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s from %d on does not wait: %v", c.name, c.off, err)
			}
			cancel()
			<-s.skips
		}
		for range 2 { // each gives back what it took
			if b, err := part(t.Context(), o, c.off, 10); err != nil || len(b) != 10 {
				t.Errorf("%s from %d on: %q, %v", c.name, c.off, b, err)
			}
		}
		if c.waits {
			s.skips <- struct{}{}
		}
		check(t, o.Close())
	}
}

// TestNoFaultOfTheFileMeansThatAnEntryIsNotThere: file systems like FUSE's say what they
// like of a file that is open.
func TestNoFaultOfTheFileMeansThatAnEntryIsNotThere(t *testing.T) {
	s := serve(t, Zip, zipOf(t, item{"a", "a", true}))
	err := s.about("a", &fs.PathError{Op: "read", Path: "archive", Err: fs.ErrNotExist})
	if errors.Is(err, fs.ErrNotExist) || !errors.Is(err, gateway.ErrUnavailable) {
		t.Error(err)
	}
}

func TestARangeIsGivenUp(t *testing.T) {
	s := serve(t, Zip, zipOf(t, item{"a", strings.Repeat("x", 1<<20), true}))
	o, err := s.Open(t.Context(), "a", gateway.Want{})
	check(t, err)
	defer o.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := o.Range(ctx, 0, 1<<20)
	check(t, err)
	_, err = io.ReadFull(r, make([]byte, 10))
	check(t, err)
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading: %v", err)
	}
	check(t, r.Close())
	if _, err := o.Range(ctx, 1<<20-1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("skipping: %v", err)
	}
	if _, err := s.Open(ctx, "a", gateway.Want{}); !errors.Is(err, context.Canceled) {
		t.Errorf("opening: %v", err)
	}
	if r, err = o.Range(t.Context(), 0, 1<<20); err == nil {
		check(t, r.Close())
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("after Close: %d octets, %v", n, err)
	}
}
