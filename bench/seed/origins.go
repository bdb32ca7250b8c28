//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// A storage is S3 with the object in it. It tells what it is asked.
type storage struct {
	*httptest.Server
	tell atomic.Bool
}

func newStorage() (*storage, error) {
	backend := s3mem.New()
	if err := backend.CreateBucket("shop"); err != nil {
		return nil, err
	}
	kind := map[string]string{"Content-Type": "text/plain; charset=utf-8"}
	if _, err := backend.PutObject("shop", name[1:], kind, bytes.NewReader(object), int64(len(object)), nil); err != nil {
		return nil, err
	}
	s := &storage{}
	s3 := gofakes3.New(backend).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := &noting{ResponseWriter: w, status: http.StatusOK}
		s3.ServeHTTP(n, r)
		if s.tell.Load() {
			tell("Larder asks S3", r, n.status, n.sent, "")
		}
	}))
	return s, nil
}

// noting notes what is answered.
type noting struct {
	http.ResponseWriter
	status, sent int
}

func (n *noting) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(p []byte) (int, error) {
	m, err := n.ResponseWriter.Write(p)
	n.sent += m
	return m, err
}

func tell(who string, r *http.Request, status, octets int, more string) {
	condition := r.Header.Get("If-None-Match")
	if condition == "" {
		condition = r.Header.Get("If-Modified-Since")
	}
	if condition != "" {
		condition = " (if not " + condition + ")"
	}
	fmt.Printf("   %-15s %s %s%s -> %d, %d octets%s\n", who, r.Method, r.URL.Path, condition, status, octets, more)
}

// A service is the proxy service of the story: it sets Cache-Control, checks
// If-Modified-Since, and says in its 304 that the content has no octets, as its
// framework had it.
type service struct {
	listener net.Listener
	serving  sync.WaitGroup
}

func newService() (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &service{listener: l}
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { serve(c) })
		}
	})
	return s, nil
}

func (s *service) address() string { return s.listener.Addr().String() }

// Close ends the service. Its connections have been closed by their clients.
func (s *service) Close() { _ = s.listener.Close() }

func serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		head := fmt.Sprintf("Date: %s\r\nCache-Control: max-age=1\r\nLast-Modified: Mon, 06 May 2024 07:08:09 GMT\r\nContent-Type: text/plain\r\n",
			time.Now().UTC().Format(http.TimeFormat))
		if r.Header.Get("If-Modified-Since") != "" {
			tell("asks the service", r, http.StatusNotModified, 0, ", Content-Length: 0")
			_, err = fmt.Fprintf(c, "HTTP/1.1 304 Not Modified\r\n%sContent-Length: 0\r\n\r\n", head)
		} else {
			tell("asks the service", r, http.StatusOK, len(object), "")
			_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", head, len(object), object)
		}
		if err != nil {
			return
		}
	}
}
