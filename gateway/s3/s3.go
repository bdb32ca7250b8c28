// Package s3 is a gateway.Source over a bucket of Amazon S3, or of anything that
// speaks its protocol: MinIO, Ceph, R2, Garage, SeaweedFS, Google's XML interface.
//
// Each verb is one request of the protocol where that allows it; package minio-go
// finds credentials and signs. Octets are never trusted to be of the version that
// was opened because they were asked for by it: the entity tag, the range and the
// length of each reply are compared.
package s3

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// A Style is how a bucket is named in requests.
type Style int

// Styles. Auto is Host for the endpoints of Amazon, Google and Alibaba, unless the
// bucket has a dot, which their certificates do not cover; and Path for others.
const (
	Auto Style = iota
	Path       // https://endpoint/bucket/key
	Host       // https://bucket.endpoint/key
)

// Options say which bucket, and how to get at it. Bucket is needed.
type Options struct {
	// Endpoint is where the server is: host, host:port, or a URL with no more than
	// these. Empty: Amazon's, of the bucket's region.
	Endpoint string

	// Insecure is for an Endpoint that is no URL: true is http, false https.
	Insecure bool

	// Region is what requests are signed for. Empty: what Endpoint tells;
	// otherwise us-east-1, and for Amazon the bucket's, asked for once.
	Region string

	// Bucket is the name of a bucket.
	Bucket string

	// Prefix is the folder of the bucket that is the root; what is outside does
	// not exist. A slash at its end makes no difference. Empty: all of it.
	Prefix string

	// Style is how the bucket is named in requests.
	Style Style

	// AccessKey, SecretKey and Token (often none) are the credentials. If AccessKey
	// is empty they are searched for, at the first request: environment (AWS_*,
	// then MINIO_*), files (~/.aws, AWS_PROFILE), role of the container or
	// machine. If none are found, requests are not signed. They are searched for
	// again before they expire, when the files change, and when the server does not
	// take them any more.
	AccessKey, SecretKey, Token string

	// Anonymous says not to sign requests, whatever credentials there are.
	Anonymous bool

	// Transport makes the requests. Nil: a pool of connections of its own.
	Transport http.RoundTripper

	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Sizes of uploads.
const (
	maxPut   = 5 << 30  // octets of one PUT
	partSize = 16 << 20 // octets of a part, and of memory for a body of unknown size
	maxParts = 10000
)

// A Source is a bucket, or a folder of one. It must come from Open. Any number of
// goroutines may use it.
type Source struct {
	bucket, prefix string // prefix: empty, or with a slash at its end
	style          Style
	where          string // for errors
	client         *http.Client
	pool           *http.Transport // nil: not ours
	keys           *keyring
	now            func() time.Time

	place  atomic.Pointer[place] // nil: Amazon's, region not known yet
	exists atomic.Bool           // the bucket was seen

	aborts           sync.WaitGroup // removals of parts under way
	maxPut, partSize int64
}

var (
	_ gateway.Writer = (*Source)(nil)

	regions = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Open makes a Source. It asks the network nothing; errors are about opt.
func Open(opt Options) (*Source, error) {
	if err := s3utils.CheckValidBucketName(opt.Bucket); err != nil {
		return nil, fmt.Errorf("s3: bucket %q: %w", opt.Bucket, err)
	}
	if s3utils.IsS3ExpressBucket(opt.Bucket) {
		return nil, fmt.Errorf("s3: bucket %q is a directory bucket, which needs sessions; use a general purpose bucket", opt.Bucket)
	}
	prefix := strings.Trim(opt.Prefix, "/")
	if prefix != "" {
		if !valid(prefix) {
			return nil, fmt.Errorf("s3: prefix %q has a segment or an octet that no name may have", opt.Prefix)
		}
		prefix += "/"
	}
	if opt.Region != "" && !regions.MatchString(opt.Region) {
		return nil, fmt.Errorf("s3: region %q is none", opt.Region)
	}
	if opt.Style < Auto || opt.Style > Host {
		return nil, fmt.Errorf("s3: style %d is none", opt.Style)
	}
	if (opt.AccessKey == "") != (opt.SecretKey == "") {
		return nil, errors.New("s3: access key and secret key come together")
	}
	s := &Source{
		bucket: opt.Bucket, prefix: prefix, style: opt.Style, where: opt.Bucket + " at amazonaws.com",
		now: opt.Now, maxPut: maxPut, partSize: partSize,
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.keys = newKeyring(opt, s.now)
	if err := s.locate(opt); err != nil {
		return nil, err
	}
	t := opt.Transport
	if t == nil {
		s.pool = pool()
		t = s.pool
	}
	// A redirect leads to another endpoint or bucket: these are fixed.
	s.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s, nil
}

// locate finds the place, if it can be told without asking.
func (s *Source) locate(opt Options) error {
	if opt.Endpoint == "" {
		if opt.Region != "" {
			s.place.Store(s.amazon(opt.Region))
		}
		return nil
	}
	u, err := endpoint(opt.Endpoint, opt.Insecure)
	if err != nil {
		return err
	}
	s.where = s.bucket + " at " + u.Host
	region := opt.Region
	if region == "" {
		region = s3utils.GetRegionFromURL(*u)
	}
	if region == "" {
		region = defaultRegion
	}
	s.place.Store(s.at(u, region))
	return nil
}

// endpoint makes a URL of scheme and host.
func endpoint(e string, insecure bool) (*url.URL, error) {
	if !strings.Contains(e, "://") {
		scheme := "https://"
		if insecure {
			scheme = "http://"
		}
		e = scheme + e
	}
	u, err := url.Parse(e)
	if err != nil {
		return nil, errors.New("s3: the endpoint is no URL") // what it is may have a password
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("s3: endpoint %q has credentials in it; give them apart", u.Host)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("s3: endpoint %q is neither host:port nor a URL of http or https", e)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("s3: endpoint %q has more than scheme, host and port", e)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// pool is for one host. Connections are closed before servers do, mostly, so that
// an upload rarely begins on one that is gone.
func pool() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    64,
		MaxConnsPerHost:        512,
		IdleConnTimeout:        15 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // the octets are those stored
	}
}

// Traits are those of keys in a bucket.
func (s *Source) Traits() gateway.Traits {
	return gateway.Traits{Flat: true, Codings: true, Remote: true}
}

// Close closes connections that are not used, once parts of uploads that failed are
// removed (10 s at most). Objects that are open stay usable.
// A Transport given in Options is its owner's.
func (s *Source) Close() error {
	s.aborts.Wait()
	if s.pool != nil {
		s.pool.CloseIdleConnections()
	}
	return nil
}

// wrap says where an error comes from, once.
func (s *Source) wrap(name string, err error) error {
	return fmt.Errorf("s3 %s: %q: %w", s.where, name, err)
}
