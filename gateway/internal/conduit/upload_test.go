package conduit

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestExactlyNeverGivesAllOfWhatHasAnotherSize(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		r    io.Reader
		size int64
		n    int // octets at most
		err  error
	}{
		{strings.NewReader("abc"), 3, 3, nil},
		{iotest.DataErrReader(strings.NewReader("abc")), 3, 3, nil},
		{strings.NewReader("abc"), -1, 3, nil},
		{strings.NewReader(""), 0, 0, nil},
		{strings.NewReader("abc"), 4, 3, io.ErrUnexpectedEOF},
		{strings.NewReader("abc"), 2, 1, ErrLonger},
		{strings.NewReader("abc"), 0, 0, ErrLonger},
		{io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 3, 2, broken},
	} {
		r := Exactly(iotest.OneByteReader(c.r), c.size)
		b, err := io.ReadAll(r)
		if !errors.Is(err, c.err) || len(b) != c.n {
			t.Errorf("%+v: %q, %v", c, b, err)
		}
		if n, again := r.Read(make([]byte, 9)); n != 0 || c.err != nil && !errors.Is(again, c.err) {
			t.Errorf("%+v: %d, %v after the end", c, n, again)
		}
	}
}

func TestFinishTellsWhetherAllWasTaken(t *testing.T) {
	for _, c := range []struct {
		read int64
		want error
	}{{10, nil}, {9, ErrEarly}, {0, ErrEarly}} {
		b := New(bytes.NewReader(make([]byte, 10)), 10)
		if n, err := io.Copy(io.Discard, io.LimitReader(b, c.read)); n != c.read || err != nil {
			t.Error(n, err)
		}
		if err := b.Finish(t.Context()); !errors.Is(err, c.want) || b.Begun() != (c.read > 0) {
			t.Errorf("%d octets taken: %v, begun %t", c.read, err, b.Begun())
		}
	}
}

func TestADocumentIsBounded(t *testing.T) {
	child := "<b>" + strings.Repeat("x", 60<<10) + "</b>"
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"right":      {"<a>" + child + child + "<b/></a>", io.EOF},
		"deep":       {strings.Repeat("<a>", 33), ErrLarge},
		"long":       {"<a>" + strings.Repeat(child, 20), ErrLarge},
		"child":      {"<a><b>" + strings.Repeat("<c/>", 20<<10), ErrLarge},
		"attributes": {"<a><b " + strings.Repeat("x='' ", 20<<10), ErrLarge},
		"text":       {"<a>" + strings.Repeat(" ", 70<<10), ErrLarge},
		"comment":    {"<!--" + strings.Repeat(" ", 70<<10), ErrLarge},
	} {
		d := NewDocument(strings.NewReader(c.text), 1<<20)
		var err error
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, c.want) || errors.Is(d.Failed(), ErrLarge) != errors.Is(c.want, ErrLarge) {
			t.Errorf("%s: %v, %v", name, err, d.Failed())
		}
	}
	broken := errors.New("broken")
	d := NewDocument(io.MultiReader(strings.NewReader("<a>"), iotest.ErrReader(broken)), 1<<20)
	for err := error(nil); err == nil; {
		_, err = d.Token()
	}
	if !errors.Is(d.Failed(), broken) {
		t.Error(d.Failed())
	}
}
