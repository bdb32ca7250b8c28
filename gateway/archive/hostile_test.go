package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/gatewaytest"
)

// A forger changes the headers of the only entry of a ZIP file.
type forger struct{ local, central []byte }

// forge makes a ZIP file of one entry "a", and returns what f made of it.
func forge(t *testing.T, i item, f func(forger)) []byte {
	t.Helper()
	i.name = "a"
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	octets, packed := []byte(i.text), zipOf(t, i)
	r, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	check(t, err)
	h := r.File[0].FileHeader
	h.Flags &^= flagDescriptor // so that the local header says all
	from, err := r.File[0].OpenRaw()
	check(t, err)
	h.CRC32 = crc32.ChecksumIEEE(octets)
	to, err := w.CreateRaw(&h)
	check(t, err)
	_, err = io.Copy(to, from)
	check(t, errors.Join(err, w.Close()))
	out := b.Bytes()
	f(forger{out, out[bytes.LastIndex(out, []byte(sigDirectory)):]})
	return out
}

func set16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }
func set32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

func TestForgedEntries(t *testing.T) {
	long := item{text: string(gatewaytest.Octets(20_000, 9)), deflate: true}
	stored := item{text: long.text}
	both := func(local, central int, to uint32) func(forger) {
		return func(f forger) { set32(f.local[local:], to); set32(f.central[central:], to) }
	}
	for name, c := range map[string]struct {
		item  item
		forge func(forger)
		want  error
		opens bool // and fails when it is read
	}{
		"sum, deflate":            {long, both(14, 16, 1), zip.ErrChecksum, true},
		"sum, stored":             {stored, both(14, 16, 1), zip.ErrChecksum, true},
		"octets, stored":          {stored, func(f forger) { f.local[1000]++ }, zip.ErrChecksum, true},
		"more than declared":      {long, both(22, 24, 19_999), zip.ErrFormat, true},
		"less than declared":      {long, both(22, 24, 20_001), io.ErrUnexpectedEOF, true},
		"far less than declared":  {long, both(22, 24, in64x32-1), io.ErrUnexpectedEOF, true},
		"cut off":                 {long, both(18, 20, 15_000), io.ErrUnexpectedEOF, true},
		"no deflate":              {long, func(f forger) { f.local[lenLocal+1+int(u16(f.local, 28))] = 7 }, nil, true},
		"sum in one header":       {long, func(f forger) { set32(f.local[14:], 1) }, zip.ErrFormat, false},
		"size in one header":      {long, func(f forger) { set32(f.local[22:], 1) }, zip.ErrFormat, false},
		"packed in one header":    {long, func(f forger) { set32(f.local[18:], 1) }, zip.ErrFormat, false},
		"method in one header":    {long, func(f forger) { set16(f.local[8:], 0) }, zip.ErrFormat, false},
		"encrypted in one header": {long, func(f forger) { set16(f.local[6:], 1) }, zip.ErrFormat, false},
		"name in one header":      {long, func(f forger) { f.local[lenLocal] = 'b' }, zip.ErrFormat, false},
		"long local name":         {long, func(f forger) { set16(f.local[26:], 60_000) }, zip.ErrFormat, false},
		"long local fields":       {long, func(f forger) { set16(f.local[28:], 60_000) }, zip.ErrFormat, false},
		"no local header":         {long, func(f forger) { f.local[0] = 'Q' }, zip.ErrFormat, false},
		"elsewhere":               {long, func(f forger) { set32(f.central[42:], 5) }, zip.ErrFormat, false},
		"stored, two sizes":       {stored, both(22, 24, 19_999), zip.ErrFormat, false},
		"empty, with a sum":       {item{}, both(14, 16, 1), zip.ErrFormat, false},
		"no ZIP64 field":          {long, func(f forger) { set32(f.central[42:], in64x32) }, zip.ErrFormat, false},
		"encrypted":               {long, func(f forger) { set16(f.local[6:], 1); set16(f.central[8:], 1) }, fs.ErrPermission, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "archive")
			put(t, path, forge(t, c.item, c.forge), past)
			s, err := Zip(path, Options{})
			if err != nil { // it can also be seen in the directory
				if c.opens || !errors.Is(err, c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			defer s.Close()
			o, err := s.Open(t.Context(), "a", gateway.Want{})
			if !c.opens {
				if err == nil || !errors.Is(err, c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			check(t, err)
			defer o.Close()
			size := o.Info().Size
			b, err := part(t.Context(), o, 0, size)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || int64(len(b)) >= size {
				t.Errorf("%d of %d octets, %v", len(b), size, err)
			}
			if b, err := part(t.Context(), o, size-1, 1); c.item.deflate && (err == nil || len(b) > 0) {
				t.Errorf("the last octet: %x, %v", b, err)
			}
		})
	}
}

// TestEntriesThatOverlap has two names for one entry, as bombs of many have.
func TestEntriesThatOverlap(t *testing.T) {
	octets := zipOf(t, item{"a", strings.Repeat("x", 1000), true}, item{"b", strings.Repeat("x", 1000), true})
	second := octets[bytes.LastIndex(octets, []byte(sigDirectory)):]
	set32(second[42:], 0)
	path := filepath.Join(t.TempDir(), "archive")
	put(t, path, octets, past)
	if _, err := Zip(path, Options{}); !errors.Is(err, zip.ErrFormat) || !strings.Contains(err.Error(), "another entry") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoArchive(t *testing.T) {
	zipped, tarred := zipOf(t, item{"a", "text", true}), tarOf(t, []tar.Header{{Name: "a"}}, strings.Repeat("x", 1000))
	end := len(zipped) - lenEnd
	forged := func(at int, to byte) []byte {
		b := slices.Clone(zipped)
		b[at] = to
		return b
	}
	for name, c := range map[string]struct {
		make   func(string, Options) (*Source, error)
		octets []byte
		want   error
		text   string
	}{
		"empty zip":         {Zip, nil, zip.ErrFormat, "cut off"},
		"zip cut off":       {Zip, zipped[:len(zipped)-1], zip.ErrFormat, "cut off"},
		"tar as zip":        {Zip, tarred, zip.ErrFormat, "no ZIP file"},
		"parts":             {Zip, forged(end+4, 1), zip.ErrFormat, "several parts"},
		"count":             {Zip, forged(end+10, 2), zip.ErrFormat, "should have 2"},
		"directory outside": {Zip, forged(end+18, 0xff), zip.ErrFormat, "not inside"},
		"directory longer":  {Zip, forged(end+15, 0x7f), zip.ErrFormat, "not inside"},
		"empty tar":         {Tar, nil, io.ErrUnexpectedEOF, "without two blocks of zeros"},
		"tar without end":   {Tar, tarred[:len(tarred)-1024], io.ErrUnexpectedEOF, "without two blocks of zeros"},
		"tar with half end": {Tar, tarred[:len(tarred)-512], io.ErrUnexpectedEOF, "without two blocks of zeros"},
		"tar cut off":       {Tar, tarred[:1000], io.ErrUnexpectedEOF, ""},
		"zip as tar":        {Tar, append(zipped, make([]byte, 1024)...), tar.ErrHeader, ""},
		"gzip":              {Tar, []byte("\x1f\x8b\x08..."), tar.ErrHeader, "gunzip"},
		"zstd":              {Tar, []byte("\x28\xb5\x2f\xfd"), tar.ErrHeader, "unzstd"},
		"bzip2":             {Tar, []byte("BZh91AY"), tar.ErrHeader, "bunzip2"},
		"xz":                {Tar, []byte("\xfd7zXZ\x00\x00\x04"), tar.ErrHeader, "unxz"},
	} {
		path := filepath.Join(t.TempDir(), "archive")
		put(t, path, c.octets, past)
		s, err := c.make(path, Options{})
		if err == nil {
			check(t, s.Close())
		}
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Zip(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Tar(filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	for _, s := range []*Source{serve(t, Zip, zipOf(t)), serve(t, Tar, tarOf(t, nil))} {
		if list, err := s.List(t.Context(), "", 10); err != nil || len(list) != 0 {
			t.Errorf("an archive of nothing: %v, %v", list, err)
		}
	}
}

// most is how many octets a fuzz target reads of one entry.
const most = 1 << 20

// compare holds what a Source serves of octets against what another reader has: each file
// must be of the same name and octets there, or fail. other returns nil if that one
// cannot read it at all.
func compare(t *testing.T, path string, octets []byte, make func(string, Options) (*Source, error), other func() map[string][]string) {
	check(t, os.WriteFile(path, octets, 0o600))
	s, err := make(path, Options{})
	if err != nil {
		return
	}
	defer s.Close()
	var files map[string][]string
	for _, name := range walk(t, s, "") {
		if strings.HasSuffix(name, "/") {
			continue
		}
		o, err := s.Open(t.Context(), name, gateway.Want{})
		if err != nil {
			continue
		}
		size := o.Info().Size
		var b []byte
		if size > 0 {
			b, err = part(t.Context(), o, 0, min(size, most))
		}
		if int64(len(b)) > size {
			t.Errorf("%q has %d octets of %d", name, len(b), size)
		}
		if last, tailErr := tail(t, o); err == nil && tailErr == nil && size <= most && !bytes.HasSuffix(b, last) {
			t.Errorf("%q ends with %q, and with %q", name, last, b)
		}
		if files == nil {
			files = other()
		}
		if files == nil {
			return
		}
		if err == nil && size <= most && !slices.Contains(files[name], string(b)) {
			t.Errorf("%q is %q, and not one of %q", name, b, files[name])
		}
		check(t, o.Close())
	}
}

// tail reads the last octets of an object that is not too long.
func tail(t *testing.T, o gateway.Object) ([]byte, error) {
	size := o.Info().Size
	if size == 0 || size > most {
		return nil, nil
	}
	n := min(size, 10)
	return part(t.Context(), o, size-n, n)
}

func seeds(f *testing.F, pattern string) {
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	check(f, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		check(f, err)
		f.Add(b)
	}
}

func FuzzZip(f *testing.F) {
	seeds(f, "*.zip")
	f.Add(zipOf(f, item{"a", "stored", false}, item{"d/b", strings.Repeat("deflate", 9), true}, item{"d/", "", false}, item{"a", "again", true}, item{"../x", "x", true}))
	path := filepath.Join(f.TempDir(), "archive")
	f.Fuzz(func(t *testing.T, octets []byte) {
		compare(t, path, octets, Zip, func() map[string][]string {
			files := map[string][]string{}
			r, err := zip.NewReader(bytes.NewReader(octets), int64(len(octets)))
			if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
				return nil
			}
			for _, e := range r.File {
				name, _ := clean(e.Name)
				var b []byte
				if in, err := e.Open(); err == nil {
					b, _ = io.ReadAll(io.LimitReader(in, most))
					_ = in.Close()
				}
				files[name] = append(files[name], string(b))
			}
			return files
		})
	})
}

// summed gives all that looks like a header of a tar file the right sum, so that
// headers get further than that.
func summed(octets []byte) []byte {
	octets = slices.Clone(octets)
	for h := range slices.Chunk(octets, 512) {
		if len(h) < 512 || string(h[257:262]) != "ustar" {
			continue
		}
		copy(h[148:], "        ")
		sum := 0
		for _, b := range h {
			sum += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return octets
}

func FuzzTar(f *testing.F) {
	seeds(f, "*.tar")
	f.Add(tarOf(f, []tar.Header{{Name: "a"}, {Name: "d/", Typeflag: tar.TypeDir}, {Name: "d/l", Typeflag: tar.TypeLink, Linkname: "a"}, {Name: "a", Format: tar.FormatPAX}}, "one", "", "", "two"))
	path := filepath.Join(f.TempDir(), "archive")
	f.Fuzz(func(t *testing.T, octets []byte) {
		octets = summed(octets)
		compare(t, path, octets, Tar, func() map[string][]string {
			files := map[string][]string{}
			for r := tar.NewReader(bytes.NewReader(octets)); ; {
				h, err := r.Next()
				if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
					return files
				}
				name, _ := clean(h.Name)
				if h.Typeflag == tar.TypeLink {
					target, _ := clean(h.Linkname)
					files[name] = append(files[name], files[target]...)
					continue
				}
				b, err := io.ReadAll(io.LimitReader(r, most))
				if err != nil {
					return nil // nor does it find what follows
				}
				files[name] = append(files[name], string(b))
			}
		})
	})
}
