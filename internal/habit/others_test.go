package habit_test

import "testing"

// Varnish, as its documentation has it: users-guide/purging (x-ban-url, x-ban-host), and
// vmod_xkey(3).
func TestVarnish(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /a HTTP/1.1", "Host: example.com"),
			want: one(url("//example.com/a")),
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: example.com", "x-ban-url: ^/page", "x-ban-host: example\\.com$"),
			want: one(regex(`^https?://[^/]*example\.com/page`)),
		},
		{ // without a host: the one that was asked
			sent: sent("BAN / HTTP/1.1", "Host: example.com", "x-ban-url: ^/page"),
			want: one(regex(`^https?://example\.com/page`)),
		},
		{ // req.http.host == Host && req.url ~ URL
			sent: sent("BAN /(a|b)/.*[.]png$ HTTP/1.1", "Host: example.com"),
			want: one(regex(`^https?://example\.com/(?:.*/[ab]/.*\.png$|[ab]/.*\.png$)`)),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "xkey: a,b c"),
			want: tags("a", "b", "c"),
		},
		{ // hash_always_miss
			sent: sent("REFRESH /a HTTP/1.1", "Host: example.com"),
			want: one(url("//example.com/a")), mode: refresh,
		},
		{
			sent: sent("PURGE /a HTTP/1.1", "Host: example.com", "X-Purge-Soft: 1"),
			want: one(url("//example.com/a")), mode: refresh,
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: example.com", "x-ban-url: ^/a", "X-Url: ^/b"),
			why:  "several of X-Url, X-Ban-Url",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: example.com", "X-Url: ^/b"),
			why:  "it goes with BAN",
		},
	})
}

// Squid: squidclient -m PURGE URL sends the whole of it.
func TestSquid(t *testing.T) {
	check(t, []habitCase{{
		sent: sent("PURGE http://Example.com:80/a?b HTTP/1.0", "Accept: */*"),
		want: one(url("//example.com/a?b")),
	}})
}

// nginx with ngx_cache_purge: a star at the end stands for all that begins so.
func TestNginxCachePurge(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /blog* HTTP/1.1", "Host: example.com"),
			want: one(prefix("//example.com/blog")),
		},
		{
			sent: sent("PURGE /* HTTP/1.1", "Host: example.com"),
			want: one(prefix("//example.com/")),
		},
	})
}

// Gandi's accelerator: PURGEALL.
func TestPurgeAll(t *testing.T) {
	check(t, []habitCase{{sent: sent("PURGEALL / HTTP/1.1", "Host: example.com"), want: everything}})
}

// Fastly: fastly.com/documentation/guides/full-site-delivery/purging/soft-purges, and
// fastly/fastly-magento2, Model/Api.php, _purge, which signs the URL.
func TestFastly(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /image.jpg HTTP/1.1", "Host: www.example.com", "Fastly-Key: hush"),
			want: one(url("//www.example.com/image.jpg")),
		},
		{
			sent: sent("PURGE /image.jpg HTTP/1.1", "Host: www.example.com", "Fastly-Soft-Purge: 1"),
			want: one(url("//www.example.com/image.jpg")), mode: refresh,
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: www.example.com", "X-Purge-Token: 1700000000_0a1b", "Fastly-Soft-Purge: 0"),
			want: one(url("//www.example.com/")),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: www.example.com", "Fastly-Soft-Purge: maybe"),
			why:  "neither 1 nor 0",
		},
	})
}

// TYPO3, EXT:varnish: opsone-ch/typo3-varnish, Classes/Controller/VarnishController.php; its
// rules for xkey are in Resources/Private/Example/xtags.vcl.
func TestTYPO3Varnish(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Varnish-Ban-TYPO3-Pid: 42", "Varnish-Ban-TYPO3-Sitename: 0a1b2c"),
			want: tags("pageId_42"), mode: refresh,
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Varnish-Ban-All: 1", "Varnish-Ban-TYPO3-Sitename: 0a1b2c"),
			want: tags("siteId_0a1b2c"), mode: refresh,
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Varnish-Ban-All: 1"),
			want: everything,
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "xkey-purge: pageId_42 tt_content_7"),
			want: tags("pageId_42", "tt_content_7"),
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "Varnish-Ban-All: 1", "Varnish-Ban-TYPO3-Sitename: My site"),
			why:  "a blank or a comma",
		},
	})
}

// TYPO3, aoe/varnish: AOEpeople/TYPO3-varnish, Classes/System/Varnish.php, and its
// sub_vcl_recv.vcl.
func TestTYPO3AOE(t *testing.T) {
	check(t, []habitCase{
		{sent: sent("BAN / HTTP/1.1", "Host: example.com", "X-Ban-All: 1"), want: everything},
		{sent: sent("BAN / HTTP/1.1", "Host: example.com", "X-Ban-Tags: typo3_page"), want: tags("typo3_page")},
		{sent: sent("BAN / HTTP/1.1", "Host: example.com", "X-Ban-Regex: ^/de/"), want: one(regex(`^https?://example\.com/de/`))},
	})
}

// TYPO3, mittwald/varnishcache: Classes/Service/VarnishCacheService.php, and its default-4.vcl.
func TestTYPO3Mittwald(t *testing.T) {
	check(t, []habitCase{{
		sent: sent("BAN /news/ HTTP/1.1", "Host: 127.0.0.1", "X-Host: www.example.com", "X-Url: /news/"),
		want: one(regex(`^https?://[^/]*www[^/]example[^/]com[^/]*/(?:.*/news/|news/)`)),
	}})
}

// TYPO3, dmk/mkvarnish: Classes/Cache/VarnishBackend.php limits each purge to a site. Neos,
// Flowpack/varnish: Classes/Service/VarnishBanService.php does so too.
func TestTagsOfOneSite(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Cache-Tags: (pages_1)(,.+)?$", "X-TYPO3-Sitename: 0a1b2c"),
			why:  "tags of one site alone",
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "X-Host: .*", "X-Url: .*", "X-Content-Type: .*", "X-Cache-Tags: (^|,)(a)(,|$)", "X-Site: 0a1b2c"),
			why:  "tags of one site alone",
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Cache-Tags: (pages_1|tt_content\\-2)(,.+)?$"),
			want: tags("pages_1", "tt_content-2"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "X-Varnish-Purge-All: 1"),
			want: everything,
		},
	})
}
