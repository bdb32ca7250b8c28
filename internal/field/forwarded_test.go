package field

import "testing"

func TestFWD06_ForwardedNode(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1",
		"192.0.2.1:4711":       "192.0.2.1",
		"2001:db8::1":          `"[2001:db8::1]"`,
		"[2001:db8::1]:4711":   `"[2001:db8::1]"`,
		"fe80::1%eth0":         `"[fe80::1]"`,
		"[fe80::1%eth0]:80":    `"[fe80::1]"`,
		"::ffff:192.0.2.1":     "192.0.2.1",
		"":                     "unknown",
		"@":                    "unknown",
		"example.com:80":       "unknown",
		`1.2.3.4";for=5.6.7.8`: "unknown",
		"192.0.2.1:":           "unknown",
		"fe80::1%\",for=evil":  `"[fe80::1]"`,
		"[2001:db8::1]":        `"[2001:db8::1]"`,
	} {
		if got := string(AppendForwardedNode([]byte("for="), addr)); got != "for="+want {
			t.Errorf("%q: %s, want %s", addr, got, want)
		}
	}
}
