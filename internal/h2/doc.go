// Package h2 is the server's side of HTTP/2 (RFC 9113): frames, header
// compression, streams, flow control and priorities, and bounds on all that a
// client may have it do. What a Prompt can answer at once is answered by the
// goroutine that reads, with no allocation and no stream; the rest goes to an
// http.Handler, each request in a goroutine of its own.
package h2
