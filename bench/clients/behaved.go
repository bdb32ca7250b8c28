//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// A behaved client asks for a short hit now and then: on a connection that it keeps,
// and beside that on a new one for each.
type behaved struct {
	address string

	mu         sync.Mutex
	kept, anew []time.Duration
}

// warm asks for everything until it is a hit.
func (b *behaved) warm(ctx context.Context) error {
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for _, path := range []string{smallPath, largePath} {
		if err := askFor(c, in, path, ""); err != nil {
			return err
		}
		if err := rig.Pause(ctx, 100*time.Millisecond); err != nil { // it is stored after it was sent
			return err
		}
		if err := askFor(c, in, path, "; hit"); err != nil {
			return err
		}
	}
	return nil
}

// start asks until the function that it returns is called, which says what went wrong.
func (b *behaved) start(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	var errs [2]error
	both.Go(func() { errs[0] = b.keep(ctx) })
	both.Go(func() { errs[1] = b.renew(ctx) })
	return sync.OnceValue(func() error {
		cancel()
		both.Wait()
		return errors.Join(errs[:]...)
	})
}

// pause is how long the client does nothing between two requests, and longest how
// long it waits for an answer.
const (
	pause   = 10 * time.Millisecond
	longest = 10 * time.Second
)

// keep asks on one connection.
func (b *behaved) keep(ctx context.Context) error {
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for rig.Pause(ctx, pause) == nil {
		began := time.Now()
		if err := c.SetDeadline(began.Add(longest)); err != nil {
			return err
		}
		if err := askHit(c, in); err != nil {
			return fmt.Errorf("the client who behaves, on the connection that it keeps: %w", err)
		}
		b.note(&b.kept, time.Since(began))
	}
	return nil
}

// renew asks on one connection after the other.
func (b *behaved) renew(ctx context.Context) error {
	for rig.Pause(ctx, pause) == nil {
		began := time.Now()
		if err := b.once(began.Add(longest)); err != nil {
			return fmt.Errorf("the client who behaves, on a new connection: %w", err)
		}
		b.note(&b.anew, time.Since(began))
	}
	return nil
}

func (b *behaved) once(deadline time.Time) error {
	c, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", b.address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	return askHit(c, bufio.NewReader(c))
}

func (b *behaved) note(to *[]time.Duration, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*to = append(*to, d)
}

// forget begins to measure anew.
func (b *behaved) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept, b.anew = nil, nil
}

// times are what answers have taken so far, on either kind of connection.
func (b *behaved) times() (kept, anew []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.kept), slices.Clone(b.anew)
}
