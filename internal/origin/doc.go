// Package origin sends requests to one origin over HTTP/1.1 and reads its
// answers strictly.
//
// An Upstream is an http.Transport between two guards. Above it, RoundTrip
// prepares the request so that nothing is added to it and its target leaves
// octet for octet as it came. Below it, every connection is a witness: it
// follows the response as the octets pass, so that it knows what the library
// does not tell (was Cache-Control really there?), refuses what the library
// tolerates (Transfer-Encoding from HTTP/1.0, octets after the end of a
// message), and does not let a request out a second time unless RFC 9110
// §9.2.2 permits it.
package origin
