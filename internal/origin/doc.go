// Package origin sends requests to one origin over HTTP/1.1 and reads its
// answers strictly (RFC 9112).
//
// An Upstream keeps a pool of connections, the one used last on top. Whoever
// calls RoundTrip takes one, sees that nothing came on it since the last
// answer, sends the head with one write, and reads the answer itself, parsing
// each octet once: so that what is asked of the origin, and what it is believed,
// is decided in one place. Nothing is added to a request, its target leaves octet
// for octet as it came, and it leaves a second time only if RFC 9110 §9.2.2
// permits it. Of goroutines there is one for content that is sent, since its
// answer may come early, and one to open a connection.
//
// A connection serves again only if its message ended exactly, nothing is left in
// the window, neither side wants it closed, and all content was sent. All else
// closes it.
package origin
