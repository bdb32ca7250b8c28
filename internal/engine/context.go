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

// beyond is the context of a fetch that the client waits for, and that may go on
// without it.
func (x *exchange) beyond() context.Context {
	ctx := context.WithoutCancel(x.r.Context())
	if !x.e.Lease {
		return ctx
	}
	if x.over == nil {
		x.over = new(atomic.Bool)
	}
	return lease{ctx, x.over}
}

// behind is the context of a fetch that no client waits for.
func (x *exchange) behind() context.Context {
	if x.e.Lease {
		return x.e.ctx
	}
	return context.WithoutCancel(x.r.Context())
}
