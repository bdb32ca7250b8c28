//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// attempts make a request ambiguous, or try to: some of what they do is sound,
// and what the reference makes of it decides.
var attempts = []func(*generator, *request){
	(*generator).oddLength, (*generator).oddLength, (*generator).twoLengths, (*generator).wrongLength, (*generator).wrongLength,
	(*generator).oddCoding, (*generator).oddCoding, (*generator).twoCodings, (*generator).oddCodingName, (*generator).bothFramings,
	(*generator).bothFramings, (*generator).oddChunkSize, (*generator).oddChunkSize, (*generator).oddChunkEnd, (*generator).oddExtension,
	(*generator).oddTrailer, (*generator).oddLineEnd, (*generator).oddLineEnd, (*generator).fold, (*generator).oddField, (*generator).oddField,
	(*generator).oddRequestLine, (*generator).oddRequestLine, (*generator).oddTarget, (*generator).oddVersion, (*generator).oddHost,
	(*generator).oddExpect, (*generator).oddConnection, (*generator).upgrade, (*generator).emptyLines, (*generator).hiddenLine,
	(*generator).bodyWithoutFraming, (*generator).oddMethod, (*generator).manyExtensions, (*generator).hiddenTrailer, (*generator).longTrailer,
}

// lengthOf is the number that the framing should say.
func lengthOf(q *request) int { return len(q.body) }

func (g *generator) oddLength(q *request) {
	n := lengthOf(q)
	value := pick(g,
		fmt.Sprintf("+%d", n), fmt.Sprintf("-%d", n), fmt.Sprintf("0x%x", n), fmt.Sprintf("0%d", n), fmt.Sprintf("00000000000000000000000%d", n),
		fmt.Sprintf("%d_0", n), "", " ", fmt.Sprintf("%d, %d", n, n), fmt.Sprintf("%d,%d", n, n+1), fmt.Sprintf("%d %d", n, n), fmt.Sprintf("%d;", n),
		fmt.Sprintf("\x0b%d", n), fmt.Sprintf("%d\x0c", n), fmt.Sprintf("%d\x00", n), fmt.Sprintf("\"%d\"", n), fmt.Sprintf("%d.0", n),
		fmt.Sprintf("%de0", n), fmt.Sprintf("%x", n+10), "18446744073709551616", "9223372036854775808", "4294967296", "-1", "chunked",
		fmt.Sprintf("%d\xa0", n), fmt.Sprintf("\xef\xbc\x91%d", n), fmt.Sprintf(",%d", n), fmt.Sprintf("%d,", n), fmt.Sprintf("\t %d \t", n))
	q.framing = []string{"Content-Length: " + value}
}

func (g *generator) twoLengths(q *request) {
	n := lengthOf(q)
	q.framing = []string{
		fmt.Sprintf("Content-Length: %d", n),
		fmt.Sprintf(pick(g, "Content-Length: %d", "content-length: %d", "Content-Length : %d", "Content_Length: %d", "Content-Length\t: %d"), pick(g, n, 0, n+1, max(0, n-1))),
	}
	g.Shuffle(2, func(i, j int) { q.framing[i], q.framing[j] = q.framing[j], q.framing[i] })
}

// wrongLength says more or less than there is, so that the body swallows the next
// request or its rest stands where that should be.
func (g *generator) wrongLength(q *request) {
	n := lengthOf(q)
	q.framing = []string{"Content-Length: " + strconv.Itoa(pick(g, n+1, n+2, n+g.IntN(200), max(0, n-1), n/2, 0, n+100000))}
}

func (g *generator) oddCoding(q *request) {
	if g.chance(70) {
		g.chunk(q)
	}
	q.framing = []string{pick(g, "Transfer-Encoding: ", "transfer-encoding:", "Transfer-Encoding:\t") + pick(g,
		"xchunked", "chunkedx", ",chunked", "chunked,", ", chunked", "chunked, identity", "identity", "identity, chunked", "gzip, chunked", "gzip",
		"chunked, chunked", "chunked,gzip", "\x0bchunked", "\xa0chunked", "chunked\x0b", "chunked\x00", "chunked;q=1", "\"chunked\"", "'chunked'",
		"chunked chunked", "", " ", "CHUNKED", "cHuNkEd", "chunke\xc3\xa4d", "chun\tked", "c hunked", "\x00chunked", "trailers", "chunked\x0c",
		"chu\u212aed", "deflate", "5")}
}

