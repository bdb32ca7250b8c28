package esi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// An output is where the page goes. What must not show yet is held back.
type output struct {
	dst      io.Writer
	limits   Limits
	written  int64
	unsent   bool // something was written since the last flush
	held     []byte
	holds    int // how many hold back what is in held
	unusable error
}

// hold begins to hold back. What it returns is for keep or undo, which end it.
func (o *output) hold() int {
	o.holds++
	return len(o.held)
}

// undo forgets what was held back since from.
func (o *output) undo(from int) {
	o.holds--
	o.held = o.held[:from]
}

// keep writes what was held back, unless it still is for another reason.
func (o *output) keep() error {
	o.holds--
	if o.holds > 0 {
		return nil
	}
	held := o.held
	o.held = nil
	return o.write(held)
}

// write takes b into the page. The output is unusable after any error but
// ErrFragment.
func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if o.holds > 0 {
		if int64(len(o.held)+len(b)) > o.limits.Fragment {
			return fmt.Errorf("esi: held back for an attempt: %w", fragmentTooLong(o.limits.Fragment))
		}
		o.held = append(o.held, b...)
		return nil
	}
	if o.written+int64(len(b)) > o.limits.Size {
		o.unusable = fmt.Errorf("esi: %w: more than %d octets", ErrSize, o.limits.Size)
		return o.unusable
	}
	n, err := o.dst.Write(b)
	o.written += int64(n)
	o.unsent = true
	if err != nil {
		o.unusable = fmt.Errorf("esi: write the page: %w", err)
	}
	return o.unusable
}

// flush sends what was written on its way, if dst can do that.
func (o *output) flush() error {
	o.unsent = false
	switch dst := o.dst.(type) {
	case interface{ FlushError() error }:
		if err := dst.FlushError(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			o.unusable = fmt.Errorf("esi: flush the page: %w", err)
		}
	case http.Flusher:
		dst.Flush()
	}
	return o.unusable
}
