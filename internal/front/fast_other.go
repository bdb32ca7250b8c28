//go:build !linux

package front

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// fast is nothing: all is answered by net/http.
type fast struct{}

// A loan is what there is none of.
type loan struct{}

func (*loan) wait(*conn) error     { panic("front: nothing is lent on this system") }
func (*loan) callBack()            {}
func (*loan) tunnel()              { panic("front: nothing is lent on this system") }
func (*loan) giveBack(*conn) error { panic("front: nothing is lent on this system") }

func (s *Server) welcome(int, netip.AddrPort, net.Addr)    {}
func (s *Server) welcomeTLS(int, netip.AddrPort, net.Addr) {}
func (s *Server) serveFast(net.Listener, func(int, netip.AddrPort, net.Addr)) (bool, error) {
	return false, nil
}
func (s *Server) isDraining() bool                { return false }
func (s *Server) drainFast(context.Context) error { return nil }
func (s *Server) endFast(<-chan time.Time)        {}
func (s *Server) callLoops()                      {}
func (s *fast) init(int)                          {}
