package habit_test

import "testing"

// Drupal, Varnish purger and its tags: drupal.org/project/varnish_purge,
// src/Plugin/Purge/Purger/VarnishPurger.php with modules/varnish_purge_tags, header Cache-Tags:
// [invalidation:expression]; the bundled purger joins them by bars. modules/varnish_image_purge
// sends URIBAN. The rules: obj.http.Cache-Tags ~.
func TestDrupalVarnishPurge(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("BAN / HTTP/1.1", "Host: 127.0.0.1:6081", "User-Agent: varnish_purger module for Drupal 8.", "Cache-Tags: node:1"),
			want: tags("node:1"),
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Cache-Tags: node:1|node_list|config:system.site"),
			want: tags("config:system.site", "node:1", "node_list"),
		},
		{ // the zero-configuration purger: src/Plugin/Purge/Purger/ZeroConfigPurger.php
			sent: sent("BAN /tags HTTP/1.1", "Host: 192.0.2.1", "Cache-Tags: node:1 node_list"),
			want: tags("node:1", "node_list"),
		},
		{
			sent: sent(`BAN / HTTP/1.1`, "Host: varnish", `Cache-Tags: (^|\s)node:1(\s|$)|(^|\s)config:system\.site(\s|$)`),
			want: tags("config:system.site", "node:1"),
		},
		{
			sent: sent("URIBAN /sites/default/files/styles/thumb/a.jpg?itok=x HTTP/1.1", "Host: example.com"),
			want: one(url("//example.com/sites/default/files/styles/thumb/a.jpg?itok=x")),
		},
		{ // wildcards
			sent: sent("BAN /news/* HTTP/1.1", "Host: example.com", "Accept-Encoding: gzip"),
			want: one(regex(`^https?://example\.com/news/.*$`)),
		},
		{ // what several of its users have their caches do
			sent: sent("FULLBAN / HTTP/1.1", "Host: varnish"),
			want: everything,
		},
	})
}

// Drupal, generic HTTP purger: drupal.org/project/purge_purger_http, with
// purge_purger_http_tagsheader, header Purge-Cache-Tags.
func TestDrupalHTTPPurger(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Purge-Cache-Tags: config:user.role.anonymous"),
			want: tags("config:user.role.anonymous"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "Surrogate-Key: node:1 node_list"),
			want: tags("node:1", "node_list"),
		},
		{ // drupal.org/docs/8/api/cache-api/cache-tags-varnish
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "X-Cache-Tags: node:1"),
			want: tags("node:1"),
		},
	})
}

// Drupal, Acquia Purge: drupal.org/project/acquia_purge,
// src/Plugin/Purge/Purger/AcquiaCloudPurger.php; its caches compare the site too.
func TestDrupalAcquiaPurge(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /about HTTP/1.1", "Host: example.com", "X-Acquia-Purge: sitedev", "Accept-Encoding: gzip"),
			want: one(url("//example.com/about")),
		},
		{
			sent: sent("BAN /news* HTTP/1.1", "Host: example.com", "X-Acquia-Purge: sitedev"),
			want: one(regex(`^https?://example\.com/news.*$`)),
		},
		{
			sent: sent("BAN /tags HTTP/1.1", "Host: 192.0.2.1", "X-Acquia-Purge: sitedev", "X-Acquia-Purge-Tags: ab3 4fd"),
			why:  "X-Acquia-Purge-Tags is not supported",
		},
		{
			sent: sent("BAN /site HTTP/1.1", "Host: 192.0.2.1", "X-Acquia-Purge: sitedev"),
			why:  "BAN /site is not supported",
		},
	})
}
