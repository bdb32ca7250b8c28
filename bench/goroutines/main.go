// Goroutines answers every request on 127.0.0.1:$PORT with $SIZE octets, by a
// goroutine for each connection that looks at nothing but where a head ends: the
// least that a server in Go of that build can cost. Decision record 9 compares it
// with the loops of the front:
//
//	WORK=one1k PEERS=none go run ./bench 'goroutines:go run ./bench/goroutines'
package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
)

func main() {
	fmt.Fprintln(os.Stderr, "goroutines:", serve(os.Getenv("PORT"), os.Getenv("SIZE")))
	os.Exit(1)
}

// serve answers until it cannot.
func serve(port, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return fmt.Errorf("SIZE: %w", err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	answer := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n), body...)
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answerAll(c, answer)
	}
}

// answerAll answers until the client is gone. Requests come whole, and one at a time.
func answerAll(c net.Conn, answer []byte) {
	defer c.Close()
	in := make([]byte, 4<<10)
	for {
		n, err := c.Read(in)
		if err != nil {
			return
		}
		if bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}
