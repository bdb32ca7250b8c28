package habit_test

import "testing"

// WordPress, "Proxy Cache Purge": dvershinin/varnish-http-purge, varnish-http-purge.php,
// purge_url and purge_tags; the rules are in tests/varnish/default.vcl and settings.php.
func TestWordPressProxyCachePurge(t *testing.T) {
	check(t, []habitCase{
		{ // a page was edited
			sent: sent("PURGE /2024/05/hello-world/ HTTP/1.1", "User-Agent: WordPress/6.5; https://example.com", "Host: example.com", "X-Purge-Method: default"),
			want: one(url("//example.com/2024/05/hello-world/")),
		},
		{ // with a port in the URL of the site, and a query
			sent: sent("PURGE /?p=12 HTTP/1.1", "Host: example.com:8080", "X-Purge-Method: default"),
			want: one(url("//example.com:8080/?p=12")),
		},
		{ // Empty Cache: home URL + ?vhp-regex
			sent: sent("PURGE /.* HTTP/1.1", "Host: example.com", "X-Purge-Method: regex"),
			want: one(prefix("//example.com")),
		},
		{ // wp varnish purge https://example.com/wp-content/themes --wildcard
			sent: sent("PURGE /wp-content/themes.* HTTP/1.1", "Host: example.com", "X-Purge-Method: regex"),
			want: one(regex(`^https?://example\.com/(?:.*/wp-content/themes|wp-content/themes)`)),
		},
		{ // the site is in a folder
			sent: sent("PURGE /blog/.* HTTP/1.1", "Host: Example.com", "X-Purge-Method: regex"),
			want: one(regex(`^https?://example\.com/(?:.*/blog/|blog/)`)),
		},
		{ // "Use cache tags"
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Purge-Method: tags", "X-Cache-Tags-Pattern: site-1|p-123|pt-post|a-1|archive|feed|blog|home|404"),
			want: tags("404", "a-1", "archive", "blog", "feed", "home", "p-123", "pt-post", "site-1"),
		},
		{ // as default.vcl would have it
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Purge-Method: tags", "X-Cache-Tags-Pattern: (^|,)p-123(,|$)"),
			want: tags("p-123"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Purge-Method: tags"),
			why:  "X-Cache-Tags-Pattern does not say which",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Purge-Method: ban-regex", "X-Ban-Regex: .*"),
			why:  "none of default, exact, regex, tags",
		},
	})
}

// WordPress, W3 Total Cache: BoldGrid/w3-total-cache, Varnish_Flush.php; the rules are in
// qa/env/scripts/init-image/templates/varnish.vcl: req.url ~ ^URL$ && req.http.host == Host.
func TestWordPressW3TotalCache(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /hello-world/ HTTP/1.1", "Host: example.com", "User-Agent: W3TC/2.7", "Connection: close"),
			want: one(url("//example.com/hello-world/")),
		},
		{ // do_flush: home URL + /.*
			sent: sent("PURGE /.* HTTP/1.1", "Host: example.com", "User-Agent: W3TC/2.7", "X-Purge-Key: hush", "Connection: close"),
			want: one(prefix("//example.com/")),
		},
		{ // a blog of a network, in a folder
			sent: sent("PURGE /blog/.* HTTP/1.1", "Host: example.com", "Connection: close"),
			want: one(prefix("//example.com/blog/")),
		},
	})
}

// WordPress, WP Rocket: wp-media/wp-rocket, inc/Addon/Varnish/Varnish.php, purge; and with
// inc/ThirdParty/Hostings/O2Switch.php, add_purge_headers.
func TestWordPressWPRocket(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /about/ HTTP/1.1", "Host: example.com", "X-Purge-Method: default"),
			want: one(url("//example.com/about/")),
		},
		{
			sent: sent("PURGE /.* HTTP/1.1", "Host: example.com", "X-Purge-Method: regex"),
			want: one(prefix("//example.com")),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-VC-Purge-Key: hush", "X-Purge-Regex: .*"),
			want: one(prefix("//example.com")),
		},
		{
			sent: sent("PURGE /shop/ HTTP/1.1", "Host: example.com", "X-VC-Purge-Key: hush", "X-Purge-Regex: .*"),
			want: one(regex(`^https?://example\.com/shop/`)),
		},
	})
}

// WordPress, Varnish Caching and those that come from it: X-VC-Purge-Method. The rules are in
// wodby/vinyl, templates/includes/purge.vcl.tmpl: default is a page, whatever its query.
func TestWordPressVarnishCaching(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /.* HTTP/1.1", "Host: example.com", "X-VC-Purge-Method: regex", "X-VC-Purge-Host: example.com", "X-VC-Purge-Key: hush"),
			want: one(prefix("//example.com")),
		},
		{
			sent: sent("PURGE /a.html?b=c HTTP/1.1", "Host: 127.0.0.1", "X-VC-Purge-Method: default", "X-VC-Purge-Host: example.com"),
			want: one(regex(`^https?://example\.com/a\.html(?:\?|$)`)),
		},
		{
			sent: sent("PURGE /a?b=c HTTP/1.1", "Host: example.com", "X-VC-Purge-Method: exact"),
			want: one(url("//example.com/a?b=c")),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-VC-Purge-Method: exact", "X-VC-Purge-Host: a/b"),
			why:  "no host",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-VC-Purge-Method: all"),
			why:  "none of default, exact, regex",
		},
	})
}

// ConVarnish: hummer2k/ConVarnish, src/ConVarnish/Service/VarnishService.php, and its
// VCL: X-Purge-Host ~ and X-Purge-URL ~ X-Purge-Regex and Content-Type ~.
func TestPurgeRegexAndHost(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE / HTTP/1.1", "Host: 127.0.0.1", "X-Purge-Host: ^example\\.com$", "X-Purge-Regex: ^/foo", "X-Purge-Content-Type: .*"),
			want: one(regex(`^https?://example\.com/foo`)),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: 127.0.0.1", "X-Purge-Host: .*", "X-Purge-Regex: .*"),
			want: everything,
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: 127.0.0.1", "X-Purge-Host: .*", "X-Purge-Regex: ^/a", "X-Purge-Content-Type: image/png"),
			why:  "type of content",
		},
		{
			sent: sent("PURGE /a/ HTTP/1.1", "Host: example.com", "X-Purge-Regex: b+"),
			why:  "begin",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Purge-Host:", "X-Purge-Regex: .*"),
			why:  "X-Purge-Host is empty",
		},
	})
}
