package encode

import "strings"

// eventStream is never compressed: its events are short, and meant to arrive
// one by one (HTML, 9.2).
const eventStream = "text/event-stream"

// compressible tells whether content of a media type usually shrinks: text, and
// the uncompressed among the formats of fonts, icons and programs.
func compressible(mediaType string) bool {
	if _, ok := dense[mediaType]; ok {
		return true
	}
	for _, suffix := range []string{"+json", "+xml", "+yaml", "+text"} { // RFC 6839, RFC 9512
		if strings.HasSuffix(mediaType, suffix) {
			return true
		}
	}
	return strings.HasPrefix(mediaType, "text/")
}

// dense are the types that compress well and do not say so by their form.
// font/woff and font/woff2 are missing: they are compressed already.
var dense = map[string]struct{}{
	"application/ecmascript":        {},
	"application/graphql":           {},
	"application/javascript":        {},
	"application/json":              {},
	"application/json-seq":          {},
	"application/jsonl":             {},
	"application/ndjson":            {},
	"application/rtf":               {},
	"application/sql":               {},
	"application/toml":              {},
	"application/vnd.ms-fontobject": {},
	"application/wasm":              {},
	"application/x-font-opentype":   {},
	"application/x-font-otf":        {},
	"application/x-font-truetype":   {},
	"application/x-font-ttf":        {},
	"application/x-javascript":      {},
	"application/x-ndjson":          {},
	"application/x-yaml":            {},
	"application/xml":               {},
	"application/xml-dtd":           {},
	"application/yaml":              {},
	"font/collection":               {},
	"font/otf":                      {},
	"font/sfnt":                     {},
	"font/ttf":                      {},
	"image/bmp":                     {},
	"image/vnd.microsoft.icon":      {},
	"image/x-icon":                  {},
}

// mediaType is the type that a Content-Type field names, in lower case and
// without parameters; "" if there is none or more than one.
func mediaType(lines []string) string {
	if len(lines) != 1 {
		return ""
	}
	kind, _, _ := strings.Cut(lines[0], ";")
	return strings.ToLower(strings.Trim(kind, " \t"))
}
