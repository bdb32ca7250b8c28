package field

import (
	"net/netip"
	"strings"
)

// AppendForwardedNode appends the node identifier for addr as it stands in the
// parameters for and by of Forwarded (RFC 7239, 6). addr is an IP address with
// or without a port, as in http.Request.RemoteAddr; port and zone are left out,
// an IPv6 address is put in brackets and quotes. Anything else, such as the
// peer of a Unix socket, becomes `unknown`.
func AppendForwardedNode(dst []byte, addr string) []byte {
	if bare, ok := strings.CutPrefix(addr, "["); ok && strings.HasSuffix(bare, "]") {
		addr = bare[:len(bare)-1]
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		withPort, err := netip.ParseAddrPort(addr)
		if err != nil {
			return append(dst, "unknown"...)
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.AppendTo(dst)
	}
	dst = append(dst, `"[`...)
	dst = ip.AppendTo(dst)
	return append(dst, `]"`...)
}
