package habit_test

import (
	"testing"

	"github.com/larderhq/larder/internal/purge"
)

// FOSHttpCache and FOSHttpCacheBundle for Varnish: FriendsOfSymfony/FOSHttpCache,
// src/ProxyClient/Varnish.php; the rules are in resources/config/varnish/fos_ban.vcl,
// fos_purge.vcl and fos_tags_xkey.vcl.
func TestFOSVarnish(t *testing.T) {
	ban := func(fields ...string) []string {
		return append(sent("BAN / HTTP/1.1", "Host: 127.0.0.1:6081"), fields...)
	}
	check(t, []habitCase{
		{ // purge
			sent: sent("PURGE /news/1?page=2 HTTP/1.1", "Host: example.com"),
			want: one(url("//example.com/news/1?page=2")),
		},
		{ // invalidateTags
			sent: ban("X-Host: .*", "X-Url: .*", "X-Content-Type: .*", "X-Cache-Tags: (^|,)(news\\-1|article\\.2|c\\:3)(,|$)"),
			want: tags("article.2", "c:3", "news-1"),
		},
		{ // the same by version 2.0
			sent: ban("X-Host: .*", "X-Url: .*", "X-Content-Type: .*", "X-Cache-Tags: (news\\-1|a)(,.+)?$"),
			want: tags("a", "news-1"),
		},
		{ // invalidateRegex, of which hosts are an array
			sent: ban("X-Host: ^(example.com|www.example.com)$", "X-Url: ^/foo", "X-Content-Type: .*"),
			want: one(regex(`^https?://(?:example[^/]com|www[^/]example[^/]com)/foo`)),
		},
		{
			sent: ban("X-Host: ^(www\\.)?example\\.com$", "X-Url: \\.png$", "X-Content-Type: .*"),
			want: one(regex(`^https?://(?:www\.)?example\.com/.*\.png$`)),
		},
		{ // ban everything
			sent: ban("X-Host: .*", "X-Url: .*", "X-Content-Type: .*"),
			want: everything,
		},
		{
			sent: ban("X-Host: .*", "X-Url: .*", "X-Content-Type: image/png"),
			why:  "cannot be limited to a type of content",
		},
		{
			sent: ban("X-Host: ^example\\.com$", "X-Url: .*", "X-Content-Type: .*", "X-Cache-Tags: (^|,)(a)(,|$)"),
			why:  "tags of some hosts or URLs alone",
		},
		{ // user context: the logout of one session
			sent: ban("X-Host: .*", "X-Url: .*", "X-Content-Type: .*", "Cookie: .*PHPSESSID=abc.*", "Accept: application/vnd.fos.user-context-hash"),
			why:  "Cookie is not supported",
		},
		{
			sent: ban("X-Host: .*", "X-Url: ^/(?!admin)", "X-Content-Type: .*"),
			why:  "no lookaround",
		},
		{
			sent: ban("X-Host:", "X-Url: .*"),
			why:  "X-Host is empty",
		},
		{ // tag_mode: purgekeys
			sent: sent("PURGEKEYS / HTTP/1.1", "Host: 127.0.0.1", "xkey-softpurge: news-1 article-2"),
			want: tags("article-2", "news-1"), mode: refresh,
		},
		{ // tags_header: xkey-purge
			sent: sent("PURGEKEYS / HTTP/1.1", "Host: 127.0.0.1", "xkey-purge: news-1"),
			want: tags("news-1"),
		},
		{
			sent: sent("PURGEKEYS / HTTP/1.1", "Host: 127.0.0.1"),
			why:  "neither is there",
		},
		{
			sent: sent("PURGEKEYS / HTTP/1.1", "Host: 127.0.0.1", "xkey-purge: a", "xkey-softpurge: b"),
			why:  "a request for each",
		},
	})
}

// FOSHttpCache for the cache of Symfony: src/ProxyClient/Symfony.php;
// src/SymfonyCache/PurgeListener.php and PurgeTagsListener.php say what it means.
func TestFOSSymfony(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGETAGS / HTTP/1.1", "Host: 127.0.0.1", "X-Cache-Tags: news-1,article (2),c"),
			want: tags("article (2)", "c", "news-1"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: 127.0.0.1", "Clear-Cache: true"),
			want: everything,
		},
		{
			sent: sent("PURGETAGS / HTTP/1.1", "Host: 127.0.0.1"),
			why:  "which is not there",
		},
	})
}

// FOSHttpCache for nginx and for Fastly: src/ProxyClient/Nginx.php, Fastly.php.
func TestFOSNginxAndFastly(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE /a HTTP/1.1", "Host: example.com"),
			want: one(url("//example.com/a")),
		},
		{
			sent: sent("PURGE /a HTTP/1.1", "Host: example.com", "Fastly-Key: hush", "Fastly-Soft-Purge: 1"),
			want: one(url("//example.com/a")), mode: refresh,
		},
	})
}

// Ibexa: ibexa/http-cache, docs/varnish/vcl/varnish9.vcl, and spec/ProxyClient/VarnishSpec.php
// for the token. eZ Platform 1: ezsystems/ezplatform-http-cache, docs/varnish/vcl/varnish5.vcl.
func TestIbexa(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGEKEYS / HTTP/1.1", "Host: varnish", "xkey-softpurge: c52 l2 p2 ez-all", "X-Invalidate-Token: hush"),
			want: tags("c52", "ez-all", "l2", "p2"), mode: refresh,
		},
		{
			sent: sent("PURGE /site HTTP/1.1", "Host: example.com", "X-Invalidate-Token: hush"),
			want: one(url("//example.com/site")),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "key: content-52 location-2"),
			want: tags("content-52", "location-2"),
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", "X-Location-Id: (2|52)"),
			why:  "X-Location-Id is not supported",
		},
	})
}

// API Platform: api-platform/core, src/HttpCache/VarnishPurger.php, VarnishXKeyPurger.php and
// SouinPurger.php, and their tests.
func TestAPIPlatform(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("BAN / HTTP/1.1", "Host: varnish", `ApiPlatform-Ban-Regex: (/books/1|/books\?q\=1|/a\.b)($|\,)`),
			want: tags("/a.b", "/books/1", "/books?q=1"),
		},
		{ // by version 2
			sent: sent("BAN / HTTP/1.1", "Host: varnish", `ApiPlatform-Ban-Regex: ((^|\,)/foo($|\,))|((^|\,)/bar($|\,))`),
			want: tags("/bar", "/foo"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "xkey: /foo /bar"),
			want: tags("/bar", "/foo"),
		},
		{
			sent: sent("PURGE / HTTP/1.1", "Host: varnish", "Surrogate-Key: /foo, /bar"),
			want: tags("/bar", "/foo"),
		},
	})
}

// Shopware: shopware/shopware, src/Core/Framework/Adapter/Cache/ReverseProxy/
// VarnishReverseProxyGateway.php; its rules purge by xkey, or by URL, and ban req.url ~ URL.
func TestShopware(t *testing.T) {
	check(t, []habitCase{
		{
			sent: sent("PURGE / HTTP/1.1", "Host: shop.example.com", "xkey: product-1 category-2"),
			want: tags("category-2", "product-1"),
		},
		{
			sent: sent("PURGE /sale HTTP/1.1", "Host: shop.example.com"),
			want: one(url("//shop.example.com/sale")),
		},
		{
			sent: sent("BAN / HTTP/1.1", "Host: shop.example.com"),
			want: one(purge.Selector{Prefix: "//shop.example.com"}),
		},
	})
}
