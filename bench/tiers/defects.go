//go:build linux

package main

import "time"

const (
	regex = `--regex '^http://www\.origin\.com/foo/.*\.html'`
	other = "http://other.example" + fun
)

// The defects are what the page's own CDN, Apache Traffic Control, is known for.
var defects = []chapter{
	{"Traffic Control's defect a, a start that nobody heeds: here a purge begins when it is to begin", []step{
		larder("purge --start 1s "+host+fun+" --admin ./parent", "scheduled for"),
		larder("purge --start 2s "+host+fun+atEdge, "scheduled for"),
		get(fun, kept),
		larder("purges {parent} --wait --admin ./parent", "done; 1 object"),
		larder("purges {edge} --wait"+atEdge, "done; 1 object"),
		get(fun, fresh),
	}},
	{"Defect b, a restart purges everything once more: here it does nothing", []step{
		get("/refreshed", fresh),
		get("/marked", fresh),
		get("/gone", fresh),
		larder("purge --soft --for 1h " + host + "/refreshed" + atBoth),
		get("/refreshed", want{version: 1, edge: "hit", wire: validated(1, 304)}),
		larder("purge --wait --soft --for 1h --regex '/mark' --admin ./parent", "done; 1 object"),
		larder("purge --wait --for 1h --regex '/gon' --admin ./parent", "done; 1 object"),
		larder("purge --all --start 1h --admin ./parent", "scheduled"),
		restart(),
		larder("purges --admin ./parent", "everything: scheduled", "/gon: done", "/mark: done", "/refreshed: done"),
		getBehind("/refreshed", want{version: 1, parent: "hit"}),
		getBehind("/about", want{version: 1, parent: "hit"}),
		getBehind("/marked", want{version: 1, parent: "hit", wire: []string{"parent: GET if not " + tags[1], "origin: 304"}}),
		getBehind("/marked", want{version: 1, parent: "hit"}),
		getBehind("/gone", want{version: 1, parent: "fwd=uri-miss", wire: []string{"parent: GET", "origin: 200"}}),
		larder("purges {parent} --cancel --admin ./parent", "cancelled"),
	}},
	{"But where the journal of purges is lost, nobody knows what was purged, and nothing that was kept counts", []step{
		restart("purges"),
		getBehind("/about", want{version: 1, parent: "fwd=uri-miss", wire: []string{"parent: GET", "origin: 200"}}),
	}},
	{"Defect c, a second purge by the same expression is ignored: here each is an event; and other hosts are not meant", []step{
		get(other, fresh),
		larder("purge --wait "+regex+atBoth, "done; 1 object"),
		get(fun, fresh),
		larder("purge --wait "+regex+atBoth, "done; 1 object", "done; 1 object"),
		get(fun, fresh),
		get(other, kept),
	}},
	{"Defect d, what is cancelled goes on: here it stops, before its start", []step{
		larder("purge --start 2s " + regex + atEdge),
		larder("purges {edge} --cancel"+atEdge, "cancelled"),
		pause("its start passes", 2*time.Second),
		get(fun, kept),
	}},
	{"… and while it is in force: that is as long as something is under way that was asked for before", []step{
		begin("/slow"),
		larder("purge --prefix "+host+"/slow"+atEdge, "in force"),
		larder("purges {edge} --cancel"+atEdge, "cancelled"),
		arrive,
		get("/slow", kept),
	}},
	{"… whereas, if it is not cancelled, what was under way is not kept", []step{
		begin("/slower"),
		larder("purge --prefix "+host+"/slow"+atEdge, "in force"),
		arrive,
		larder("purges {edge} --wait"+atEdge, "done"),
		get("/slower", want{version: 1, parent: "hit", edge: "fwd=uri-miss", wire: fetchedOnce}),
	}},
	{"Defect e, nobody knows how far it is: here there is an id, a receipt, and a list", []step{
		larder("purge --wait --glob '/foo/**/*.html'"+atBoth, "done; 2 objects", "done; 2 objects"),
		larder("purges {edge}"+atEdge, "glob /foo/**/*.html: done; 2 objects"),
		larder("purges"+atEdge, "glob /foo/**/*.html: done; 2 objects", "/slow: done", "/slow: cancelled"),
		get(fun, fresh),
		larder("purges {edge} --repeat --wait --json"+atEdge, `"mode":"refetch"`, `"state":"done"`, `"applied":true`, `"objects":1`, `"complete":true`),
	}},
}
