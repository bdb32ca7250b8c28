//go:build linux

package main

var (
	kept  = want{version: 1, edge: "hit"}
	fresh = want{version: 1, parent: "fwd=uri-miss", edge: "fwd=uri-miss", wire: fetched}
)

var purges = []chapter{
	{"Soft purge (refresh), nothing has changed: clients do not wait, and the origin is asked once, by a condition", []step{
		larder("purge --soft "+host+fun+atBoth, "refresh of "+host+fun, "refresh of "+host+fun),
		get(fun, want{version: 2, edge: "hit", wire: validated(2, 304)}),
		get(fun, want{version: 2, edge: "hit"}),
		getBehind(fun, want{version: 2, parent: "hit"}),
	}},
	{"Soft purge, the content has changed: one client has the old content still, and the next one the new", []step{
		version(1),
		larder("purge --soft " + host + fun + atBoth),
		get(fun, want{version: 2, edge: "hit", wire: validated(2, 200)}),
		get(fun, want{version: 1, edge: "hit", later: true}),
	}},
	{"Soft purge where stale is forbidden: the client waits for the answer to the condition", []step{
		label("/strict", "Cache-Control: must-revalidate"),
		get("/strict", fresh),
		larder("purge --soft " + host + "/strict" + atBoth),
		get("/strict", want{version: 1, parent: "fwd=stale; ttl=", edge: "fwd=stale; fwd-status=304", wire: validated(1, 304)}),
		get("/strict", kept),
	}},
	{"Hard purge (refetch): nobody has the old content, and the origin is asked once, without a condition", []step{
		version(2),
		larder("purge "+host+fun+atBoth, "refetch of "+host+fun, "refetch of "+host+fun),
		get(fun, want{version: 2, parent: "fwd=uri-miss", edge: "fwd=uri-miss", wire: fetched}),
		get(fun, want{version: 2, edge: "hit"}),
	}},
	{"The wrong order, edge before parent: the edge takes the old content from the parent, and keeps it", []step{
		version(1),
		larder("purge " + host + fun + atEdge),
		get(fun, want{version: 2, parent: "hit", edge: "fwd=uri-miss", wire: fetchedOnce}),
		larder("purge " + host + fun + " --admin ./parent"),
		get(fun, want{version: 2, edge: "hit"}),
	}},
	{"The same by --via, which purges the parent first", []step{
		larder("purge " + host + fun + atBoth),
		get(fun, fresh),
	}},
	{"By tag: the parent shows the edge how the origin has labelled pages, and the edge shows nobody", []step{
		label("/news/1", "Surrogate-Key: article-17 article-18"),
		label("/news/2", "Cache-Tag: article-17, front"),
		label("/about", "Surrogate-Key: article-18"),
		get("/news/1", fresh),
		get("/news/2", fresh),
		get("/about", fresh),
		larder("purge --wait --tag article-17"+atBoth, "refetch of tag article-17: done; 2 objects", "refetch of tag article-17: done; 2 objects"),
		get("/news/1", fresh),
		get("/news/2", fresh),
		get("/about", kept),
	}},
	{"By a prefix, looked at first: --dry-run purges nothing", []step{
		larder("purge --prefix "+host+"/news/ --dry-run"+atBoth, "would purge 2 objects of 2 URLs", "origin: at most 2 requests", "would purge 2 objects of 2 URLs"),
		get("/news/1", kept),
		larder("purge --wait --prefix "+host+"/news/"+atBoth, "done; 2 objects", "done; 2 objects"),
		get("/news/1", fresh),
		get("/news/2", fresh),
		get("/about", kept),
	}},
	{"By the origin itself: the answer to a POST names a group (RFC 9875), and both tiers hear it", []step{
		label("/shop", `Cache-Groups: "prices"`),
		label("/shop/edit", `Cache-Group-Invalidation: "prices"`),
		get("/shop", fresh),
		post("/shop/edit", "edge: POST", "parent: POST", "origin: 204", "parent: 204"),
		get("/shop", fresh),
		get("/about", kept),
	}},
	{"Undo: a soft purge is taken back, in both tiers, and nobody asks the origin", []step{
		larder("purge --wait --soft --prefix "+host+"/"+atBoth, "done", "done"),
		larder("purges {parent} --undo --admin ./parent", "undone"),
		larder("purges {edge} --undo"+atEdge, "undone"),
		get(fun, kept),
		get("/about", kept),
		getBehind("/about", want{version: 1, parent: "hit"}),
	}},
	{"Everything", []step{
		larder("purge --all"+atBoth, "refetch of everything", "refetch of everything"),
		get(fun, fresh),
		get("/about", fresh),
	}},
}