func (g *generator) twoCodings(q *request) {
	g.chunk(q)
	q.framing = []string{"Transfer-Encoding: chunked", "Transfer-Encoding: " + pick(g, "chunked", "identity", "", "x", "gzip")}
	g.Shuffle(2, func(i, j int) { q.framing[i], q.framing[j] = q.framing[j], q.framing[i] })
}

// oddCodingName hides the name of the field from some, with a length for them.
func (g *generator) oddCodingName(q *request) {
	g.chunk(q)
	q.framing = []string{pick(g,
		"Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", "Transfer-Encoding\x00: chunked", " Transfer-Encoding: chunked",
		"\tTransfer-Encoding: chunked", "Transfer-Encoding\x0b: chunked", "Transfer-Encoding\xa0: chunked", "Transfer_Encoding: chunked",
		"Transfer-Encoding chunked", "Transfer-Encoding\r: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:\r\n\tchunked",
		"Transfer-Encodin\xc4\xa0: chunked", "Transfer.Encoding: chunked", "\x00Transfer-Encoding: chunked", "Transfer-Encoding:\x00chunked",
		"Transfer-Encoding: chunked\r", "Foo: bar\r\n\tTransfer-Encoding: chunked", "Transfer-Encoding;: chunked", "transfer-Encoding\u017f: chunked")}
	if g.chance(60) {
		q.framing = append(q.framing, "Content-Length: "+strconv.Itoa(pick(g, lengthOf(q), 0, 3)))
	}
}

// bothFramings are CL.TE and TE.CL, RS-01 and RS-02.
func (g *generator) bothFramings(q *request) {
	length := 0
	if g.chance(50) {
		q.body = "0\r\n\r\n" + g.hidden()
		length = len(q.body)
	} else {
		q.content = g.hidden()
		g.chunk(q)
		length = pick(g, strings.Index(q.body, "\n")+1, 4, 0, len(q.body))
	}
	q.framing = []string{"Content-Length: " + strconv.Itoa(length), pick(g, "Transfer-Encoding: chunked", "transfer-encoding: Chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: x")}
	g.Shuffle(2, func(i, j int) { q.framing[i], q.framing[j] = q.framing[j], q.framing[i] })
	if g.chance(10) {
		q.version = "HTTP/1.0"
		q.fields = append(q.fields, "Connection: keep-alive")
	}
}

// chunked gives the request a body of one chunk that is to be spoilt.
func (g *generator) chunked(q *request) string {
	q.framing = []string{"Transfer-Encoding: chunked"}
	return pick(g, g.hidden(), "abc", "0\r\n\r\n"+g.hidden())
}

func (g *generator) oddChunkSize(q *request) {
	data := g.chunked(q)
	n := len(data)
	size := pick(g,
		fmt.Sprintf("0x%x", n), fmt.Sprintf("0X%x", n), fmt.Sprintf("+%x", n), fmt.Sprintf("-%x", n), fmt.Sprintf(" %x", n), fmt.Sprintf("%x ", n), fmt.Sprintf("\t%x", n),
		fmt.Sprintf("%x\t", n), "", fmt.Sprintf("%xg", n), fmt.Sprintf("0_%x", n), fmt.Sprintf("%017x", n), fmt.Sprintf("%015x", n), fmt.Sprintf("%016x", n),
		fmt.Sprintf("1%016x", n), fmt.Sprintf("%x\x00", n), fmt.Sprintf("%x,%x", n, n), "ffffffffffffffff", "7fffffffffffffff", "-0", fmt.Sprintf("%x ;a", n),
		fmt.Sprintf("%x\r", n), fmt.Sprintf("%x\x0b", n), fmt.Sprintf("%x\xa0", n), fmt.Sprintf("%xthese", n), fmt.Sprintf("%040x", n), fmt.Sprintf("\r\n%x", n), ";a", "\xd9\xa1")
	q.body = size + "\r\n" + data + "\r\n0\r\n\r\n"
}

