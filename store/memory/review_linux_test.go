package memory

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/larderhq/larder/store"
)

// What the kernel was told to send is sent, whatever comes to lie where it was
// after Close.
func TestSentAfterClose(t *testing.T) {
	s := New(Options{Budget: 64 << 20})
	defer s.Close()
	if s.heap || s.large[0].file == nil {
		return // nothing is sent from a file
	}
	const size = 100_000
	first, second := bytes.Repeat([]byte{1}, size), bytes.Repeat([]byte{2}, size)
	e := commit(t, s, "first", first)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()

	r, err := s.Open(ctx, store.Key("first"), e.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	f, off, n := r.(interface {
		File() (*os.File, int64, int64)
	}).File()
	raw, err := out.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Write(func(fd uintptr) bool {
		var sent int
		sent, err = syscall.Sendfile(int(fd), int(f.Fd()), &off, int(n))
		n = int64(sent)
		return true
	})
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	r.Close()
	if err := s.Remove(ctx, store.Key("first"), e.ID); err != nil {
		t.Fatal(err)
	}
	commit(t, s, "second", second)
	got := make([]byte, n)
	if _, err := io.ReadFull(in, got); err != nil {
		t.Fatal(err)
	}
	if at := bytes.IndexByte(got, 2); at >= 0 {
		t.Errorf("octets %d and on of %d are of another body", at, n)
	}
}
