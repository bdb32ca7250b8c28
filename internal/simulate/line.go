package simulate

import (
	"bytes"
	"errors"
	"strconv"
)

// A record is what a line of a log says. Its slices are parts of the line, or
// are its own.
type record struct {
	host, method, target []byte
	status               int
	octets               int64 // of body; unknown if the line does not say
	passed               bool
	lost                 int64 // lines that are missing here; all else is empty then
}

var (
	errTime    = errors.New("no [time] in brackets")
	errQuote   = errors.New("no \"request\" in quotes")
	errStatus  = errors.New("no status of three digits")
	errSize    = errors.New("no number of octets")
	errTarget  = errors.New("no target, such as a path or a URL")
	errColumns = errors.New("not the columns time, status, word, method, target, octets")
)

// parseCombined reads a line of the Common or Combined Log Format:
//
//	[vhost] client ident user [time] "request" status octets ...
func parseCombined(line []byte, r *record) error {
	before, rest, ok := bytes.Cut(line, []byte("["))
	if !ok {
		return errTime
	}
	if names := bytes.Fields(before); len(names) == 4 {
		r.host = names[0]
	}
	if _, rest, ok = bytes.Cut(rest, []byte("]")); !ok {
		return errTime
	}
	request, rest, ok := quoted(bytes.TrimLeft(rest, " "))
	if !ok {
		return errQuote
	}
	r.splitRequest(request)
	status, rest := word(rest)
	if r.status, ok = parseStatus(status); !ok {
		return errStatus
	}
	octets, _ := word(rest)
	if r.octets, ok = parseOctets(octets); !ok {
		return errSize
	}
	return nil
}

// splitRequest takes a request line apart. A target may have blanks in it.
func (r *record) splitRequest(line []byte) {
	r.method, r.target, _ = bytes.Cut(line, []byte(" "))
	if i := bytes.LastIndex(r.target, []byte(" HTTP/")); i >= 0 {
		r.target = r.target[:i]
	}
}

// quoted returns what stands between quotes, where a backslash takes the next
// octet's meaning, and what follows.
func quoted(b []byte) (inside, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return b[1:i], b[i+1:], true
		}
	}
	return nil, nil, false
}

// word returns the first word, and the rest.
func word(b []byte) (first, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

func parseStatus(b []byte) (int, bool) {
	n, err := strconv.Atoi(string(b))
	return n, err == nil && len(b) == 3 && n >= 100
}

// parseOctets reads a count; - is none.
func parseOctets(b []byte) (int64, bool) {
	if string(b) == "-" {
		return 0, true
	}
	n, err := strconv.ParseUint(string(b), 10, 63)
	return int64(n), err == nil
}

// isClock tells whether a line begins as Larder's log for people does.
func isClock(line []byte) bool {
	const form = "00:00:00.000  "
	if len(line) < len(form) {
		return false
	}
	for i := range len(form) {
		if c := line[i]; form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return false
		}
	}
	return true
}

// parseText reads a line of Larder's log for people:
//
//	15:04:05.000  200  hit      GET   /path    1.21 KiB   0.10 ms  why
func parseText(line []byte, r *record) error {
	if !isClock(line) {
		return errColumns
	}
	clock, rest := word(line)
	_ = clock
	status, rest := word(rest)
	if n, ok := parseOctets(status); ok && bytes.HasPrefix(rest, []byte(" lines are missing here")) {
		r.lost = n
		return nil
	}
	cache, rest := word(rest)
	r.method, rest = word(rest)
	r.target, rest = word(rest)
	number, rest := word(rest)
	unit, _ := word(rest)
	if string(status) != "---" {
		var ok bool
		if r.status, ok = parseStatus(status); !ok {
			return errStatus
		}
	}
	r.passed = passedBy(cache) || r.status == 0
	if len(r.target) == 0 {
		return errTarget
	}
	var ok bool
	if r.octets, ok = parseRounded(number, unit); !ok {
		return errSize
	}
	return nil
}

// passedBy tells the words of Larder's log for what did not concern the cache,
// or had no answer.
func passedBy(word []byte) bool {
	switch string(word) {
	case "pass", "error", "-":
		return true
	}
	return false
}

// parseRounded reads a size as Larder's log for people writes it.
func parseRounded(number, unit []byte) (int64, bool) {
	v, err := strconv.ParseFloat(string(number), 64)
	if err != nil || !(v >= 0 && v <= maxSize) {
		return 0, false
	}
	for i, name := range []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if string(unit) == name {
			return int64(min(v*float64(uint64(1)<<(10*i)), maxSize)), true
		}
	}
	return 0, false
}
