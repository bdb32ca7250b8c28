package observe

import (
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// clock is the time of day in a line for people.
const clock = "15:04:05.000"

// Word says in one word what the cache did:
//
//	hit      it answered with something fresh
//	stale    it answered with something stale
//	renewed  the origin confirmed what was stored
//	joined   another's request brought the answer
//	expired  what was stored was too old, and the origin sent it anew
//	partial  only a part was stored
//	reload   the client asked for a new answer
//	miss     nothing was stored that fits
//	pass     such a request does not concern the cache
//	error    there was no answer from the origin
//	-        it never came to that
func (e *Event) Word() string {
	switch {
	case e.Hit && e.HasTTL && e.TTL < 0:
		return "stale"
	case e.Hit:
		return "hit"
	case e.Forward == "" && e.Fault != nil:
		return "error"
	case e.Forward == "":
		return "-"
	case e.Collapsed:
		return "joined"
	}
	switch e.Forward {
	case "bypass", "method":
		return "pass"
	case "request":
		return "reload"
	case "partial":
		return "partial"
	case "stale":
		if e.ForwardStatus == http.StatusNotModified {
			return "renewed"
		}
		return "expired"
	}
	return "miss"
}

// AppendText writes the Event as a line for people, in columns: time of day,
// status, Word, method, target, octets of body, duration, reason.
func (e *Event) AppendText(dst []byte) []byte {
	dst = e.Start.AppendFormat(dst, clock)
	dst = append(dst, ' ', ' ')
	dst = appendStatus(dst, e.Status)
	dst = append(dst, ' ', ' ')
	dst = column(dst, e.Word(), 7)
	dst = column(dst, e.Method, 4)
	dst = column(dst, e.Target, 24)
	n := len(dst)
	dst = right(appendSize(dst, e.Sent), n, 8)
	dst = append(dst, ' ', ' ')
	n = len(dst)
	dst = right(appendDuration(dst, e.Duration), n, 8)
	if why := e.why(true); why != "" {
		dst = appendEscaped(append(dst, ' ', ' '), why, plain)
	}
	if e.Fault != nil {
		dst = appendEscaped(append(dst, "  "...), e.Fault.Error(), plain)
	}
	return append(dst, '\n')
}

// column writes s and fills it up with blanks; - stands for nothing.
func column(dst []byte, s string, width int) []byte {
	if s == "" {
		s = "-"
	}
	n := len(dst)
	dst = appendEscaped(dst, s, columns)
	for len(dst)-n < width {
		dst = append(dst, ' ')
	}
	return append(dst, ' ', ' ')
}

// right moves what follows n to the right end of a column.
func right(dst []byte, n, width int) []byte {
	size := len(dst) - n
	if size >= width {
		return dst
	}
	const blanks = "          "
	dst = append(dst, blanks[:width-size]...)
	copy(dst[n+width-size:], dst[n:n+size])
	copy(dst[n:], blanks[:width-size])
	return dst
}

func appendStatus(dst []byte, status int) []byte {
	if status == 0 {
		return append(dst, "---"...)
	}
	return strconv.AppendInt(dst, int64(status), 10)
}

// appendSize writes octets with three digits that count, in powers of 1024.
func appendSize(dst []byte, n int64) []byte {
	if n < 1<<10 {
		return append(strconv.AppendInt(dst, n, 10), " B"...)
	}
	const units = "KMGTPE"
	v, i := float64(n)/1024, 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1024
	}
	return append(appendRounded(dst, v), ' ', units[i], 'i', 'B')
}

// appendDuration writes a time in the unit that suits it.
func appendDuration(dst []byte, d time.Duration) []byte {
	switch {
	case d < time.Second:
		return append(appendRounded(dst, float64(d)/float64(time.Millisecond)), " ms"...)
	case d < 1000*time.Second:
		return append(appendRounded(dst, d.Seconds()), " s"...)
	}
	return append(strconv.AppendInt(dst, int64(d/time.Minute), 10), " min"...)
}

// appendRounded writes v, less than 1000, with three digits that count, yet at
// most two after the point.
func appendRounded(dst []byte, v float64) []byte {
	precision := 0
	switch {
	case v < 9.995:
		precision = 2
	case v < 99.95:
		precision = 1
	}
	return strconv.AppendFloat(dst, v, 'f', precision, 64)
}

