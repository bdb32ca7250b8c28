package cli

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/front"
)

// Every limit reaches its field and no other, and the table has the defaults that
// the front has.
func TestLimitsReachTheirFields(t *testing.T) {
	reach := map[string]struct {
		value  string
		change func(l *front.Limits)
	}{
		"connections":            {"7", func(l *front.Limits) { l.Conns = 7 }},
		"connections-per-client": {"7", func(l *front.Limits) { l.ClientConns = 7 }},
		"head":                   {"64KiB", func(l *front.Limits) { l.Head = 64 << 10 }},
		"fields":                 {"7", func(l *front.Limits) { l.Fields = 7 }},
		"head-timeout":           {"7s", func(l *front.Limits) { l.HeadTimeout = 7 * time.Second }},
		"idle-timeout":           {"7m", func(l *front.Limits) { l.IdleTimeout = 7 * time.Minute }},
		"stall-timeout":          {"700ms", func(l *front.Limits) { l.StallTimeout = 700 * time.Millisecond }},
		"pace":                   {"1KiB", func(l *front.Limits) { l.Pace = 1 << 10 }},
	}
	if n := reflect.TypeFor[front.Limits]().NumField(); n != len(limits.all) || n != len(reach) {
		t.Errorf("front has %d limits, the table %d, this test %d", n, len(limits.all), len(reach))
	}
	var all, defaults front.Limits
	var settings []string
	for _, s := range limits.all {
		var got, want front.Limits
		reach[s.name].change(&want)
		if err := limits.apply(&got, []string{s.name + "=" + reach[s.name].value}); err != nil || got != want {
			t.Errorf("%s=%s makes %+v, %v, want %+v", s.name, reach[s.name].value, got, err, want)
		}
		for _, bad := range []string{"", "0", "-1", "x", "99999999999", "0s", "1h1", "1XiB"} {
			if err := limits.apply(&got, []string{s.name + "=" + bad}); err == nil {
				t.Errorf("%s=%s is taken", s.name, bad)
			}
		}
		standard, _, _ := strings.Cut(s.values, " | ")
		if s.name == "connections-per-client" {
			standard = "5000" // half of the default
		}
		settings = append(settings, s.name+"="+standard)
	}
	if err := limits.apply(&all, settings); err != nil || all != front.Defaults() {
		t.Errorf("the defaults of the table make %+v, %v", all, err)
	}
	if err := limits.apply(&defaults, nil); err != nil || defaults != (front.Limits{}) {
		t.Errorf("nothing makes %+v, %v", defaults, err)
	}
}
