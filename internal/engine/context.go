package engine

import (
	"context"
	"sync/atomic"
)

// A lease is the values of a client's context for a fetch that may outlive the
// client. Once the client's request is over they are not read any more: who put them
// there may use them for another by then, as routers do.
type lease struct {
	context.Context
	over *atomic.Bool
}

// Value implements context.Context.
func (l lease) Value(key any) any {
	if l.over.Load() {
		return nil
	}
	return l.Context.Value(key)
}

// A tied context has the values of one context and the end of another.
type tied struct {
	context.Context // which ends it
	values          context.Context
}

// Value implements context.Context. It also finds what package context looks for in
// the one that ends it.
func (t tied) Value(key any) any {
	if v := t.values.Value(key); v != nil {
		return v
	}
	return t.Context.Value(key)
}

// beyond is the context of a fetch that the client waits for, and that may go on
// without it.
func (x *exchange) beyond() context.Context {
	if !x.leases() {
		return x.lasting()
	}
	if x.over == nil {
		x.over = new(atomic.Bool)
	}
	return lease{x.lasting(), x.over}
}

// behind is the context of a fetch that no client waits for.
func (x *exchange) behind() context.Context {
	if x.leases() {
		return x.e.ctx
	}
	return x.lasting()
}

// lasting is the client's context without its end, and without who wants to know of
// failures: that is between the client and us.
func (x *exchange) lasting() context.Context {
	return unreported(context.WithoutCancel(x.r.Context()))
}

// leases tells whether the values are on lease. Where the operator has found something
// in the request that chooses the response, which may well be such a value, the origin
// has to find it, too, or it would answer for somebody else.
func (x *exchange) leases() bool { return x.e.Lease && x.req.Extra == "" }
