package cli

import (
	"fmt"
	"math"
	"time"

	"github.com/larderhq/larder/internal/front"
)

// limits are what clients may take, with their defaults as front has them.
var limits = func() options[front.Limits] {
	d := front.Defaults()
	return options[front.Limits]{flag: "limit", kind: "limit", command: "limits", all: []option[front.Limits]{
		{
			"connections", fmt.Sprintf("%d | NUMBER", d.Conns),
			"How many may be open at once; more wait. It is never more than the open files of the process allow.",
			number(func(l *front.Limits) *int { return &l.Conns }, 1, 1<<20),
		},
		{
			"connections-per-client", "half of connections | NUMBER",
			"How many of them one address (in IPv6, one /64) may have. By default this machine itself may have all.",
			number(func(l *front.Limits) *int { return &l.ClientConns }, 1, 1<<20),
		},
		{
			"head", size(d.Head).String() + " | SIZE",
			"The longest request head; a longer one is answered with 431.",
			between(func(l *front.Limits) *int { return &l.Head }, 8<<10, 1<<20),
		},
		{
			"fields", fmt.Sprintf("%d | NUMBER", d.Fields),
			"How many lines it may have, Host included; more are answered with 431.",
			number(func(l *front.Limits) *int { return &l.Fields }, 1, 10000),
		},
		{
			"head-timeout", span(d.HeadTimeout).String() + " | TIME",
			"How long a request head may take from its first octet to its end.",
			positive(func(l *front.Limits) *time.Duration { return &l.HeadTimeout }, "1ms"),
		},
		{
			"idle-timeout", span(d.IdleTimeout).String() + " | TIME",
			"How long a connection may wait for its next request.",
			positive(func(l *front.Limits) *time.Duration { return &l.IdleTimeout }, "1ms"),
		},
		{
			"stall-timeout", span(d.StallTimeout).String() + " | TIME",
			"How long a client may send nothing of a body, or take nothing of an answer.",
			positive(func(l *front.Limits) *time.Duration { return &l.StallTimeout }, "1ms"),
		},
		{
			"pace", size(d.Pace).String() + " | SIZE",
			"How much a client has to send or take each second, measured over stall-timeout: who is slower is cut off.",
			between(func(l *front.Limits) *int { return &l.Pace }, 1, math.MaxInt32),
		},
	}}
}()

// between is a size between two others.
func between[C any](at func(*C) *int, least, most int64) setter[C] {
	return func(c *C, value string) error {
		n, err := parseSize(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("a size from %v to %v", size(least), size(most))
		}
		*at(c) = int(n)
		return nil
	}
}

type limitsCmd struct{}

// Run prints the table.
func (limitsCmd) Run(std *streams) error {
	fmt.Fprint(std.out, "Limits for larder serve --limit NAME=VALUE: what clients may take. The first value is the default.\n")
	limits.list(std.out)
	return nil
}
