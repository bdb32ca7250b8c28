package s3

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/larderhq/larder/gateway"
)

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for name, opt := range map[string]Options{
		"no bucket":            {},
		"bucket with a slash":  {Bucket: "a/bucket"},
		"short bucket":         {Bucket: "ab"},
		"directory bucket":     {Bucket: "name--use1-az4--x-s3"},
		"prefix that climbs":   {Bucket: "bucket", Prefix: "a/../b"},
		"prefix with octets":   {Bucket: "bucket", Prefix: "a\nb"},
		"region":               {Bucket: "bucket", Region: "eu west/1"},
		"half of a key":        {Bucket: "bucket", AccessKey: "a"},
		"other half":           {Bucket: "bucket", SecretKey: "a"},
		"style":                {Bucket: "bucket", Style: 7},
		"endpoint with a path": {Bucket: "bucket", Endpoint: "http://h/path"},
		"endpoint, query":      {Bucket: "bucket", Endpoint: "http://h/?q"},
		"endpoint, scheme":     {Bucket: "bucket", Endpoint: "ftp://h"},
		"endpoint, no host":    {Bucket: "bucket", Endpoint: "http://:9000"},
		"endpoint, user":       {Bucket: "bucket", Endpoint: "http://user:hunter2@h"},
		"endpoint, rubbish":    {Bucket: "bucket", Endpoint: "http://user:hunter2@h:port"},
	} {
		if _, err := Open(opt); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhereRequestsGo(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want string // scheme://host/path region
	}{
		{Options{Endpoint: "127.0.0.1:9000"}, "https://127.0.0.1:9000/bucket/ us-east-1"},
		{Options{Endpoint: "127.0.0.1:9000", Insecure: true}, "http://127.0.0.1:9000/bucket/ us-east-1"},
		{Options{Endpoint: "https://minio:9000/", Insecure: true, Region: "garage"}, "https://minio:9000/bucket/ garage"},
		{Options{Endpoint: "http://minio:9000", Style: Host}, "http://bucket.minio:9000/ us-east-1"},
		{Options{Endpoint: "[::1]:9000"}, "https://[::1]:9000/bucket/ us-east-1"},
		{Options{Endpoint: "storage.googleapis.com"}, "https://bucket.storage.googleapis.com/ us-east-1"},
		{Options{Endpoint: "s3.eu-west-1.amazonaws.com"}, "https://bucket.s3.eu-west-1.amazonaws.com/ eu-west-1"},
		{Options{Endpoint: "s3.eu-west-1.amazonaws.com", Style: Path}, "https://s3.eu-west-1.amazonaws.com/bucket/ eu-west-1"},
		{Options{Region: "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/ eu-west-1"},
		{Options{Region: "eu-west-1", Bucket: "a.bucket"}, "https://s3.eu-west-1.amazonaws.com/a.bucket/ eu-west-1"},
		{Options{Region: "cn-north-1"}, "https://bucket.s3.cn-north-1.amazonaws.com.cn/ cn-north-1"},
	} {
		if c.opt.Bucket == "" {
			c.opt.Bucket = "bucket"
		}
		s, err := Open(c.opt)
		if err != nil {
			t.Errorf("%+v: %v", c.opt, err)
			continue
		}
		p := s.place.Load()
		if got := p.scheme + "://" + p.host + p.path + " " + p.region; got != c.want {
			t.Errorf("%+v: %s, want %s", c.opt, got, c.want)
		}
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func TestAmazonIsAskedForTheRegionOnce(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	region, status := "", http.StatusForbidden
	transport := roundTrip(func(r *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Host+r.URL.Path)
		h := http.Header{"Etag": {`"e"`}}
		if r.URL.Host == "s3.amazonaws.com" {
			if r.Header.Get("Authorization") != "" {
				t.Error("the question for the region is signed, for a region that may be wrong")
			}
			h.Set("X-Amz-Bucket-Region", region)
			return &http.Response{StatusCode: status, Header: h, Body: http.NoBody, Request: r}
		}
		if !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/s3/") {
			t.Errorf("%v", r.Header)
		}
		return &http.Response{StatusCode: http.StatusOK, Header: h, Body: http.NoBody, Request: r}
	})
	src, err := Open(Options{Bucket: "bucket", AccessKey: testKey, SecretKey: testSecret, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		region      string
		status      int
		unavailable bool
	}{{"", 403, false}, {"", 503, true}, {"", 404, false}, {"evil.example/", 200, false}} {
		region, status = c.region, c.status
		if _, err := src.Open(t.Context(), "o", gateway.Want{}); err == nil || errors.Is(err, gateway.ErrUnavailable) != c.unavailable {
			t.Errorf("%+v: %v", c, err)
		}
	}
	asked, region, status = nil, "eu-west-1", http.StatusForbidden
	for range 2 {
		if _, err := src.Open(t.Context(), "o", gateway.Want{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(asked, ", "); got != "HEAD s3.amazonaws.com/bucket, HEAD bucket.s3.eu-west-1.amazonaws.com/o, HEAD bucket.s3.eu-west-1.amazonaws.com/o" {
		t.Error(got)
	}
}

func TestParse(t *testing.T) {
	env := map[string]string{"AWS_ENDPOINT_URL": "http://all:1", "AWS_DEFAULT_REGION": "eu-default-1"}
	getenv := func(name string) string { return env[name] }
	for u, want := range map[string]Options{
		"s3://bucket":                                {Bucket: "bucket", Endpoint: "http://all:1", Region: "eu-default-1"},
		"s3://bucket/":                               {Bucket: "bucket", Endpoint: "http://all:1", Region: "eu-default-1"},
		"s3://my.bucket_1/a/b%2fc%20d/":              {Bucket: "my.bucket_1", Prefix: "a/b/c d", Endpoint: "http://all:1", Region: "eu-default-1"},
		"s3://bucket?endpoint=minio:9000&region=r-1": {Bucket: "bucket", Endpoint: "minio:9000", Region: "r-1"},
		"s3://bucket/p?anonymous=true&style=host":    {Bucket: "bucket", Prefix: "p", Endpoint: "http://all:1", Region: "eu-default-1", Anonymous: true, Style: Host},
		"s3://bucket/p?anonymous=false&style=path":   {Bucket: "bucket", Prefix: "p", Endpoint: "http://all:1", Region: "eu-default-1", Style: Path},
		"s3://bucket?endpoint=&region=":              {Bucket: "bucket"},
	} {
		if got, err := Parse(u, getenv); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", u, got, err)
		}
	}
	env["AWS_ENDPOINT_URL_S3"], env["AWS_REGION"] = "http://s3:1", "eu-1"
	if got, err := Parse("s3://bucket", getenv); err != nil || got.Endpoint != "http://s3:1" || got.Region != "eu-1" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, u := range []string{
		"", "bucket", "http://bucket/x", "s3:bucket", "s3:///x", "s3://key:hunter2@bucket/x", "s3://bucket/x#y", "s3://bucket/%zz:hunter2",
		"s3://bucket?style=dns", "s3://bucket?anonymous=maybe", "s3://bucket?region=a&region=b", "s3://bucket?a=%zz",
	} {
		if got, err := Parse(u, getenv); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %+v, %v", u, got, err)
		}
	}
	if _, err := Parse("s3://bucket?regoin=eu-1", getenv); err == nil || !strings.Contains(err.Error(), "anonymous, endpoint, region, style") {
		t.Error(err)
	}
}
