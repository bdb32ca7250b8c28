package flow

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// pieces are a Source, and what comes after the last of them.
type pieces struct {
	all [][]byte
	end error
}

func (p *pieces) Next() ([]byte, error) {
	if len(p.all) == 0 {
		return nil, p.end
	}
	return p.all[0], nil
}

func (p *pieces) Advance(n int) {
	if p.all[0] = p.all[0][n:]; len(p.all[0]) == 0 {
		p.all = p.all[1:]
	}
}

func source(end error) *pieces {
	return &pieces{[][]byte{[]byte("one "), []byte("t"), []byte("wo and three")}, end}
}

const whole = "one two and three"

type reader struct{ Source }

func (r reader) Read(p []byte) (int, error) { return Read(r.Source, p) }

func TestRead(t *testing.T) {
	if err := iotest.TestReader(reader{source(io.EOF)}, []byte(whole)); err != nil {
		t.Error(err)
	}
}

var errCut = errors.New("cut off")

func TestWriteTo(t *testing.T) {
	var to bytes.Buffer
	if n, err := WriteTo(source(io.EOF), &to); n != int64(len(whole)) || err != nil || to.String() != whole {
		t.Errorf("%d octets and %v: %q", n, err, &to)
	}
	to.Reset()
	if n, err := WriteTo(source(errCut), &to); n != int64(len(whole)) || err != errCut || to.String() != whole {
		t.Errorf("%d octets and %v: %q", n, err, &to)
	}
}

// A receiver that takes less than it is given says so, or is found out.
func TestWriteToReceivers(t *testing.T) {
	for name, c := range map[string]struct {
		to   writerFunc
		n    int64
		want error
	}{
		"an error":           {func(p []byte) (int, error) { return 2, errCut }, 2, errCut},
		"less, and no error": {func(p []byte) (int, error) { return 3, nil }, 3, io.ErrShortWrite},
		"more than there is": {func(p []byte) (int, error) { return len(p) + 1, nil }, 0, errCount},
		"less than nothing":  {func(p []byte) (int, error) { return -1, errCut }, 0, errCount},
	} {
		src := source(io.EOF)
		if n, err := WriteTo(src, c.to); n != c.n || err != c.want {
			t.Errorf("%s: %d octets and %v, want %d and %v", name, n, err, c.n, c.want)
		}
		if next, _ := src.Next(); string(next) != "one "[c.n:] {
			t.Errorf("%s: what follows is %q", name, next)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestProgress(t *testing.T) {
	isClosed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	for cause, want := range map[error]error{nil: io.EOF, errCut: errCut} {
		var p Progress
		p.Move() // nobody waits
		first := p.Moved()
		if isClosed(first) || p.Over() != nil {
			t.Fatal("it moved, or is over, from the beginning")
		}
		p.Move()
		second := p.Moved()
		if !isClosed(first) || isClosed(second) {
			t.Error("a move wakes those who wait, once")
		}
		if !p.End(cause) || !isClosed(second) || p.Over() != want {
			t.Errorf("over: %v, want %v", p.Over(), want)
		}
		if p.End(io.ErrNoProgress) || p.Over() != want {
			t.Errorf("over for the second time: %v", p.Over())
		}
	}
}
