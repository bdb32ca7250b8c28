package rclone

import (
	"context"
	"crypto/sha256"
	"fmt"
	iofs "io/fs"
	"net/http"
	"strings"
	"unicode"

	"github.com/larderhq/larder/gateway"
	"github.com/rclone/rclone/fs"
)

// errSize is for what rclone makes only while it is read, like documents of Google's.
var errSize = fmt.Errorf("the remote does not tell its size, without which it cannot be served: %w", iofs.ErrPermission)

// kept are the fields that storage keeps, as rclone's metadata calls them.
var kept = []string{"content-type", "content-encoding", "content-language", "content-disposition", "cache-control"}

// info is what o tells of itself without another round trip.
func (s *Source) info(ctx context.Context, o fs.Object) (gateway.Info, error) {
	i := gateway.Info{Size: o.Size()}
	if i.Size < 0 {
		return gateway.Info{}, errSize
	}
	if t := o.ModTime(ctx); t.Unix() > 0 { // backends that know none say 1970
		i.Modified = t
	}
	var err error
	if i.Fields, err = s.fields(ctx, o); err != nil {
		return gateway.Info{}, err
	}
	version, certain := s.version(ctx, o, i)
	if version == "" {
		return i, nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %v", version, i.Fields)) // maps print in order
	i.Version, i.Certain = fmt.Sprintf("%x", sum[:16]), certain
	return i, nil
}

// version stands for the octets of o.
func (s *Source) version(ctx context.Context, o fs.Object, i gateway.Info) (version string, certain bool) {
	for _, t := range s.hashes {
		if sum, err := o.Hash(ctx, t); err == nil && sum != "" {
			return fmt.Sprintf("%v %s", t, sum), true
		}
	}
	precision := s.f.Precision()
	version, certain = gateway.ByTime(i.Size, i.Modified, s.now(), max(gateway.Grain, 2*precision))
	return version, certain && precision < fs.ModTimeNotSupported
}

// fields asks for metadata only where buckets are: there they come with the object.
func (s *Source) fields(ctx context.Context, o fs.Object) (http.Header, error) {
	fields := http.Header{}
	set := func(name, value string) {
		if value != "" && !strings.ContainsFunc(value, unicode.IsControl) {
			fields.Set(name, value)
		}
	}
	has := s.f.Features()
	if typed, ok := o.(fs.MimeTyper); ok && has.ReadMimeType {
		set("Content-Type", typed.MimeType(ctx))
	}
	if o, ok := o.(fs.Metadataer); ok && has.ReadMetadata && has.BucketBased {
		meta, err := o.Metadata(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range kept {
			set(name, meta[name])
		}
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return fields, nil
}
