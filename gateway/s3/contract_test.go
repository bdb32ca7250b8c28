package s3

import (
	"testing"
	"time"

	"github.com/larderhq/larder/gateway/gatewaytest"
)

func TestContract(t *testing.T) {
	for name, prefix := range map[string]string{"Bucket": "", "Prefix": "a/ b+%2f"} {
		t.Run(name, func(t *testing.T) {
			gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
				s := serve(t)
				under := ""
				if prefix != "" {
					under = prefix + "/"
					s.put(t, "secret", []byte("outside of the root"), time.Time{})
					s.put(t, prefix+"secret", []byte("outside of the root"), time.Time{})
				}
				return &gatewaytest.Storage{
					Source: s.open(t, func(o *Options) { o.Prefix = prefix }),
					Put:    func(t *testing.T, name string, octets []byte, at time.Time) { s.put(t, under+name, octets, at) },
					Remove: func(t *testing.T, name string) { s.remove(t, under+name) },
					Down:   func(*testing.T) { s.down.Store(true) },
					Up:     func(*testing.T) { s.down.Store(false) },
				}
			})
		})
	}
}
