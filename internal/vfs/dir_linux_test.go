package vfs

import (
	"errors"
	"syscall"
	"testing"
)

// what was allocated is room that the file system has set aside.
func TestAllocateTakesRoom(t *testing.T) {
	f := openFile(t, tempDir(t), "a", create)
	const size = 1 << 20
	if err := fallocate(f.OS(), size); errors.Is(err, errors.ErrUnsupported) {
		t.Log("this file system cannot allocate ahead")
		return
	}
	must(t, f.Allocate(size))
	info, err := f.OS().Stat()
	must(t, err)
	if got := info.Sys().(*syscall.Stat_t).Blocks * 512; got < size {
		t.Errorf("Allocate(%d) set %d octets aside", size, got)
	}
}

// What was just written is in memory: to read it, nobody waits.
func TestReadNowFindsWhatWasWritten(t *testing.T) {
	f := put(t, tempDir(t), "a", "text")
	now, ok := f.(Prompt)
	if !ok {
		t.Log("not on this machine")
		return
	}
	p := make([]byte, 4)
	n, err := now.ReadNow(p, 0)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Log("this file system cannot")
		return
	}
	if string(p[:n]) != "text" || err != nil {
		t.Errorf("ReadNow: %q, %v", p[:n], err)
	}
}
