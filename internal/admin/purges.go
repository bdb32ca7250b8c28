package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	Start     moment           `json:"start"`
	End       moment           `json:"end"`
}

// A moment is a time as RFC 3339 has it.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(text []byte) error {
	if m.Time.UnmarshalJSON(text) != nil {
		return fmt.Errorf(`%s is no time: write it as "2026-12-24T18:00:00Z"`, text)
	}
	return nil
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
		fail(w, http.StatusBadRequest, fmt.Errorf("this is no purge: %w", inWords(err)))
		return order, false
	}
	return purge.Order{Selectors: in.Selectors, Mode: in.Mode, Start: in.Start.Time, End: in.End.Time, By: "admin"}, true
}

// inWords is what is wrong with JSON, for those who do not know our types.
func inWords(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%s cannot be: %s", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("it is: %s; write an object with selectors", kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it breaks off")
	}
	return err
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
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w) // one after the other: all at once may be more than there is memory for
	e.SetEscapeHTML(false)
	err := write(w, `{"purges":[`)
	for i, r := range o.Purges.Receipts() {
		if i > 0 && err == nil {
			err = write(w, ",")
		}
		if err == nil {
			err = e.Encode(r)
		}
	}
	if err == nil {
		_ = write(w, "]}\n") // the client has gone
	}
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// named is the purge that the path names, or the request is answered.
func (o *Options) named(w http.ResponseWriter, r *http.Request) (id purge.ID, ok bool) {
	if o.Purges == nil {
		fail(w, http.StatusNotFound, errNoCache)
		return 0, false
	}
	if len(r.Header["Content-Type"]) > 0 && !typed(w, r) {
		return 0, false
	}
	id, err := purge.ParseID(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
	}
	return id, err == nil
}

// tell answers with what a purge has come to, or with what went wrong.
func (o *Options) tell(w http.ResponseWriter, receipt purge.Receipt, err error) {
	if err != nil {
		o.explain(w, err)
		return
	}
	answer(w, http.StatusOK, "application/json", receipt)
}

// seconds are those of ?wait=SECONDS, the only query there is.
func seconds(r *http.Request) (int, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	for name := range q {
		if name != "wait" || len(q[name]) > 1 {
			err = fmt.Errorf("%q: give wait, once, and nothing else behind the question mark", name)
		}
	}
	if err != nil || len(q) == 0 {
		return 0, err
	}
	wait, err := strconv.Atoi(q.Get("wait"))
	if err != nil || wait < 0 || wait > maxWait {
		return 0, fmt.Errorf("wait %q: give seconds, from 0 to %d", q.Get("wait"), maxWait)
	}
	return wait, nil
}

// receipt tells what a purge has come to, with ?wait=SECONDS when it has come to an end,
// or after that time.
func (o *Options) receipt(w http.ResponseWriter, r *http.Request) {
	id, ok := o.named(w, r)
	if !ok {
		return
	}
	wait, err := seconds(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	over := time.NewTimer(time.Duration(wait) * time.Second)
	defer over.Stop()
	for {
		receipt, changed, err := o.Purges.Receipt(id)
		if err != nil || wait == 0 || receipt.State != purge.Scheduled && receipt.State != purge.InForce {
			o.tell(w, receipt, err)
			return
		}
		select {
		case <-changed:
		case <-over.C:
			wait = 0
		case <-r.Context().Done():
			wait = 0
		}
	}
}

func (o *Options) cancel(w http.ResponseWriter, r *http.Request) {
	if id, ok := o.named(w, r); ok {
		receipt, err := o.Purges.Cancel(id)
		o.tell(w, receipt, err)
	}
}

func (o *Options) undo(w http.ResponseWriter, r *http.Request) {
	if id, ok := o.named(w, r); ok {
		receipt, err := o.Purges.Undo(id)
		o.tell(w, receipt, err)
	}
}

// repeat gives the Order of a purge once more: another purge, from now on.
func (o *Options) repeat(w http.ResponseWriter, r *http.Request) {
	id, ok := o.named(w, r)
	if !ok {
		return
	}
	before, _, err := o.Purges.Receipt(id)
	if err != nil {
		o.explain(w, err)
		return
	}
	again := before.Order.Again()
	again.By = "admin"
	o.publish(w, r, again)
}
