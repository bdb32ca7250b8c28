package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// A Kind is a Proxy-Status error type, spelt as RFC 9209 §2.3 spells it.
type Kind string

// The kinds that an Upstream reports.
const (
	DNSTimeout             Kind = "dns_timeout"
	DNSError               Kind = "dns_error"
	DestinationUnavailable Kind = "destination_unavailable"
	DestinationUnroutable  Kind = "destination_ip_unroutable"
	ConnectionRefused      Kind = "connection_refused"
	ConnectionTerminated   Kind = "connection_terminated"
	ConnectionTimeout      Kind = "connection_timeout"
	ConnectionReadTimeout  Kind = "connection_read_timeout"
	ConnectionWriteTimeout Kind = "connection_write_timeout"
	ConnectionLimit        Kind = "connection_limit_reached"
	TLSProtocolError       Kind = "tls_protocol_error"
	TLSCertificateError    Kind = "tls_certificate_error"
	TLSAlertReceived       Kind = "tls_alert_received"
	RequestError           Kind = "http_request_error"
	ResponseIncomplete     Kind = "http_response_incomplete"
	ResponseHeaderSize     Kind = "http_response_header_section_size"
	ResponseTrailerSize    Kind = "http_response_trailer_section_size"
	ResponseTransferCoding Kind = "http_response_transfer_coding"
	UpgradeFailed          Kind = "http_upgrade_failed"
	ProtocolError          Kind = "http_protocol_error"
)

// meaning is what follows from a Kind.
type meaning struct {
	status      int  // the status recommended by RFC 9209 §2.3
	unreachable bool // the origin, or its answer, could not be had
}

var meanings = map[Kind]meaning{
	DNSTimeout:             {http.StatusGatewayTimeout, true},
	DNSError:               {http.StatusBadGateway, true},
	DestinationUnavailable: {http.StatusServiceUnavailable, true},
	DestinationUnroutable:  {http.StatusBadGateway, true},
	ConnectionRefused:      {http.StatusBadGateway, true},
	ConnectionTerminated:   {http.StatusBadGateway, true},
	ConnectionTimeout:      {http.StatusGatewayTimeout, true},
	ConnectionReadTimeout:  {http.StatusGatewayTimeout, true},
	ConnectionWriteTimeout: {http.StatusGatewayTimeout, true},
	ConnectionLimit:        {http.StatusServiceUnavailable, true},
	TLSProtocolError:       {http.StatusBadGateway, true},
	TLSCertificateError:    {http.StatusBadGateway, true},
	TLSAlertReceived:       {http.StatusBadGateway, true},
	RequestError:           {http.StatusBadRequest, false},
	ResponseIncomplete:     {http.StatusBadGateway, true},
	ResponseHeaderSize:     {http.StatusBadGateway, false},
	ResponseTrailerSize:    {http.StatusBadGateway, false},
	ResponseTransferCoding: {http.StatusBadGateway, false},
	UpgradeFailed:          {http.StatusBadGateway, false},
	ProtocolError:          {http.StatusBadGateway, false},
}

// An Error is the failure of an exchange by fault of the origin or of the way
// to it (RequestError: of the request). What the caller did to itself is
// returned as it is and never as an Error: the end of its context, the failure
// of the request body it supplied, the error of its interim.Func.
//
// Users need not import this package; they look for the methods:
//
//	interface{ error; ProxyError() string; Status() int; Unreachable() bool }
//
// An Error is immutable and may be shared by goroutines.
type Error struct {
	Kind   Kind
	Origin string // scheme and authority of the origin
	Err    error  // what happened, never nil
}

// Error says where, what and why, without any part of the request.
func (e *Error) Error() string {
	return fmt.Sprintf("origin %s: %s: %v", e.Origin, e.Kind, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ProxyError returns the error type for Proxy-Status (RFC 9209 §2.3).
func (e *Error) ProxyError() string { return string(e.Kind) }

// Status returns the status that RFC 9209 §2.3 recommends for the answer.
func (e *Error) Status() int {
	if m, ok := meanings[e.Kind]; ok {
		return m.status
	}
	return http.StatusBadGateway
}

// Unreachable reports whether the origin could not be reached or its answer
// broke off, so that a stale response may stand in for it (RFC 9111 §4.2.4,
// RFC 5861 §4). It is false for an answer that arrived and cannot be used,
// such as one in an unknown transfer coding: serving stale would hide that
// for as long as the origin keeps answering so.
func (e *Error) Unreachable() bool { return meanings[e.Kind].unreachable }

// Timeout reports whether a time limit of ours ran out, as in net.Error.
func (e *Error) Timeout() bool { return e.Status() == http.StatusGatewayTimeout }

// dialKind tells what went wrong while opening a connection.
func dialKind(err error) Kind {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && (dns.IsTimeout || isTimeout(dns)):
		return DNSTimeout
	case errors.As(err, &dns):
		return DNSError
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectionRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return DestinationUnroutable
	case errors.Is(err, syscall.ECONNRESET):
		return ConnectionTerminated
	case isTimeout(err):
		return ConnectionTimeout
	}
	return DestinationUnavailable
}

// handshakeKind tells what went wrong during the TLS handshake.
func handshakeKind(err error) Kind {
	var (
		cert *tls.CertificateVerificationError
		op   *net.OpError
	)
	switch {
	case errors.As(err, &cert):
		return TLSCertificateError
	case errors.As(err, &op) && op.Op == "remote error": // crypto/tls has no exported type for it
		return TLSAlertReceived
	case isTimeout(err):
		return ConnectionTimeout
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ConnectionTerminated
	}
	return TLSProtocolError
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
