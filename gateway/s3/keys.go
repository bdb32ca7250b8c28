package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/larderhq/larder/gateway"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// patience is how long the metadata service of a machine may take. Where there
	// is none, many networks drop the question.
	patience = 1500 * time.Millisecond
	// longPatience is for a role that somebody configured.
	longPatience = 10 * time.Second
	// noneFor is how long it is remembered that there were no credentials.
	noneFor = 15 * time.Minute
)

// A keyring has the credentials, and finds them when they are first needed and
// before they expire.
type keyring struct {
	now      func() time.Time
	static   *credentials.Value // not nil: these, possibly none
	metadata string             // URL of the machine's metadata service; empty: the usual

	turn  chan struct{} // held by who looks
	value credentials.Value
	until time.Time // when value is to be looked for again; zero: at once
}

func newKeyring(opt Options, now func() time.Time) *keyring {
	k := &keyring{now: now, turn: make(chan struct{}, 1)}
	if opt.Anonymous || opt.AccessKey != "" {
		k.static = &credentials.Value{}
	}
	if !opt.Anonymous && opt.AccessKey != "" {
		*k.static = credentials.Value{AccessKeyID: opt.AccessKey, SecretAccessKey: opt.SecretKey, SessionToken: opt.Token}
	}
	return k
}

// forever is longer than any process lives.
const forever = 100 * 365 * 24 * time.Hour

// get returns the credentials, empty for none.
func (k *keyring) get(ctx context.Context) (credentials.Value, error) {
	if k.static != nil {
		return *k.static, nil
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return credentials.Value{}, ctx.Err()
	}
	if k.now().Before(k.until) {
		return k.value, nil
	}
	v, err := k.look(ctx)
	if err != nil {
		return credentials.Value{}, err
	}
	k.value = v
	switch {
	case v.AccessKeyID == "":
		k.until = k.now().Add(noneFor)
	case v.Expiration.IsZero():
		k.until = k.now().Add(forever)
	default: // early, so that none expires on its way
		k.until = k.now().Add(v.Expiration.Sub(k.now()) * 4 / 5)
	}
	return v, nil
}

// look asks the usual places, nearest first. What somebody configured and does not
// work is an error; what is not there is not.
func (k *keyring) look(ctx context.Context) (credentials.Value, error) {
	client := &http.Client{Transport: &http.Transport{Proxy: proxy, DisableKeepAlives: true}}
	cc := &credentials.CredContext{Client: client, Context: ctx}
	for _, p := range []credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}} {
		if v, err := p.RetrieveWithCredContext(cc); err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			return v, nil
		}
	}
	v, err := (&credentials.FileAWSCredentials{}).RetrieveWithCredContext(cc)
	if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
		return v, nil
	}
	if profile := os.Getenv("AWS_PROFILE"); err != nil && profile != "" {
		// The error may quote the file.
		return credentials.Value{}, fmt.Errorf("the files of credentials have nothing usable for AWS_PROFILE %q", profile)
	}
	return k.ofRole(ctx, client)
}

// ofRole asks for the credentials of the role that the container has, or the machine.
func (k *keyring) ofRole(ctx context.Context, client *http.Client) (credentials.Value, error) {
	limit, configured := patience, false
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(name) != "" {
			limit, configured = longPatience, true
		}
	}
	if !configured && os.Getenv("AWS_EC2_METADATA_DISABLED") == "true" {
		return credentials.Value{}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	role := credentials.IAM{Client: client}
	if !configured {
		role.Endpoint = k.metadata
	}
	v, err := role.RetrieveWithCredContext(&credentials.CredContext{Client: client, Context: bounded})
	switch {
	case err == nil:
		return v, nil
	case ctx.Err() != nil:
		return credentials.Value{}, ctx.Err()
	case configured:
		return credentials.Value{}, fmt.Errorf("%w: no credentials for the role that is configured: %w", gateway.ErrUnavailable, inner(err))
	case k.value.AccessKeyID != "":
		return credentials.Value{}, fmt.Errorf("%w: the credentials of the machine's role cannot be renewed", gateway.ErrUnavailable)
	}
	return credentials.Value{}, nil
}

// proxy is none for the services of the machine itself, which speak plain http.
func proxy(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme == "http" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}