func (g *generator) oddChunkEnd(q *request) {
	data := g.chunked(q)
	size := len(data) + pick(g, 0, 0, 0, 1, 2, -1)
	q.body = fmt.Sprintf("%x\r\n", size) + data + pick(g, "\n", "", "XX", "\r", "\r\r\n", "\n\r\n", "\r\n\r\n", "\r\n ", "\r\n") +
		"0" + pick(g, "\r\n\r\n", "\r\n", "\n\n", "\r\n\n", "\n\r\n", "", "\r\r\n\r\n", "\r\n\r\r\n")
}

func (g *generator) oddExtension(q *request) {
	data := g.chunked(q)
	q.body = fmt.Sprintf("%x", len(data)) + pick(g,
		";a\nb", ";a\rb", ";\n", ";a=\"\r\n\"", ";a=\"\n", ";a\x00", ";a\r", ";\r\r", ";a=b\n"+fmt.Sprintf("%x", len(data)), "; ", ";;;", ";=", ";a=", "\n;", ";"+strings.Repeat("e", 1100),
		";"+strings.Repeat("e", 20000), ";\x7f", ";\x0b", ";\"") + pick(g, "\r\n", "\r\n", "\n") + data + "\r\n0\r\n\r\n"
}

func (g *generator) oddTrailer(q *request) {
	data := g.chunked(q)
	trailer := pick(g, "X: a\n", "X: a\r\n b\r\n", "X\r\n", "X : a\r\n", ": a\r\n", " X: a\r\n", "X: a\x00\r\n", "X: a\rb\r\n", "X: "+strings.Repeat("t", 5000)+"\r\n",
		"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: evil.test\r\n", g.hidden(), "X: a\r\r\n", "\n", "X: a\n\n", strings.Repeat("X: a\r\n", 300), "X")
	if g.chance(30) {
		q.fields = append(q.fields, "Trailer: "+pick(g, "X", "Content-Length", "Host", "Transfer-Encoding", "X, Trailer", ""))
	}
	q.body = fmt.Sprintf("%x\r\n", len(data)) + data + "\r\n0\r\n" + trailer + "\r\n"
}

// hiddenTrailer has a trailer line that some stop at, and a request for them.
func (g *generator) hiddenTrailer(q *request) {
	data := g.chunked(q)
	line := pick(g, "X", "X: a\x00", "X : a", ": a", "X(: a", "X: \x7f", " ", "X\x80: a")
	q.body = fmt.Sprintf("%x\r\n", len(data)) + data + "\r\n0\r\n" + line + "\r\n" + g.hidden()
}

// longTrailer is sound, with more trailers than some have room for.
func (g *generator) longTrailer(q *request) {
	data := g.chunked(q)
	q.body = fmt.Sprintf("%x\r\n", len(data)) + data + "\r\n0\r\n"
	for range 1 + g.IntN(4) {
		q.body += "X-T: " + strings.Repeat("t", g.IntN(3500)) + "\r\n"
	}
	q.body += "\r\n"
}

// manyExtensions is sound, with a request in each chunk for those who give up.
func (g *generator) manyExtensions(q *request) {
	q.framing = []string{"Transfer-Encoding: chunked"}
	hidden := "GET " + smuggled + g.token() + " HTTP/1.1\r\nHost: a.test\r\n\r\n"
	chunk := fmt.Sprintf("%x;", len(hidden)) + strings.Repeat("e", 700+g.IntN(300)) + "\r\n" + hidden + "\r\n"
	q.body = strings.Repeat(chunk, 10+g.IntN(30)) + "0\r\n\r\n"
}

func (g *generator) oddLineEnd(q *request) {
	q.ends[g.IntN(2+len(q.fields)+len(q.framing))] = pick(g, "\n", "\n", "\r", "\r\r\n", "\n\r\n", "\n\n", " \r\n", "\x00\r\n", "\r\n\n", "\x0b\r\n", "\u2028", "\r\r")
}

// insert puts a line among the fields.
func (g *generator) insert(q *request, line string) {
	q.fields = slices.Insert(q.fields, g.IntN(len(q.fields)+1), line)
}

