// Package larder is an HTTP cache to build into a program: a shared cache by
// RFC 9111 in front of the program's own handler, or of any origin, and a private one
// for its client.
//
//	var cache larder.Cache
//	http.ListenAndServe(":8080", cache.Handler(mux))      // middleware
//	client := http.Client{Transport: cache.Transport(nil)} // transport
//
// Responses say by Cache-Control, ETag and their kin how long they may be
// used, as they would to any cache; Cache-Status in each answer tells what was
// made of it (RFC 9211). Command larder is the same cache as a program of its own.
//
// # Faces
//
// [Cache.Handler] is middleware around a handler, [Cache.Proxy] a reverse proxy, and
// [Cache.Transport] an http.RoundTripper for clients. All stream both ways, have one
// request ask for what many want, validate and combine ranges, and keep nothing that
// did not come whole.
//
// # Policies
//
// The zero [Policy] follows the standards. Whoever runs both origin and cache may bend
// them, each rule by a field of its own: lifetimes, what chooses a response, what
// clients may decide, what is kept of answers to credentials or with cookies.
// [Cache.PolicyFor] picks one of several by the request. docs/policies.md names the
// sentence that each field bends.
//
// # Many at once
//
// With [Policy.Grace] a response has a soft expiry, after which one request refreshes it
// while all others get it still, and a hard one, after which they wait for that one.
// [Policy.Version], [Cache.Touch] and [Cache.TouchGroup] bring the soft one about
// without deleting anything. [Cache.Purge] deletes.
//
// # Pages
//
// [Cache.Fetch] gets parts of a page through the cache, for handlers that put pages
// together; [Policy.ESI] has it done by markup (ESI 1.0).
package larder
