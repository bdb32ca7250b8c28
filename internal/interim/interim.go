// Package interim carries interim responses (1xx, RFC 9110 §15.2) past a
// RoundTripper, which by its signature can return only the final one.
//
// Whoever sends the request puts a Func into its context; origin and local
// call it. It is a package of its own so that neither the engine nor the
// origins need to import each other.
package interim

import (
	"context"
	"net/http"
)

// Max is how many interim responses one exchange may carry, 100 (Continue)
// included. One more fails the exchange: an endless stream of them must not
// hold a request for ever.
const Max = 100

// A Func receives one interim response other than 100 (Continue) and 101
// (Switching Protocols): RFC 9110 §15.2.1 and §15.2.2 end at each hop.
//
// The calls of one exchange come one at a time, in the order of arrival, from
// any goroutine, and never after RoundTrip has returned. The header is the
// Func's to keep and may be empty, never nil. An error ends the exchange, and
// RoundTrip returns it.
type Func func(status int, header http.Header) error

type key struct{}

// With returns a context whose exchange reports interim responses to fn. A
// nil fn hides one that ctx already carries.
func With(ctx context.Context, fn Func) context.Context {
	return context.WithValue(ctx, key{}, fn)
}

// From returns the Func that ctx carries, or nil: interim responses are then
// dropped, yet counted.
func From(ctx context.Context) Func {
	fn, _ := ctx.Value(key{}).(Func)
	return fn
}
