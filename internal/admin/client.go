package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/larderhq/larder/internal/purge"
)

// A Client asks the API of another process. Any number of goroutines may use it.
type Client struct {
	where string
	base  string
	token string
	http  http.Client
}

// NewClient makes a Client of the API that listens there: the path of a socket, with a
// slash in it, or host:port, which takes the token, or https://host:port, which takes it under
// trust. Nil trust is that of the system. Valid tells whether they can be.
func NewClient(where, token string, trust *tls.Config) *Client {
	at, encrypted := strings.CutPrefix(where, secure)
	c := &Client{where: where, token: token}
	if host, port, err := net.SplitHostPort(at); err == nil && unnamed(host) {
		at = net.JoinHostPort("localhost", port)
	}
	c.base = "http://" + at
	if encrypted {
		c.base = secure + at
	}
	t := &http.Transport{MaxIdleConns: 4, IdleConnTimeout: time.Minute, Proxy: nil, TLSClientConfig: trust}
	if !encrypted && isSocket(where) {
		c.base, c.token = "http://localhost", "" // whoever has put a socket there need not learn it
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", where)
		}
	}
	c.http.Transport = t
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token is for this one
	return c
}

// unnamed tells whether a host is all addresses of the machine, as servers are told.
func unnamed(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// maxAnswer is how long an answer may be, in octets: that of a list of a thousand purges of a
// thousand URLs each.
const maxAnswer = 1 << 30

// An Unreachable says that nobody answers.
type Unreachable struct {
	Where string // as NewClient was told
	Err   error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("no Larder answers at %s: %v", e.Where, e.Err)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// ask sends in, where it is not nil, and reads out. A *Refusal is what the other says, and
// an *Unreachable that there is no other; the error is that of ctx if it has ended.
func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // the rest is where, and how we ask
		} else if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return cmp.Or(ctx.Err(), error(&Unreachable{c.where, err}))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return cmp.Or(ctx.Err(), fmt.Errorf("%s: %w", c.where, err))
	}
	if res.StatusCode/100 != 2 {
		p := Problem{Status: res.StatusCode}
		if json.Unmarshal(text, &p) != nil || p.Detail == "" {
			p.Detail = res.Status
		}
		return &Refusal{p}
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s answers what is no answer of the admin API: %w", c.where, err)
	}
	return nil
}

// A Refusal is an answer that is no success.
type Refusal struct{ Problem }

func (r *Refusal) Error() string { return r.Detail }

// Purge gives an Order.
func (c *Client) Purge(ctx context.Context, o purge.Order) (r purge.Receipt, err error) {
	return r, c.ask(ctx, http.MethodPost, "/v1/purge", request(o), &r)
}

// Preview asks what an Order would find.
func (c *Client) Preview(ctx context.Context, o purge.Order) (p purge.Preview, err error) {
	return p, c.ask(ctx, http.MethodPost, "/v1/preview", request(o), &p)
}

func request(o purge.Order) map[string]any {
	in := map[string]any{"selectors": o.Selectors, "mode": o.Mode}
	if !o.Start.IsZero() {
		in["start"] = o.Start
	}
	if !o.End.IsZero() {
		in["end"] = o.End
	}
	return in
}

// Receipts lists the purges, the last one first.
func (c *Client) Receipts(ctx context.Context) ([]purge.Receipt, error) {
	var out struct{ Purges []purge.Receipt }
	err := c.ask(ctx, http.MethodGet, "/v1/purges", nil, &out)
	return out.Purges, err
}

// Receipt asks what a purge has come to; if it has not come to an end, the answer may take
// so many seconds.
func (c *Client) Receipt(ctx context.Context, id purge.ID, wait int) (r purge.Receipt, err error) {
	return r, c.ask(ctx, http.MethodGet, fmt.Sprintf("/v1/purges/%s?wait=%d", id, wait), nil, &r)
}

// Cancel ends a purge.
func (c *Client) Cancel(ctx context.Context, id purge.ID) (r purge.Receipt, err error) {
	return r, c.ask(ctx, http.MethodDelete, "/v1/purges/"+id.String(), nil, &r)
}

// Undo takes a soft purge back.
func (c *Client) Undo(ctx context.Context, id purge.ID) (r purge.Receipt, err error) {
	return r, c.ask(ctx, http.MethodPost, "/v1/purges/"+id.String()+"/undo", nil, &r)
}

// Repeat gives the Order of a purge once more.
func (c *Client) Repeat(ctx context.Context, id purge.ID) (r purge.Receipt, err error) {
	return r, c.ask(ctx, http.MethodPost, "/v1/purges/"+id.String()+"/repeat", nil, &r)
}
