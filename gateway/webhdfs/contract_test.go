package webhdfs_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larderhq/larder/gateway/gatewaytest"
	"github.com/larderhq/larder/gateway/webhdfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o webhdfs.Options) *webhdfs.Source {
	t.Helper()
	s, err := webhdfs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	gatewaytest.Run(t, func(t *testing.T) *gatewaytest.Storage {
		c := newCluster(t)
		c.put("/secret", []byte("not in the root"), time.Time{})
		return &gatewaytest.Storage{
			Source: open(t, webhdfs.Options{URL: c.name.URL, Root: "/da ta/%/", User: "ann"}),
			Put: func(_ *testing.T, name string, octets []byte, at time.Time) {
				c.put("/da ta/%/"+name, octets, at)
			},
			Remove: func(_ *testing.T, name string) { c.remove("/da ta/%/" + name) },
			Down:   func(*testing.T) { c.setDown(true) },
			Up:     func(*testing.T) { c.setDown(false) },
			Odd:    []string{"odd/a:b"},
		}
	})
}
