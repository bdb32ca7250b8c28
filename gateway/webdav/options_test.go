package webdav_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larderhq/larder/gateway"
	"github.com/larderhq/larder/gateway/webdav"
)

func TestParse(t *testing.T) {
	env := map[string]string{webdav.EnvUser: "eve", webdav.EnvPassword: "env", webdav.EnvToken: ""}
	token := map[string]string{webdav.EnvToken: "tok"}
	for _, c := range []struct {
		url  string
		env  map[string]string
		want webdav.Options
	}{
		{"webdav://host/a%20b/", nil, webdav.Options{URL: "http://host/a%20b/"}},
		{"webdavs://host:8443", nil, webdav.Options{URL: "https://host:8443"}},
		{"webdav:https://host/x", nil, webdav.Options{URL: "https://host/x"}},
		{"webdav:http://host/x", env, webdav.Options{URL: "http://host/x", User: "eve", Password: "env"}},
		{"webdavs://ann:p%40ss@host/x", env, webdav.Options{URL: "https://host/x", User: "ann", Password: "p@ss"}},
		{"webdavs://ann@host/x", env, webdav.Options{URL: "https://host/x", User: "ann", Password: "env"}},
		{"webdavs://ann:p@host/x", token, webdav.Options{URL: "https://host/x", User: "ann", Password: "p"}},
		{"webdavs://host/x", token, webdav.Options{URL: "https://host/x", Token: "tok"}},
	} {
		got, err := webdav.Parse(c.url, func(name string) string { return c.env[name] })
		if err != nil || got.URL != c.want.URL || got.User != c.want.User || got.Password != c.want.Password || got.Token != c.want.Token {
			t.Errorf("%s: %+v, %v", c.url, got, err)
		}
	}
	for _, u := range []string{
		"", "webdav:", "webdav:host", "webdav:/x", "webdav://", "http://host", "webdav:ftp://host", "webdav://ann:hush@ho st/", "webdavs://ann:hush@host/%zz",
		"webdav://ann:hush@host/?q", "webdav://ann:hush@host/#f", "webdav://ann:hush@host/a/../b", "webdav://ann:hush@host/a//b", "webdav://ann:hush@host/a%2Fb",
	} {
		if got, err := webdav.Parse(u, func(string) string { return "" }); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %+v, %v", u, got, err)
		}
	}
}

func TestCredentialsAreSentAtOnceAndNeverShown(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	for _, c := range []struct {
		o    webdav.Options
		want string
	}{
		{webdav.Options{}, ""},
		{webdav.Options{User: "ann", Password: "hush:é"}, "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:hush:é"))},
		{webdav.Options{Token: "hush"}, "Bearer hush"},
	} {
		c.o.URL = server.URL
		s := open(t, c.o)
		_, err := s.Open(t.Context(), "a", gateway.Want{N: -1})
		if err == nil || strings.Contains(err.Error(), "hush") || got != c.want {
			t.Errorf("%q, %v", got, err)
		}
		s.Close()
	}
	for _, o := range []webdav.Options{
		{URL: server.URL, User: "ann", Token: "hush"}, {URL: "http://ann:hush@host/"}, {URL: "host"}, {URL: "ftp://host"}, {URL: "http://host/?q"},
	} {
		if _, err := webdav.Open(o); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestErrorsNameTheAddressAsItWasGiven(t *testing.T) {
	for given, named := range map[string]string{
		"webdav://ann:hush@host/x?secret=1":      `"webdav://host/x"`,
		"webdavs://host/a//b":                    `"webdavs://host/a//b"`,
		"webdav:https://ann:hush@host/?secret=1": `"webdav:https://host/"`,
	} {
		_, err := webdav.Parse(given, func(string) string { return "" })
		if err == nil || !strings.Contains(err.Error(), named) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", given, err)
		}
	}
}
