package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/larderhq/larder/internal/purge"
)

// Purges is what can be purged, and was.
type Purges interface {
	// Purge takes an Order: see purge.Ledger.Publish.
	Purge(context.Context, purge.Order) (purge.Receipt, error)
	// Preview tells what an Order would find.
	Preview(context.Context, purge.Order) (purge.Preview, error)
	// Receipt, Receipts, Cancel and Undo are those of purge.Ledger.
	Receipt(purge.ID) (purge.Receipt, <-chan struct{}, error)
	Receipts() []purge.Receipt
	Cancel(purge.ID) (purge.Receipt, error)
	Undo(purge.ID) (purge.Receipt, error)
}

// maxWait is how long an answer may wait for a purge to change, in seconds.
const maxWait = 60

// A purgeRequest is what POST /v1/purge and /v1/preview take.
type purgeRequest struct {
	Selectors []purge.Selector `json:"selectors"`
	Mode      purge.Mode       `json:"mode"`
	Start     time.Time        `json:"start"`
	End       time.Time        `json:"end"`
}

// order reads an Order, or answers the request.
func (o *Options) order(w http.ResponseWriter, r *http.Request) (order purge.Order, ok bool) {
	if o.Purges == nil {
		fail(w, http.StatusNotFound, errNoCache)
		return order, false
	}
	body, ok := o.read(w, r)
	if !ok {
		return order, false
	}
	var in purgeRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if _, more := d.Token(); err == nil && more != io.EOF {
		err = errors.New("there is more behind it")
	}
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("this is no purge: %w", err))
		return order, false
	}
	return purge.Order{Selectors: in.Selectors, Mode: in.Mode, Start: in.Start, End: in.End, By: "admin"}, true
}

var errNoCache = errors.New("nothing is kept here that could be purged")

func (o *Options) purge(w http.ResponseWriter, r *http.Request) {
	if order, ok := o.order(w, r); ok {
		o.publish(w, r, order)
	}
}

func (o *Options) publish(w http.ResponseWriter, r *http.Request, order purge.Order) {
	// Also if the client goes away: it was asked for, and is half done.
	receipt, err := o.Purges.Purge(context.WithoutCancel(r.Context()), order)
	if err != nil {
		o.explain(w, err)
		return
	}
	w.Header().Set("Location", "/v1/purges/"+receipt.ID.String())
	answer(w, http.StatusCreated, "application/json", receipt)
}

// explain answers with what went wrong.
func (o *Options) explain(w http.ResponseWriter, err error) {
	var order *purge.OrderError
	var state *purge.StateError
	switch {
	case errors.As(err, &order):
		fail(w, http.StatusBadRequest, err)
	case errors.As(err, &state):
		fail(w, http.StatusConflict, err)
	case errors.Is(err, purge.ErrUnknown):
		fail(w, http.StatusNotFound, err)
	case errors.Is(err, purge.ErrFull):
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusTooManyRequests, err)
	default:
		fail(w, http.StatusInternalServerError, err)
	}
}

func (o *Options) preview(w http.ResponseWriter, r *http.Request) {
	order, ok := o.order(w, r)
	if !ok {
		return
	}
	p, err := o.Purges.Preview(r.Context(), order)
	if err != nil {
		o.explain(w, err)
		return
	}
	answer(w, http.StatusOK, "application/json", p)
}

func (o *Options) list(w http.ResponseWriter, _ *http.Request) {
	if o.Purges == nil {
		fail(w, http.StatusNotFound, errNoCache)
		return
	}
	answer(w, http.StatusOK, "application/json", map[string]any{"purges": o.Purges.Receipts()})
}

// named calls do with the purge that the path names.
func (o *Options) named(w http.ResponseWriter, r *http.Request, do func(purge.ID) (purge.Receipt, error)) {
	if o.Purges == nil {
		fail(w, http.StatusNotFound, errNoCache)
		return
	}
	id, err := purge.ParseID(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	receipt, err := do(id)
	if err != nil {
		o.explain(w, err)
		return
	}
	answer(w, http.StatusOK, "application/json", receipt)
}

// receipt tells what a purge has come to, with ?wait=SECONDS when it has come to an end,
// or after that time.
func (o *Options) receipt(w http.ResponseWriter, r *http.Request) {
	wait := 0
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = strconv.Atoi(text); err != nil || wait < 0 || wait > maxWait {
			fail(w, http.StatusBadRequest, fmt.Errorf("wait %q: give seconds, from 0 to %d", text, maxWait))
			return
		}
	}
	o.named(w, r, func(id purge.ID) (purge.Receipt, error) {
		over := time.NewTimer(time.Duration(wait) * time.Second)
		defer over.Stop()
		for {
			receipt, changed, err := o.Purges.Receipt(id)
			if err != nil || wait == 0 || receipt.State != purge.Scheduled && receipt.State != purge.InForce {
				return receipt, err
			}
			select {
			case <-changed:
			case <-over.C:
				wait = 0
			case <-r.Context().Done():
				wait = 0
			}
		}
	})
}

func (o *Options) cancel(w http.ResponseWriter, r *http.Request) {
	o.named(w, r, func(id purge.ID) (purge.Receipt, error) { return o.Purges.Cancel(id) })
}

func (o *Options) undo(w http.ResponseWriter, r *http.Request) {
	o.named(w, r, func(id purge.ID) (purge.Receipt, error) { return o.Purges.Undo(id) })
}

// repeat gives the Order of a purge once more: another purge, from now on.
func (o *Options) repeat(w http.ResponseWriter, r *http.Request) {
	o.named(w, r, func(id purge.ID) (purge.Receipt, error) {
		before, _, err := o.Purges.Receipt(id)
		if err != nil {
			return before, err
		}
		again := before.Order
		again.Start, again.End, again.By = time.Time{}, time.Time{}, "admin"
		return o.Purges.Purge(context.WithoutCancel(r.Context()), again)
	})
}
