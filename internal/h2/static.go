package h2

// static is the table that both sides know (RFC 7541 Appendix A); nothing is at 0.
var static = [62]struct{ name, value []byte }{
	1:  entry(":authority", ""),
	2:  entry(":method", "GET"),
	3:  entry(":method", "POST"),
	4:  entry(":path", "/"),
	5:  entry(":path", "/index.html"),
	6:  entry(":scheme", "http"),
	7:  entry(":scheme", "https"),
	8:  entry(":status", "200"),
	9:  entry(":status", "204"),
	10: entry(":status", "206"),
	11: entry(":status", "304"),
	12: entry(":status", "400"),
	13: entry(":status", "404"),
	14: entry(":status", "500"),
	15: entry("accept-charset", ""),
	16: entry("accept-encoding", "gzip, deflate"),
	17: entry("accept-language", ""),
	18: entry("accept-ranges", ""),
	19: entry("accept", ""),
	20: entry("access-control-allow-origin", ""),
	21: entry("age", ""),
	22: entry("allow", ""),
	23: entry("authorization", ""),
	24: entry("cache-control", ""),
	25: entry("content-disposition", ""),
	26: entry("content-encoding", ""),
	27: entry("content-language", ""),
	28: entry("content-length", ""),
	29: entry("content-location", ""),
	30: entry("content-range", ""),
	31: entry("content-type", ""),
	32: entry("cookie", ""),
	33: entry("date", ""),
	34: entry("etag", ""),
	35: entry("expect", ""),
	36: entry("expires", ""),
	37: entry("from", ""),
	38: entry("host", ""),
	39: entry("if-match", ""),
	40: entry("if-modified-since", ""),
	41: entry("if-none-match", ""),
	42: entry("if-range", ""),
	43: entry("if-unmodified-since", ""),
	44: entry("last-modified", ""),
	45: entry("link", ""),
	46: entry("location", ""),
	47: entry("max-forwards", ""),
	48: entry("proxy-authenticate", ""),
	49: entry("proxy-authorization", ""),
	50: entry("range", ""),
	51: entry("referer", ""),
	52: entry("refresh", ""),
	53: entry("retry-after", ""),
	54: entry("server", ""),
	55: entry("set-cookie", ""),
	56: entry("strict-transport-security", ""),
	57: entry("transfer-encoding", ""),
	58: entry("user-agent", ""),
	59: entry("vary", ""),
	60: entry("via", ""),
	61: entry("www-authenticate", ""),
}

func entry(name, value string) struct{ name, value []byte } {
	return struct{ name, value []byte }{[]byte(name), []byte(value)}
}

// staticNames has the first entry of each name.
var staticNames = func() map[string]int {
	m := make(map[string]int, len(static))
	for i := len(static) - 1; i > 0; i-- {
		m[string(static[i].name)] = i
	}
	return m
}()
