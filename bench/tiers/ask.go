//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larderhq/larder/bench/rig"
)

// host is that of all requests unless they name another one.
const host = "http://www.origin.com"

// A want is what has to come of a request.
type want struct {
	version      int      // of the content
	parent, edge string   // what Cache-Status says of them, its beginning
	age          int      // where not 0, in seconds, at least, and at most 3 more
	later        bool     // what comes behind an answer may have to arrive first
	wire         []string // what passes between the tiers
}

// get has a client ask the edge for a URL, of host if it is a path.
func get(target string, w want) step {
	return func(ctx context.Context, s *stage) error { return s.get(ctx, "the edge", s.edge, target, &w) }
}

// getBehind has a client ask the parent.
func getBehind(target string, w want) step {
	return func(ctx context.Context, s *stage) error { return s.get(ctx, "the parent", s.parent, target, &w) }
}

func (s *stage) get(ctx context.Context, whom string, l *rig.Larder, target string, w *want) error {
	if err := s.wire.quiet(); err != nil {
		return err
	}
	fmt.Printf("   client asks %s: GET %s\n", whom, whole(target))
	res, body, err := s.ask(ctx, l, http.MethodGet, target)
	for late := time.Now().Add(patience); w.later && err == nil && body != bodies[w.version] && time.Now().Before(late); {
		if err = rig.Pause(ctx, 10*time.Millisecond); err == nil {
			res, body, err = s.ask(ctx, l, http.MethodGet, target)
		}
	}
	if err != nil {
		return err
	}
	statuses := res.Header.Values("Cache-Status")
	fmt.Printf("   client has: %d, %d octets, ETag %s, Age %q, Cache-Status %s\n",
		res.StatusCode, len(body), res.Header.Get("ETag"), res.Header.Get("Age"), strings.Join(statuses, ", "))
	if err := s.wire.expect(ctx, w.wire); err != nil {
		return err
	}
	return w.judge(res, body, l == s.edge)
}

// judge tells what is wrong with an answer, of the edge or of the parent.
func (w *want) judge(res *http.Response, body string, ofEdge bool) error {
	members := []string{w.parent}
	if ofEdge {
		members = append(members, w.edge)
	}
	statuses := res.Header.Values("Cache-Status")
	age, _ := strconv.Atoi(res.Header.Get("Age"))
	switch {
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("the client has %s", res.Status)
	case body != bodies[w.version] || res.Header.Get("ETag") != tags[w.version] || res.ContentLength != int64(len(body)):
		return fmt.Errorf("the client does not have version %d of the content: %q", w.version, body)
	case res.Header.Get("Surrogate-Key") != "" && ofEdge:
		return errors.New("the client has been told tags")
	case len(statuses) != len(members):
		return fmt.Errorf("%d members of Cache-Status, want one of each tier", len(statuses))
	case w.age != 0 && (age < w.age || age > w.age+3):
		return fmt.Errorf("the client is told an Age of %d, want %d or up to 3 more", age, w.age)
	}
	for i, member := range members {
		want := []string{"parent.example", "edge.example"}[i] + "; " + member // their names in CDN-Loop
		if !strings.HasPrefix(statuses[i], want) {
			return fmt.Errorf("Cache-Status has %q, want %q", statuses[i], want)
		}
	}
	return nil
}

// post has a client change something at a URL.
func post(target string, wire ...string) step {
	return func(ctx context.Context, s *stage) error {
		fmt.Printf("   client asks the edge: POST %s\n", whole(target))
		res, _, err := s.ask(ctx, s.edge, http.MethodPost, target)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusNoContent {
			return fmt.Errorf("the client has %s", res.Status)
		}
		return s.wire.expect(ctx, wire)
	}
}

// begin has a client ask the edge, and an origin that takes its time.
func begin(target string) step {
	return func(ctx context.Context, s *stage) error {
		fmt.Printf("   client asks the edge: GET %s, and the origin takes its time\n", whole(target))
		s.origin.hold()
		s.slow = make(chan error, 1)
		go func() {
			_, _, err := s.ask(ctx, s.edge, http.MethodGet, target)
			s.slow <- err
		}()
		return s.wire.expect(ctx, []string{"edge: GET", "parent: GET"})
	}
}

// arrive has the origin answer what was begun, and the client have it.
func arrive(ctx context.Context, s *stage) error {
	fmt.Println("   … the origin answers …")
	s.origin.release()
	if err := <-s.slow; err != nil {
		return err
	}
	return s.wire.expect(ctx, []string{"origin: 200", "parent: 200"})
}

// ask sends a request for a URL to a larder, and returns the answer with its content.
func (s *stage) ask(ctx context.Context, l *rig.Larder, method, target string) (*http.Response, string, error) {
	name, path, _ := strings.Cut(strings.TrimPrefix(whole(target), "http://"), "/")
	req, err := http.NewRequestWithContext(ctx, method, l.URL+"/"+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.Host = name
	res, err := s.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func whole(target string) string {
	if strings.HasPrefix(target, "/") {
		return host + target
	}
	return target
}

// What passes between the tiers when the edge asks the parent, and that the origin.
var (
	fetched     = []string{"edge: GET", "parent: GET", "origin: 200", "parent: 200"}
	fetchedOnce = []string{"edge: GET", "parent: 200"} // it was in the parent
)

// validated is what passes where both ask by the tag of a version, and how the origin answers.
func validated(version, status int) []string {
	answer := strconv.Itoa(status)
	return []string{"edge: GET if not " + tags[version], "parent: GET if not " + tags[version], "origin: " + answer, "parent: " + answer}
}
