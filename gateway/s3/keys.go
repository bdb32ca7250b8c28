package s3

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
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
	// pause is how often at most it is looked whether others are there, or again after
	// an error.
	pause = 3 * time.Second
	// longest is how long anybody waits for a search.
	longest = time.Minute
	// forever is longer than any process lives.
	forever = 100 * 365 * 24 * time.Hour
)

// A keyring has the credentials, and finds them when they are first needed, before they
// expire, and when the files that may have them changed.
type keyring struct {
	now      func() time.Time
	static   *credentials.Value // not nil: these, possibly none
	metadata string             // URL of the machine's metadata service; empty: the usual

	mu     sync.Mutex
	found  finding
	until  time.Time // when to look again; zero: at once
	looked time.Time // when found was found
	files  [2]stamp  // before that
	stat   time.Time // when they were last compared
	search *search   // nil: none is under way
}

// A finding is what a search ends with.
type finding struct {
	value credentials.Value
	err   error
}

// A search is of all who need credentials: it does not end with one of them, as a
// credential_process cannot be told to.
type search struct {
	ctx     context.Context // ended when it is over, or takes too long
	over    bool            // of keyring.mu
	finding finding         // once over
}

func newKeyring(opt Options, now func() time.Time) *keyring {
	k := &keyring{now: now}
	if opt.Anonymous || opt.AccessKey != "" {
		k.static = &credentials.Value{}
	}
	if !opt.Anonymous && opt.AccessKey != "" {
		*k.static = credentials.Value{AccessKeyID: opt.AccessKey, SecretAccessKey: opt.SecretKey, SessionToken: opt.Token}
	}
	return k
}

// get returns the credentials, empty for none.
func (k *keyring) get(ctx context.Context) (credentials.Value, error) {
	if k.static != nil {
		return *k.static, nil
	}
	s, f := k.have()
	if s == nil {
		return f.value, f.err
	}
	select {
	case <-s.ctx.Done():
	case <-ctx.Done():
		return credentials.Value{}, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !s.over {
		return credentials.Value{}, fmt.Errorf("%w: the search for credentials takes longer than %v; does credential_process hang?", gateway.ErrUnavailable, longest)
	}
	return s.finding.value, s.finding.err
}

// have returns what was found, while that holds; otherwise the search that is under way.
func (k *keyring) have() (*search, finding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if now.Sub(k.stat) >= pause {
		k.stat = now
		if k.files != stamps() {
			k.until = time.Time{}
		}
	}
	if now.Before(k.until) {
		return nil, k.found
	}
	if k.search == nil {
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		k.search = &search{ctx: ctx}
		go k.run(k.search, cancel, k.found.value.AccessKeyID != "")
	}
	return k.search, finding{}
}

// run makes a search. had says that there were credentials before.
func (k *keyring) run(s *search, cancel context.CancelFunc, had bool) {
	defer cancel()
	files := stamps()
	v, err := k.look(s.ctx, had)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.files, k.stat, k.looked = files, now, now
	switch {
	case err != nil:
		k.until = now.Add(pause)
	case v.AccessKeyID == "":
		k.until = now.Add(noneFor)
	case v.Expiration.IsZero():
		k.until = now.Add(forever)
	default: // early, so that none expires on its way
		k.until = now.Add(v.Expiration.Sub(now) * 4 / 5)
	}
	if err == nil || k.found.value.AccessKeyID == "" {
		k.found.value = v
	}
	k.found.err = err
	s.finding, s.over, k.search = finding{v, err}, true, nil
}

// forget is for credentials that the server does not take any more. It returns false
// if there are no others to be found.
func (k *keyring) forget() bool {
	if k.static != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.looked) >= pause {
		k.until = time.Time{}
	}
	return true
}

// A stamp tells whether a file changed; zero: there is none.
type stamp struct{ size, modified int64 }

// stamps are of the files that may have credentials.
func stamps() (all [2]stamp) {
	for i, f := range [...]struct{ env, usual string }{{"AWS_SHARED_CREDENTIALS_FILE", "credentials"}, {"AWS_CONFIG_FILE", "config"}} {
		name := os.Getenv(f.env)
		if home, err := os.UserHomeDir(); name == "" && err == nil {
			name = filepath.Join(home, ".aws", f.usual)
		}
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.Size(), info.ModTime().UnixNano()}
		}
	}
	return all
}

// look asks the usual places, nearest first. What somebody configured and does not
// work is an error; what is not there is not.
func (k *keyring) look(ctx context.Context, had bool) (credentials.Value, error) {
	client := &http.Client{Transport: &http.Transport{Proxy: proxy, DisableKeepAlives: true}}
	cc := &credentials.CredContext{Client: client, Context: ctx}
	for _, p := range []credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}} {
		if v, err := p.RetrieveWithCredContext(cc); err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			return v, nil
		}
	}
	profile := cmp.Or(os.Getenv("AWS_PROFILE"), "default")
	v, err := (&credentials.FileAWSCredentials{}).RetrieveWithCredContext(cc)
	missing := err != nil && (stamps() == [2]stamp{} || err.Error() == fmt.Sprintf("section %q does not exist", profile))
	switch { // errors are not wrapped: they may quote the file
	case err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "":
		return v, nil
	case missing && os.Getenv("AWS_PROFILE") != "":
		return credentials.Value{}, fmt.Errorf("the files of credentials have no AWS_PROFILE %q", profile)
	case err != nil && !missing:
		return credentials.Value{}, fmt.Errorf("%w: the files of credentials have nothing usable for profile %q; does its credential_process or SSO fail?", gateway.ErrUnavailable, profile)
	}
	return k.ofRole(ctx, client, had)
}

// ofRole asks for the credentials of the role that the container has, or the machine.
func (k *keyring) ofRole(ctx context.Context, client *http.Client, had bool) (credentials.Value, error) {
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
	case had:
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
