// Package webdav is a gateway.Writer over a WebDAV server (RFC 4918).
//
// # What it asks
//
//	Open, nothing wanted    HEAD
//	Open, octets wanted     GET with Range and If-None-Match or If-Modified-Since
//	Open of the root        PROPFIND, Depth: 0
//	Range                   nothing if Open got the octets; else GET with Range and If-Match or If-Unmodified-Since
//	List                    PROPFIND, Depth: 1
//	Put                     PROPFIND, [MKCOL...], PUT of a new name, MOVE, HEAD
//	Delete                  PROPFIND, DELETE
//
// # Objects and folders
//
// What a GET of a folder gives no standard says: 405, 301 to the name with a slash,
// 207, or 200 with a page that lists it. Only DAV:resourcetype tells for sure, so that
// Open asks for it by a second request, PROPFIND, unless the answer can be nothing
// but an object: it is 200 or 206, has a strong entity tag or Last-Modified, says how
// long it is, is not coded, and is of a type that no listing is of. Those that a
// listing may be of are HTML, XML, JSON, plain text and unknown: such objects cost two
// round trips, all others one. 304 is believed, as what did not change was an object
// before, unless it tells of another version than was asked with. What is coded although
// identity is asked for is an object only if it is as long as DAV:getcontentlength says;
// otherwise the server coded it now, which is an error.
//
// # Versions
//
// A strong entity tag is the version. Some servers make it of the size and the time in
// seconds, so that it is Certain only once the object is two seconds old by the
// server's own clock, if it tells. Without one the version is gateway.ByTime of
// Content-Length and Last-Modified.
//
// An answer is of one version as HTTP has it. Many servers write files in place
// however, so that one could read the old and the new: a reader of more than 1 MiB,
// and each of an object without a strong tag, asks again by HEAD before it gives its
// end. What a server writes in place within less cannot be seen.
//
// # Changes
//
// Put writes to a new name that begins with ".larder-" and moves it to its place, so
// that a body that fails leaves what was there. Where this process ends in between
// that object stays, to be removed by hand. Only a server that moves by renaming
// replaces at once; others (golang.org/x/net/webdav) remove first. Of the fields
// Content-Type is sent, and few servers keep it.
//
// If.Absent is kept by the server (Overwrite: F). If.Version is looked at before the
// upload and again just before the change; another writer may come between that and the
// change, for what WebDAV has for it (the If field) is not widely implemented, and
// If-Match of a MOVE is about its source. DELETE carries If-Match. Likewise a folder that
// appears in the place of an object between the look and the change is removed with all
// that is in it, as RFC 4918 §9.6.1 and §9.9.3 have it.
//
// # What it does not do
//
// Redirects are not followed, as the credentials are for one host; the error says where
// to. Digest authentication (RFC 7616) is not supported. Locks are not taken; what
// others locked is gateway.ErrUnavailable. There is no Watch.
package webdav
