// Package encode compresses what an origin sends as it is: a layer between the
// cache and the origin. The cache stores what the layer answers as an ordinary
// variant by Vary, so that each object is compressed once for each coding, and
// neither ranges nor validation need to know of it (RFC 9110, 8.4 and 12.5.3).
package encode
