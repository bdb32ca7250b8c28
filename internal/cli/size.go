package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A size is a number of octets, written as 256MiB, 512MB or 1048576.
type size int64

var units = []struct {
	name   string
	octets int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
	{"", 1},
}

const minMemory = 1 << 20

// UnmarshalText reads a size for a store.
func (s *size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	switch {
	case err != nil:
		return err
	case n < minMemory:
		return fmt.Errorf("%s is too little to keep anything in: give 1MiB or more", text)
	}
	*s = size(n)
	return nil
}

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiBk")
	n, err := strconv.ParseUint(digits, 10, 63)
	for _, u := range units {
		if u.name != text[len(digits):] {
			continue
		}
		if errors.Is(err, strconv.ErrRange) || err == nil && int64(n) > math.MaxInt64/u.octets {
			return 0, fmt.Errorf("%s is more than there can be: give less", text)
		}
		if err == nil {
			return int64(n) * u.octets, nil
		}
	}
	return 0, fmt.Errorf("%q is no size: write a whole number and a unit (KiB, MiB, GiB, TiB; kB, MB, GB, TB), such as 256MiB or 1GiB", text)
}

// String writes a size as a whole number of the unit that makes it shortest.
func (s size) String() string {
	best, name := int64(s), "B"
	for _, u := range units {
		if q := int64(s) / u.octets; u.octets > 1 && q > 0 && int64(s)%u.octets == 0 && q < best {
			best, name = q, u.name
		}
	}
	return strconv.FormatInt(best, 10) + name
}

// A span is a time that has passed, written as 10s or 1m30s.
type span time.Duration

// UnmarshalText reads a span.
func (s *span) UnmarshalText(text []byte) error {
	d, err := parseSpan(string(text))
	*s = span(d)
	return err
}

// String writes a span as a whole number of seconds if it is one.
func (s span) String() string {
	if d := time.Duration(s); d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return time.Duration(s).String()
}

func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n <= 100*365 {
			text = strconv.Itoa(24*n) + "h"
		}
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no time: write a number and a unit, such as 10s, 500ms, 1h30m or 7d", text)
	case d < 0:
		return 0, fmt.Errorf("%q is negative: write how long, such as 10s", text)
	}
	return d, nil
}
