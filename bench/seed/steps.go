//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// expired is after all lifetimes of the story have ended.
const expired = 2100 * time.Millisecond

// client has a connection for each request: octets beyond the announced length, which
// Squid sends in the story, would be taken for the next answer.
var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask has a client get the object, and tells how much of it came.
func ask(ctx context.Context, base string) (whole bool, status string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+name, nil)
	if err != nil {
		return false, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	status = resp.Header.Get("Cache-Status")
	whole = err == nil && bytes.Equal(body, object) && resp.StatusCode == http.StatusOK
	said := "whole"
	if !whole {
		said = fmt.Sprintf("NOT WHOLE (Content-Length: %d; %v)", resp.ContentLength, err)
	}
	if status != "" {
		said += "; Cache-Status: " + status
	}
	tell("client", req, resp.StatusCode, len(body), ": "+said)
	return whole, status, nil
}

// withLarder plays the story through a larder of its own: fetched, hit, expired,
// validated, hit.
func withLarder(ctx context.Context, program string, args []string) error {
	l, err := rig.StartLarder(ctx, rig.Command{Argv: append([]string{program}, append(args, "--listen", "127.0.0.1:0", "--log", "off")...)})
	if err != nil {
		return err
	}
	defer l.Kill()
	for i, want := range []string{"fwd=uri-miss", "hit", "fwd-status=304", "hit"} {
		if i == 2 {
			fmt.Println("   … it expires …")
			if err := rig.Pause(ctx, expired); err != nil {
				return err
			}
		}
		whole, status, err := ask(ctx, l.URL)
		if err != nil {
			return err
		}
		if !whole || !strings.Contains(status, want) {
			return fmt.Errorf("answer %d is not whole, or no %s: %s", i+1, want, status)
		}
	}
	return nil
}

// behindSquid plays the story through a Squid of its own in front of an origin. The
// body after a validation is to be whole, or not.
func behindSquid(ctx context.Context, origin string, sound bool) error {
	_, port, err := net.SplitHostPort(origin)
	if err != nil {
		return err
	}
	free, err := rig.FreeAddress()
	if err != nil {
		return err
	}
	_, here, _, _ := runtime.Caller(0)
	up := filepath.Join(filepath.Dir(here), "..", "up")
	if _, err := exec.LookPath("squid"); err != nil {
		return errors.New("squid is not installed: run bench/install-peers, or apt-get install squid")
	}
	p, err := rig.Start(rig.Command{Argv: []string{up, "squid", port, strconv.Itoa(int(free.Port())), "conformance"}})
	if err != nil {
		return err
	}
	defer p.Stop(10 * time.Second)
	if err := answering(ctx, free.String(), p); err != nil {
		return err
	}
	base := "http://" + free.String()
	for i := range 4 {
		if i == 2 {
			fmt.Println("   … it expires …")
			if err := rig.Pause(ctx, expired); err != nil {
				return err
			}
		}
		whole, _, err := ask(ctx, base)
		if err != nil {
			return err
		}
		if !whole && (sound || i < 2) {
			return fmt.Errorf("behind Squid, answer %d is not whole", i+1)
		}
		if whole && !sound && i == 2 {
			fmt.Println("   (this Squid does not mind; the one of the story sent nothing here)")
		}
	}
	return nil
}

// answering waits until something listens.
func answering(ctx context.Context, addr string, p *rig.Process) error {
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("squid ended: %w", p.Err())
		default:
		}
		if err := rig.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// showNotModified shows the gateway's 304 as it goes over the wire.
func showNotModified(addr string) error {
	head := func(field string) (string, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", name, field)
		var b strings.Builder
		for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != ""; {
			b.WriteString("     " + lines.Text() + "\n")
		}
		return b.String(), nil
	}
	first, err := head("")
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(first, "Etag: ")
	tag, _, _ := strings.Cut(after, "\n")
	second, err := head("If-None-Match: " + tag + "\r\n")
	if err != nil {
		return err
	}
	fmt.Printf("   its 304, as it goes over the wire:\n%s", second)
	if !strings.Contains(second, " 304 ") || strings.Contains(second, "Content-Length") {
		return errors.New("the gateway's 304 is none, or has a Content-Length")
	}
	return nil
}