func (g *generator) fold(q *request) {
	g.insert(q, pick(g, " folded", "\tfolded", " Transfer-Encoding: chunked", " ", "\t", "X: a\r\n b", "X:\r\n b", "X: a\r\n\t\r\n b", "\x0bfolded", "\xa0folded"))
}

func (g *generator) oddField(q *request) {
	g.insert(q, pick(g,
		"X : a", "X\t: a", ": a", ":", "X", "no colon here", "X\x00: a", "X: \x00", "X: a\x00b", "X: \x01", "X: \x7f", "X: \x1b[0m", "X\x80: a", "X(): a", "X,Y: a",
		"X/Y: a", "\"X\": a", "X Y: a", "X;: a", "X: a\x0bb", "X: a\x0cb", "X: a\rb", "X: a\nb", "[X]: a", "X@: a", "{X}: a", "X=: a", "=X: y", "\x00", "GET /x HTTP/1.1",
		"X?: a", "X\\: a", "Xr\xc3\xa9: a", "Content-Length\x00: 5", "Content Length: 5", "Content-Length: 5, 5", "Host\x00: h"))
}

func (g *generator) oddRequestLine(q *request) {
	switch g.IntN(12) {
	case 0:
		q.method += " "
	case 1:
		q.target += " "
	case 2:
		q.version += pick(g, " ", "\t", " x", "\x00")
	case 3:
		q.method = pick(g, " ", "\t", "\x00", "\n", "\r", "\x0b") + q.method
	case 4:
		q.method += "\t" + q.target
		q.target = q.version
		q.version = ""
	case 5:
		q.target += " /b"
	case 6:
		q.target, q.version = q.target+"\t"+q.version, ""
	case 7: // HTTP/0.9
		q.version = ""
	case 8:
		q.method = "GET /smuggled/" + g.token() + "\r" + q.method
	case 9:
		q.target, q.version = "", q.target
	case 10:
		q.target += "\x0b" + q.version
	default:
		q.target += pick(g, "\x00", "\r", "\x7f", "\x1f")
	}
}

func (g *generator) oddTarget(q *request) {
	path := q.target
	if !strings.HasPrefix(path, "/s") || strings.ContainsAny(path, "%\"{[") {
		return // apache escapes some octets anew after two slashes, which is no fault of Larder's
	}
	q.target = pick(g,
		path+"#f", path+"\\x", path+"\xff", path+"\x00", path+"%00", path+"%zz", path+"%", path+"\"<>", path+"{}|^`", path+"[]",
		"https://"+q.host+path, "ftp://"+q.host+path, "http://user@"+q.host+path, "http://user:pass@"+q.host+path, "http:///"+path, "http:"+path, "http:/"+path,
		"//"+q.host+path, "\\"+path, strings.TrimPrefix(path, "/"), q.host+path, "http://other.test"+path, "http://other.test:8080"+path, "HTTP://OTHER.test:80"+path,
		"http://o\x00ther"+path, "http://a,b"+path, "http://[::1"+path, "http://a b"+path, "*", "?"+path, path+"?a b", "http://other.test?"+path, "http://other.test:"+path, "http://other.test:99999"+path,
		"http://a:b"+path, "ws://"+q.host+path, path+"/../x", path+"/./x", path+"/%2e%2e/x", "file://"+path)
	if q.target == "*" && q.method == "OPTIONS" {
		q.target = path // which would be somebody else's request too: those with a token in Host are made elsewhere
	}
}

func (g *generator) oddVersion(q *request) {
	q.version = pick(g, "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/1.9", "HTTP/1.10", "HTTP/1.01", "HTTP/01.1", "HTTP/2.0", "HTTP/2", "HTTP/0.9", "http/1.1", "HTTP/1,1", "HTTP/1.", "HTTP/1", "HTTP /1.1",
		"HTTPS/1.1", "HTTP/1.1\x00", "HTTP/11", "ICY/1.1", "HTTP/1.x", "HTTP/3.0", "Http/1.1", "HTTP/-1.1", "HTTP/1.\xb2")
	if g.chance(40) {
		q.fields = append(q.fields, pick(g, "Connection: keep-alive", "Connection: close", "Keep-Alive: 5"))
	}
}