// AppendJSON writes the Event as one line of JSON. What is not known is left
// out. The names are a promise to whoever reads logs by program.
func (e *Event) AppendJSON(dst []byte) []byte {
	dst = appendTime(append(dst, `{"time":"`...), e.Start)
	dst = appendString(append(dst, `","client":`...), e.Client)
	dst = appendString(append(dst, `,"method":`...), e.Method)
	dst = appendString(append(dst, `,"host":`...), e.Host)
	dst = appendString(append(dst, `,"target":`...), e.Target)
	dst = appendString(append(dst, `,"proto":`...), e.Proto)
	dst = strconv.AppendInt(append(dst, `,"status":`...), int64(e.Status), 10)
	dst = strconv.AppendInt(append(dst, `,"bytes":`...), e.Sent, 10)
	dst = append(dst, `,"duration_ms":`...)
	dst = strconv.AppendFloat(dst, float64(e.Duration.Microseconds())/1000, 'f', 3, 64)
	dst = appendString(append(dst, `,"cache":`...), e.Word())
	if e.Hit {
		dst = append(dst, `,"hit":true`...)
	}
	if e.Forward != "" {
		dst = appendString(append(dst, `,"fwd":`...), e.Forward)
	}
	if e.ForwardStatus != 0 {
		dst = strconv.AppendInt(append(dst, `,"fwd_status":`...), int64(e.ForwardStatus), 10)
	}
	if e.HasTTL {
		dst = strconv.AppendInt(append(dst, `,"ttl":`...), e.TTL, 10)
	}
	if e.Stored {
		dst = append(dst, `,"stored":true`...)
	}
	if e.Collapsed {
		dst = append(dst, `,"collapsed":true`...)
	}
	if why := e.why(true); why != "" {
		dst = appendString(append(dst, `,"why":`...), why)
	}
	if e.Fault != nil {
		dst = appendString(append(dst, `,"error":`...), e.Fault.Error())
	}
	return append(dst, '}', '\n')
}

// appendTime writes a time to the millisecond (RFC 3339, UTC).
func appendTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

func appendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s, quoted), '"')
}

// style is where a string of a peer is written.
type style uint8

const (
	columns style = iota // in a column: no blanks
	plain                // at the end of a line
	quoted               // in a JSON string
)

// appendEscaped writes s in printable ASCII, at most maxField octets; an
// ellipsis tells that there was more. Octets that are no UTF-8 become \xHH,
// where the backslash is doubled in JSON. A terminal gets no octet that it
// might act upon.
func appendEscaped(dst []byte, s string, to style) []byte {
	const reserve = len(`\ud83d\ude00`) + len("...")
	end := len(dst) + maxField - reserve
	for i := 0; i < len(s); {
		if len(dst) > end {
			return append(dst, "..."...)
		}
		c := s[i]
		switch {
		case c > ' ' && c < 0x7f && c != '\\' && c != '"':
			dst = append(dst, c)
		case c == ' ' && to != columns, c == '"' && to != quoted:
			dst = append(dst, c)
		case c == '\\' || c == '"':
			dst = append(dst, '\\', c)
		case c < utf8.RuneSelf:
			dst = appendOctet(dst, c, to)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = appendInvalid(dst, c, to)
			} else {
				dst = appendRune(dst, r)
				i += size - 1
			}
		}
		i++
	}
	return dst
}

const hex = "0123456789abcdef"

// appendOctet writes an ASCII octet by number.
func appendOctet(dst []byte, c byte, to style) []byte {
	if to == quoted {
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
	return append(dst, '\\', 'x', hex[c>>4], hex[c&15])
}

// appendInvalid writes an octet that is no part of a character.
func appendInvalid(dst []byte, c byte, to style) []byte {
	if to == quoted {
		dst = append(dst, '\\')
	}
	return append(dst, '\\', 'x', hex[c>>4], hex[c&15])
}

// appendRune writes a character beyond ASCII by number, in UTF-16 as JSON has
// it.
func appendRune(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		dst = appendRune(dst, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
