package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/larderhq/larder/gateway"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const defaultRegion = "us-east-1"

// A place is where a bucket is: what comes before a key, with a slash at its end,
// and what requests are signed for.
type place struct {
	scheme, host, path string
	region             string
}

// at is the place of the bucket at an endpoint.
func (s *Source) at(u *url.URL, region string) *place {
	if s.style == Host || s.style == Auto && s3utils.IsVirtualHostSupported(*u, s.bucket) {
		return &place{u.Scheme, s.bucket + "." + u.Host, "/", region}
	}
	return &place{u.Scheme, u.Host, "/" + s.bucket + "/", region}
}

// amazon is the place of the bucket in a region of Amazon's.
func (s *Source) amazon(region string) *place {
	host := "s3." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		host += ".cn"
	}
	return s.at(&url.URL{Scheme: "https", Host: host}, region)
}

// find returns the place. Amazon tells the region of any bucket to anybody
// (HeadBucket, x-amz-bucket-region), so that it is asked for once; that two ask at
// the same time does no harm.
func (s *Source) find(ctx context.Context) (*place, error) {
	if p := s.place.Load(); p != nil {
		return p, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://s3.amazonaws.com/"+s.bucket, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	_ = resp.Body.Close() // it has none
	region := resp.Header.Get("X-Amz-Bucket-Region")
	switch {
	case regions.MatchString(region):
		p := s.amazon(region)
		s.place.Store(p)
		return p, nil
	case resp.StatusCode == http.StatusNotFound:
		return nil, errNoBucket
	case resp.StatusCode >= http.StatusInternalServerError:
		return nil, fmt.Errorf("%w: status %d when asked for the region", gateway.ErrUnavailable, resp.StatusCode)
	}
	return nil, fmt.Errorf("the region of the bucket cannot be told (status %d); set it", resp.StatusCode)
}
