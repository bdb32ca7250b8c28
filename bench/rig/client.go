package rig

import (
	"crypto/tls"
	"net/http"
)

// Client2 makes a client that speaks HTTP/2 by TLS alone, with who has that certificate. The caller
// calls CloseIdleConnections.
func Client2(c *Certificate) *http.Client {
	second := new(http.Protocols)
	second.SetHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: c.Pool(), MinVersion: tls.VersionTLS12}, Protocols: second, DisableCompression: true,
	}}
}