func (g *generator) oddHost(q *request) {
	q.fields = slices.DeleteFunc(q.fields, func(line string) bool { return strings.HasPrefix(line, "Host:") })
	switch g.IntN(3) {
	case 0: // none
	case 1:
		g.insert(q, "Host: "+q.host)
		g.insert(q, pick(g, "Host: "+q.host, "Host: evil.test", "host: evil.test", "Host : evil.test", "Host:"))
	default:
		g.insert(q, "Host: "+pick(g, "", "a b", "a/b", "a@b", "a,b", "a.test, b.test", "a#b", "a?b", "a\\b", "a:b", "a:1:2", "[::1", "a.test:", "a.test:99999", "a.test:080", "a.test\x00", "a\xff", "<a>",
			"A.TEST:80", "http://a.test", "a.test.", "a%2eb", "a_b", "*", strings.Repeat("h", 300), "\x0ba", "a|b", "[a]", "a.test:+80"))
	}
}

func (g *generator) oddExpect(q *request) {
	g.insert(q, pick(g, "Expect: 100-continue", "Expect: 100-Continue", "Expect: y 100-continue", "Expect: 100-continue, 100-continue", "Expect: 100-continue;a=b", "Expect:", "Expect: 200-ok",
		"Expect: 100-continue\r\nExpect: 100-continue", "Expect:\r\n 100-continue", "Expect : 100-continue", "expect: 100-CONTINUE", "Expect: 100-continue\x00", "Expect: \"100-continue\"", "Expect: 100"))
}

func (g *generator) oddConnection(q *request) {
	g.insert(q, "Connection: "+pick(g, "close", "Close", "keep-alive, close", "close, keep-alive", "Host", "Content-Length", "content-length, transfer-encoding", "Transfer-Encoding", "Authorization", "Cookie", "Cache-Control",
		"Connection", "Expect", "Via", "X-Forwarded-For", "", ",", "a b", "\"close\"", "close;x", "upgrade", "X!", "keep-alive\r\nConnection: close", "Trailer, TE", "*"))
}

// upgrade is RS-17: whatever comes after it looks like requests.
func (g *generator) upgrade(q *request) {
	protocol := pick(g, "websocket", "h2c", "HTTP/2.0", "TLS/1.0", "x", "", "websocket, h2c", "WebSocket")
	q.fields = append(q.fields, "Upgrade: "+protocol, "Connection: "+pick(g, "Upgrade", "upgrade, HTTP2-Settings", "keep-alive, Upgrade", "close"))
	switch protocol {
	case "websocket":
		q.fields = append(q.fields, "Sec-WebSocket-Version: "+pick(g, "13", "777"), "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	case "h2c":
		q.fields = append(q.fields, "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
	}
}

func (g *generator) emptyLines(q *request) {
	q.before = pick(g, "\r\n", "\r\n\r\n", "\n", "\r", "\r\n\n", " \r\n", "\x00", " ", "\r\n ", "\r\n\r\n\r\n\r\n", "\t\r\n", "\xef\xbb\xbf")
}

// hiddenLine puts a line that counts behind an end that only some see.
func (g *generator) hiddenLine(q *request) {
	end := pick(g, "\r", "\n", "\x00", "\x0b", "\x85", "\u2028", "\r\r", "\x1e")
	g.insert(q, "X: a"+end+pick(g, "Transfer-Encoding: chunked", "Content-Length: 0", "Content-Length: 5", "Host: evil.test", end+g.hidden(), "Connection: close"))
}

// bodyWithoutFraming is CL.0: what is there is no body.
func (g *generator) bodyWithoutFraming(q *request) {
	q.framing = nil
	if g.chance(50) {
		q.framing = []string{"Content-Length: 0"}
	}
	q.body = pick(g, "x=1", "x", "\r\n\r\n\r\n", "0\r\n\r\n", "\x00", "GET", "x"+g.hidden())
}

func (g *generator) oddMethod(q *request) {
	q.method = pick(g, "GE(T", "G\x00T", "GET,", "", "\"GET\"", "G\xc9T", "CONNECT", "TRACE", "TRACK", "PURGE", "BAN", "connect", "trace", "GET:", "G[T", "DEBUG", "SEARCH", strings.Repeat("M", 40), "G@T", "GET\\", "{GET}", "OPTIONS", "HTTP/1.1")
}
