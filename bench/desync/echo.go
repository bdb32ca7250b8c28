//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// States of a record.
const (
	stateWhole  = "whole"
	stateBroken = "broken" // the body did not come to its end
	stateEarly  = "early"  // the body was not waited for
)

// A record is one request as an origin understood it.
type record struct {
	state                string
	length               int
	sum                  string
	place                string // connection and number of the request on it
	method, host, target string
}

// String is how records travel: in the field Echo and in the body of each
// answer, and on the stderr of echo.js.
func (r *record) String() string {
	host := r.host
	if host == "" {
		host = "-"
	}
	return fmt.Sprintf("%s %d %s %s %s %s %s", r.state, r.length, r.sum, r.place, r.method, host, r.target)
}

func parseRecord(line string) (record, error) {
	f := strings.SplitN(line, " ", 7)
	if len(f) < 7 {
		return record{}, fmt.Errorf("%q is no record", line)
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return record{}, fmt.Errorf("%q is no record: %w", line, err)
	}
	return record{f[0], n, f[2], f[3], f[4], strings.TrimPrefix(f[5], "-"), f[6]}, nil
}

// maxBody is more than any body of ours has. What is longer is wrong anyway.
const maxBody = 1 << 20

// An echo is the origin that net/http is: either the one that is put to the
// test, or the one behind a proxy that is.
type echo struct {
	http.Server
	address     string
	saw         func(record)
	connections atomic.Int64
}

// places are the keys of contexts of connections.
type placeKey struct{}

// A place counts the requests of one connection.
type place struct {
	connection int64
	served     atomic.Int64
}

// newEcho starts an echo that tells saw of each request.
func newEcho(saw func(record)) (*echo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echo{address: l.Addr().String(), saw: saw}
	e.Handler, e.ReadHeaderTimeout, e.IdleTimeout = e, time.Minute, 10*time.Minute
	e.DisableGeneralOptionsHandler = true
	e.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, placeKey{}, &place{connection: e.connections.Add(1)})
	}
	e.ErrorLog = quiet
	go func() { _ = e.Serve(l) }() // it ends with Close
	return e, nil
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, ok := r.Context().Value(placeKey{}).(*place)
	if !ok {
		panic("desync: a connection without a place")
	}
	rec := record{
		state: stateEarly, sum: sum(nil), place: fmt.Sprintf("%d/%d", at.connection, at.served.Add(1)),
		method: r.Method, host: r.Host, target: r.RequestURI,
	}
	if !strings.Contains(r.RequestURI, asEarly) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		rec.state, rec.length, rec.sum = stateWhole, len(body), sum(body)
		if err != nil {
			rec.state = stateBroken
		}
	}
	e.saw(rec)
	if rec.state == stateBroken {
		panic(http.ErrAbortHandler) // nobody is there to be answered
	}
	answer(w, &rec)
}

// answer sends a record back.
func answer(w http.ResponseWriter, rec *record) {
	h, line := w.Header(), rec.String()
	h.Set("Echo", line)
	h.Set("Cache-Control", "no-store")
	if strings.Contains(rec.target, asHit) {
		h.Set("Cache-Control", "max-age=60")
	}
	if strings.Contains(rec.target, asChunked) {
		_ = http.NewResponseController(w).Flush() // an error comes again with the write
	} else {
		h.Set("Content-Length", strconv.Itoa(len(line)+1))
	}
	_, _ = io.WriteString(w, line+"\n") // who left is counted by the client
}
