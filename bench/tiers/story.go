//go:build linux

package main

import "time"

const fun = "/foo/bar/fun.html"

// left has the origin answer with so much left of the lifetime.
func left(d time.Duration) step {
	return origins("what the origin sends is fresh for "+d.String()+" more", func(o *origin) { o.left = d })
}

// short is a lifetime to be waited for. Date has no parts of seconds: it is between two
// and three seconds.
const short = 3 * time.Second

var allLife = origins("what the origin sends is fresh for all of its lifetime", func(o *origin) { o.left = 0 })

var thePage = []chapter{
	{"The first fetch (#3): both tiers keep the answer", []step{
		left(short),
		get(fun, want{version: 1, parent: "fwd=uri-miss", edge: "fwd=uri-miss", wire: fetched}),
	}},
	{"A hit: nothing passes between the tiers, and the parent has it, too", []step{
		get(fun, want{version: 1, age: 86397, parent: "fwd=uri-miss", edge: "hit"}),
		getBehind(fun, want{version: 1, age: 86397, parent: "hit"}),
	}},
	{"It expires, and has not changed (#4, #6): one condition through both tiers, and the client has all of it", []step{
		pause("it expires", short),
		get(fun, want{version: 1, parent: "fwd=stale; ttl=", edge: "fwd=stale; fwd-status=304", wire: validated(1, 304)}),
		get(fun, want{version: 1, age: 604797, edge: "hit"}),
		getBehind(fun, want{version: 1, age: 604797, parent: "hit"}),
	}},
	{"It expires, and has changed (#4, #5): the answer to the condition is the new content", []step{
		pause("it expires", short),
		allLife,
		version(2),
		get(fun, want{version: 2, parent: "fwd=stale; ttl=", edge: "fwd=stale; ttl=", wire: validated(1, 200)}),
		get(fun, want{version: 2, edge: "hit"}),
	}},
}
