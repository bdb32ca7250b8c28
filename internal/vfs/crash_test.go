package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// outcomes returns all that a crash can leave of m, as what says of each.
func outcomes(m *Mem, mode CrashMode, what func(*Mem) string) []string {
	found := map[string]bool{}
	for chance := range Choices() {
		found[what(m.Clone().Crash(chance, mode))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func wantOutcomes(t *testing.T, m *Mem, what func(*Mem) string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := outcomes(m, PowerCut, what); !slices.Equal(got, want) {
		t.Errorf("a crash leaves\n\t%q, want\n\t%q", got, want)
	}
}

// sectors draws the octets of a file: each sector by the letter it is full of,
// "." for zeros, "#" for ones, "*" for noise and "?" for a mixture.
func sectors(t *testing.T, name string) func(*Mem) string {
	return func(m *Mem) string {
		s := text(t, m, name)
		if s == "-" {
			return s
		}
		var drawn strings.Builder
		for sector := range slices.Chunk([]byte(s), sectorLen) {
			first := sector[0]
			switch same := bytes.Count(sector, sector[:1]) == len(sector); {
			case same && first == 0:
				drawn.WriteByte('.')
			case same && first == 0xff:
				drawn.WriteByte('#')
			case same:
				drawn.WriteByte(first)
			case bytes.ContainsFunc(sector, func(r rune) bool { return r > 'z' }):
				drawn.WriteByte('*')
			default:
				drawn.WriteByte('?')
			}
		}
		return drawn.String()
	}
}

// full is sectors full of these letters.
func full(letters string) string {
	var s strings.Builder
	for _, l := range letters {
		s.WriteString(strings.Repeat(string(l), sectorLen))
	}
	return s.String()
}

// synced returns a Mem with one durable file a, which is open.
func synced(t *testing.T, text string) (*Mem, File) {
	t.Helper()
	m := &Mem{}
	f := put(t, m, "a", text)
	must(t, f.Sync())
	must(t, m.Sync())
	return m, f
}

func TestWriteIsThereOrLostOrTorn(t *testing.T) {
	m, f := synced(t, full("xyz"))
	p := []byte(full("AB"))
	_, err := f.WriteAt(p, 0)
	must(t, err)
	clear(p) // it is the caller's again
	wantOutcomes(t, m, sectors(t, "a"),
		"xyz", "Ayz", "xBz", "ABz", // in whole sectors
		".yz", "#yz", "*yz", ".Bz", "#Bz", "*Bz", // with garbage in one
		"x.z", "x#z", "x*z", "A.z", "A#z", "A*z")
}

func TestLaterWriteIsThereWithoutEarlier(t *testing.T) {
	m, f := synced(t, full("xy"))
	write(t, f, full("A"), 0)
	write(t, f, full("B"), sectorLen)
	got := outcomes(m, PowerCut, sectors(t, "a"))
	for _, want := range []string{"xy", "Ay", "xB", "AB"} {
		if !slices.Contains(got, want) {
			t.Errorf("no crash leaves %s: %q", want, got)
		}
	}
}

func TestSyncedAndUnsyncedFilesAreApart(t *testing.T) {
	m, _ := synced(t, full("x"))
	b := put(t, m, "b", "")
	must(t, m.Sync())
	write(t, b, full("B"), 0)
	wantOutcomes(t, m, sectors(t, "a"), "x")
	wantOutcomes(t, m, sectors(t, "b"), "", "B", ".", "#", "*")
}

func TestGarbageStaysInTheWriteUnlessWide(t *testing.T) {
	m, f := synced(t, "0123456789")
	write(t, f, "ab", 4)
	all := func(m *Mem) string { return text(t, m, "a") }
	noise := string(garbage(fixed(2), 4, 2))
	wantOutcomes(t, m, all, "0123456789", "0123ab6789", "0123\x00\x006789", "0123\xff\xff6789", "0123"+noise+"6789")

	wide := outcomes(m, PowerCutWide, all)
	if want := strings.Repeat("\xff", 10); !slices.Contains(wide, want) {
		t.Errorf("PowerCutWide leaves %q, never a sector of garbage", wide)
	}
}

// A fixed Chance always says the same.
type fixed int

func (f fixed) IntN(int) int { return int(f) }

func TestLengthIsOneItHad(t *testing.T) {
	m, f := synced(t, full("xy"))
	must(t, f.Truncate(sectorLen))
	wantOutcomes(t, m, sectors(t, "a"), "xy", "x")
	must(t, f.Truncate(3*sectorLen))
	wantOutcomes(t, m, sectors(t, "a"), "xy", "x", "xy.", "x..")
	must(t, f.Sync())
	wantOutcomes(t, m, sectors(t, "a"), "x..")
	must(t, f.Allocate(4*sectorLen))
	wantOutcomes(t, m, sectors(t, "a"), "x..", "x...")
}

func TestAppendIsThereInPart(t *testing.T) {
	m, f := synced(t, full("x"))
	write(t, f, full("A"), sectorLen)
	wantOutcomes(t, m, sectors(t, "a"), "x", "x.", "x#", "x*", "xA")
}

// The folder's names, each with what its file holds.
func tree(t *testing.T) func(*Mem) string {
	return func(m *Mem) string {
		names, err := m.List()
		must(t, err)
		var s []string
		for _, name := range names {
			s = append(s, name+"="+text(t, m, name))
		}
		return strings.Join(s, " ")
	}
}

func TestRenameIsWhole(t *testing.T) {
	m, _ := synced(t, "old")
	must(t, put(t, m, "new", "fresh").Sync())
	must(t, m.Sync())
	must(t, m.Rename("new", "a"))
	wantOutcomes(t, m, tree(t), "a=old new=fresh", "a=fresh")
	must(t, m.Sync())
	wantOutcomes(t, m, tree(t), "a=fresh")
}

// The classic: a file put in the place of another without Sync of what it
// holds may be there empty, and without FS.Sync the old one may be there.
func TestRenameWithoutSyncLosesOctets(t *testing.T) {
	m, _ := synced(t, "old")
	f := put(t, m, "new", "F")
	must(t, m.Rename("new", "a"))
	garbled := "a=" + string(garbage(fixed(2), 0, 1))
	wantOutcomes(t, m, tree(t), "a=old", "a=old new=", "a=old new=F", "a=old new=\x00", "a=old new=\xff",
		"a=old new"+garbled[1:], "a=", "a=F", "a=\x00", "a=\xff", garbled)
	must(t, f.Sync())
	wantOutcomes(t, m, tree(t), "a=old", "a=old new=F", "a=F")
}

func TestNamesApartAreLostApart(t *testing.T) {
	m, _ := synced(t, "")
	put(t, m, "b", "")
	must(t, m.Sync())
	must(t, m.Remove("a"))
	must(t, m.Remove("b"))
	put(t, m, "c", "")
	wantOutcomes(t, m, tree(t), "a= b=", "a= b= c=", "a=", "a= c=", "b=", "b= c=", "", "c=")
}

func TestNamesKeepTheirOrder(t *testing.T) {
	m := &Mem{}
	must(t, m.Sync())
	must(t, put(t, m, "a", "1").Sync())
	must(t, m.Rename("a", "b"))
	must(t, put(t, m, "a", "2").Sync())
	must(t, m.Remove("b"))
	wantOutcomes(t, m, tree(t), "", "a=1", "b=1", "a=2 b=1", "a=2")
}

// No file comes out of a crash under two names.
func TestRenamedTwiceHasOneName(t *testing.T) {
	m, _ := synced(t, "1")
	must(t, m.Rename("a", "b"))
	must(t, m.Rename("b", "c"))
	wantOutcomes(t, m, tree(t), "a=1", "b=1", "c=1")
}

func TestRenamedOntoOneNameKeepTheirOrder(t *testing.T) {
	m := &Mem{}
	must(t, put(t, m, "x", "1").Sync())
	must(t, put(t, m, "y", "2").Sync())
	must(t, m.Sync())
	must(t, m.Rename("x", "a"))
	must(t, m.Rename("y", "a"))
	wantOutcomes(t, m, tree(t), "x=1 y=2", "a=1 y=2", "a=2")
}

// What a power cut left is on the disk: the next one does not take it.
func TestSecondPowerCutTakesOnlyWhatCameSince(t *testing.T) {
	m, f := synced(t, "text")
	write(t, f, "T", 0)
	for chance := range Choices() {
		next := m.Clone().Crash(chance, PowerCut)
		left := tree(t)(next)
		write(t, openFile(t, next, "a", os.O_RDWR), "lost", 0)
		put(t, next, "b", "lost")
		if got := tree(t)(next.Crash(nil, UnsyncedLost)); got != left {
			t.Fatalf("the first leaves %q, the second %q", left, got)
		}
	}
}

func TestLengthMayLagBehindTheOctets(t *testing.T) {
	m, f := synced(t, full("x"))
	write(t, f, full("AA"), 0)
	write(t, f, full("BBB"), 0)
	got := outcomes(m, PowerCut, sectors(t, "a"))
	for _, want := range []string{"x", "B", "BB", "BBB", "xBB", "xA", "AA."} {
		if !slices.Contains(got, want) {
			t.Errorf("no crash leaves %s: %q", want, got)
		}
	}
}

func TestUnsyncedLostLeavesWhatWasSynced(t *testing.T) {
	m, f := synced(t, "kept")
	write(t, f, "lost", 2)
	must(t, m.Rename("a", "b"))
	put(t, m, "c", "lost")
	if got := tree(t)(m.Crash(nil, UnsyncedLost)); got != "a=kept" {
		t.Errorf("it leaves %q", got)
	}
}

// kill -9 takes nothing from the page cache, and makes nothing durable.
func TestProcessDiedKeepsAllUnsynced(t *testing.T) {
	m, f := synced(t, "kept")
	write(t, f, "more", 4)
	must(t, m.Rename("a", "b"))
	before := tree(t)(m)
	next := m.Crash(nil, ProcessDied)
	if got := tree(t)(next); got != before {
		t.Errorf("it leaves %q, want %q", got, before)
	}
	if got := tree(t)(next.Crash(nil, UnsyncedLost)); got != "a=kept" {
		t.Errorf("a power cut afterwards leaves %q", got)
	}
}

func TestCrashEndsTheOld(t *testing.T) {
	m, f := synced(t, "text")
	l, err := m.Lock("lock")
	must(t, err)
	must(t, m.Sync())
	next := m.Crash(nil, ProcessDied)
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, "ReadAt", err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	wantErr(t, "WriteAt", err, fs.ErrClosed)
	wantErr(t, "File.Sync", f.Sync(), fs.ErrClosed)
	_, err = f.Size()
	wantErr(t, "Size", err, fs.ErrClosed)
	wantErr(t, "Close of a lock", l.Close(), fs.ErrClosed)
	wantErr(t, "Sync", m.Sync(), fs.ErrClosed)
	_, err = m.Open("a", os.O_RDWR)
	wantErr(t, "Open", err, fs.ErrClosed)
	_, err = m.List()
	wantErr(t, "List", err, fs.ErrClosed)
	_, err = m.Free()
	wantErr(t, "Free", err, fs.ErrClosed)
	wantErr(t, "Rename", m.Rename("a", "b"), fs.ErrClosed)
	wantErr(t, "Remove", m.Remove("a"), fs.ErrClosed)
	wantErr(t, "Flip", m.Flip("a", 0, 0), fs.ErrClosed)
	l, err = next.Lock("lock")
	must(t, err)
	must(t, l.Close())
	openFile(t, next, "a", os.O_RDWR)
}

func TestSameSeedSameCrash(t *testing.T) {
	m := &Mem{}
	for i := range 20 {
		put(t, m, fmt.Sprint("f", i), strings.Repeat("x", 5000))
	}
	for seed := range uint64(20) {
		one := tree(t)(m.Clone().Crash(rand.New(rand.NewPCG(seed, 1)), PowerCutWide))
		two := tree(t)(m.Clone().Crash(rand.New(rand.NewPCG(seed, 1)), PowerCutWide))
		if one != two {
			t.Fatalf("seed %d leaves now this, now that", seed)
		}
	}
}

func TestFailedSyncIsNotMadeGoodByTheNext(t *testing.T) {
	m, f := synced(t, "old")
	write(t, f, "new", 0)
	f.(*memFile).failSync()
	m = m.Clone() // which knows of it too
	f = openFile(t, m, "a", os.O_RDWR)
	write(t, f, "+", 3)
	must(t, f.Sync())
	if got := held(t, f); got != "new+" {
		t.Errorf("readers see %q", got)
	}
	if got := tree(t)(m.Clone().Crash(nil, ProcessDied)); got != "a=new+" {
		t.Errorf("kill -9 leaves %q", got)
	}
	if got := tree(t)(m.Crash(nil, UnsyncedLost)); got != "a=old+" {
		t.Errorf("a power cut leaves %q", got)
	}
}

// A history drives a Mem by chance, and knows what a crash may leave.
type history struct {
	t     *testing.T
	r     *rand.Rand
	m     *Mem
	files map[string]*past // by durable name: none is renamed here
}

// A past is what one file held since it was synced, octet by octet.
type past struct {
	f       File
	now     []byte
	durable []byte
	touched []writ
	sizes   map[int]bool // it had since
	cut     bool         // since
}

type writ struct {
	off  int
	data []byte
}

func (h *history) step(mark byte) {
	p := h.files[string(rune('a'+h.r.IntN(len(h.files))))]
	off, n := h.r.IntN(6000), 1+h.r.IntN(1500)
	switch h.r.IntN(12) {
	case 0:
		must(h.t, p.f.Sync())
		*p = past{f: p.f, now: p.now, durable: slices.Clone(p.now), sizes: map[int]bool{len(p.now): true}}
	case 1:
		must(h.t, p.f.Truncate(int64(off)))
		p.now, p.cut = slices.Clone(resized(p.now, int64(off))), true
	default:
		data := bytes.Repeat([]byte{mark}, n)
		write(h.t, p.f, string(data), int64(off))
		p.now = resized(p.now, int64(max(off+n, len(p.now))))
		copy(p.now[off:], data)
		p.touched = append(p.touched, writ{off, data})
	}
	p.sizes[len(p.now)] = true
}

// allowed says what is wrong with left, which a crash left of p.
func (p *past) allowed(left []byte, mode CrashMode) error {
	exact := map[CrashMode][]byte{ProcessDied: p.now, UnsyncedLost: p.durable}
	if want, ok := exact[mode]; ok {
		if !bytes.Equal(left, want) {
			return errors.New("not as it was")
		}
		return nil
	}
	if !p.sizes[len(left)] {
		return fmt.Errorf("%d octets long, which it never was", len(left))
	}
	for i, got := range left {
		if !p.mayBe(i, got, mode) {
			return fmt.Errorf("octet %d is %d, which was never written", i, got)
		}
	}
	return nil
}

// mayBe says whether octet i may be got: as synced, zero where there was no
// octet or one was cut off, as written, or garbage where a write touched it.
func (p *past) mayBe(i int, got byte, mode CrashMode) bool {
	wasThere := i < len(p.durable)
	if wasThere && got == p.durable[i] || got == 0 && (!wasThere || p.cut) {
		return true
	}
	return slices.ContainsFunc(p.touched, func(w writ) bool {
		from, till := w.off, w.off+len(w.data)
		if mode == PowerCutWide {
			from, till = from&^(sectorLen-1), (till+sectorLen-1)&^(sectorLen-1)
		}
		return from <= i && i < till
	})
}

// whatever the crash, what was synced and not touched since is there,
// and nothing is there that was never written, but in torn sectors.
func TestCrashLeavesOnlyWhatWasWritten(t *testing.T) {
	seed := rand.Uint64()
	for run := range uint64(60) {
		h := &history{t: t, r: rand.New(rand.NewPCG(seed, run)), m: &Mem{}, files: map[string]*past{}}
		for _, name := range []string{"a", "b"} {
			h.files[name] = &past{f: openFile(t, h.m, name, create), sizes: map[int]bool{0: true}}
		}
		must(t, h.m.Sync())
		for i := range 1 + h.r.IntN(40) {
			h.step(byte(1 + i))
		}
		for _, mode := range []CrashMode{ProcessDied, UnsyncedLost, PowerCut, PowerCutWide} {
			for range 10 {
				after := h.m.Clone().Crash(h.r, mode)
				for name, p := range h.files {
					if err := p.allowed([]byte(text(t, after, name)), mode); err != nil {
						t.Fatalf("seed %d, run %d, mode %d: %s is %v", seed, run, mode, name, err)
					}
				}
			}
		}
	}
}

func TestMemHasItsCapacity(t *testing.T) {
	const pages = 10
	m := NewMem(pages*pageLen + 100)
	free := func(want int64) {
		t.Helper()
		if n, err := m.Free(); err != nil || n != want*pageLen {
			t.Errorf("Free: %d, %v; want %d", n, err, want*pageLen)
		}
	}
	f := put(t, m, "a", "x")
	free(9)
	must(t, f.Allocate(4*pageLen))
	free(6)
	write(t, f, full("ab"), 3*pageLen) // where it is set aside
	free(6)
	wantErr(t, "Allocate", f.Allocate(11*pageLen), syscall.ENOSPC)
	free(6)
	n, err := f.WriteAt(make([]byte, 8*pageLen), 3*pageLen)
	wantErr(t, "WriteAt", err, syscall.ENOSPC)
	if n != 7*pageLen {
		t.Errorf("WriteAt does %d octets, want %d", n, 7*pageLen)
	}
	free(0)
	must(t, f.Truncate(pageLen+1))
	free(8)
	if n, err := m.Clone().Free(); err != nil || n != 8*pageLen {
		t.Errorf("a Clone has %d octets free, %v", n, err)
	}
	must(t, m.Rename("a", "b"))
	must(t, m.Remove("b"))
	free(8) // it is still open
	must(t, f.Close())
	free(10)
	f = put(t, m, "a", "x")
	b := put(t, m, "b", "x")
	must(t, f.Close())
	must(t, m.Rename("b", "a"))
	must(t, m.Rename("a", "a"))
	free(9)
	l, err := m.Lock("a")
	must(t, err)
	_, err = m.Lock("a")
	wantErr(t, "Lock", err, ErrLocked)
	must(t, l.Close())
	must(t, b.Close())
	free(9)
	must(t, m.Remove("a"))
	free(10)
	if n, err := (&Mem{}).Free(); err != nil || n < 1<<60 {
		t.Errorf("a zero Mem has %d octets free, %v", n, err)
	}
}

func TestMemIsSparse(t *testing.T) {
	m := NewMem(1 << 20)
	f := openFile(t, m, "a", create)
	must(t, f.Truncate(100<<30))
	write(t, f, "end", 100<<30-3)
	if n, err := m.Free(); err != nil || n != 1<<20-pageLen {
		t.Errorf("Free: %d, %v", n, err)
	}
	p := make([]byte, 6)
	if n, err := f.ReadAt(p, 100<<30-6); n != 6 || err != nil || string(p) != "\x00\x00\x00end" {
		t.Errorf("ReadAt: %q, %v", p[:n], err)
	}
	must(t, f.Truncate(maxLen))
	_, err := f.WriteAt(p, maxLen-5)
	wantErr(t, "WriteAt", err, syscall.EFBIG)
	wantErr(t, "Truncate", f.Truncate(maxLen+1), syscall.EFBIG)
	huge := openFile(t, &Mem{}, "a", create)
	must(t, huge.Allocate(maxLen))
	write(t, huge, "end", maxLen-3)
}

// one bit, for readers now and after any crash.
func TestFlipTurnsOneBit(t *testing.T) {
	m, f := synced(t, "abc")
	must(t, m.Flip("a", 1, 0))
	if got := held(t, f); got != "acc" {
		t.Errorf("it holds %q", got)
	}
	if got := text(t, m.Clone().Crash(nil, UnsyncedLost), "a"); got != "acc" {
		t.Errorf("after a crash it holds %q", got)
	}
	wantErr(t, "Flip", m.Flip("b", 0, 0), fs.ErrNotExist)
	for _, at := range []struct{ off, bit int }{{-1, 0}, {3, 0}, {0, -1}, {0, 8}} {
		if m.Flip("a", int64(at.off), at.bit) == nil {
			t.Errorf("Flip(%d, %d) went through", at.off, at.bit)
		}
	}
}

func TestCloneGoesItsOwnWay(t *testing.T) {
	m, f := synced(t, "text")
	write(t, f, "T", 0)
	c := m.Clone()
	write(t, f, "old", 0)
	write(t, openFile(t, c, "a", os.O_RDWR), "new", 0)
	must(t, m.Remove("a"))
	if got := tree(t)(c); got != "a=newt" {
		t.Errorf("the Clone has %q", got)
	}
	if got := held(t, f); got != "oldt" {
		t.Errorf("the first holds %q", got)
	}
	if got := tree(t)(c.Crash(nil, UnsyncedLost)); got != "a=text" {
		t.Errorf("the Clone synced %q", got)
	}
}
