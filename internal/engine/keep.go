package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/larderhq/larder/internal/message"
	"github.com/larderhq/larder/internal/purge"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/store"
)

// entries decodes what is stored under key.
func (e *Engine) entries(ctx context.Context, key []byte, p *Policy) []*kept {
	found, err := e.Store.Lookup(ctx, key, nil)
	if err != nil {
		return nil
	}
	out := make([]*kept, 0, len(found))
	for _, entry := range found {
		if k, _ := e.heads.decode(ctx, key, entry, e, p); k != nil {
			out = append(out, k)
		}
	}
	return out
}

// counted tells the Ledger that k, which was purged, is being replaced or refreshed.
func (e *Engine) counted(key []byte, k *kept) {
	if k.verdict(key, e) != purge.Clean {
		e.Ledger.Find(k.subject.Load()).Count(k.entry.Size)
	}
}

// head is what is kept of res beside its body.
func (p *Policy) head(res *rules.Stored) store.Head {
	return p.headOf(res, message.Encode(res))
}

// headOf is head with the octets made already.
func (p *Policy) headOf(res *rules.Stored, octets []byte) store.Head {
	h := store.Head{Octets: octets}
	if until, ends := res.Until(&p.Terms); ends {
		h.Until = max(until.Unix(), 1)
	}
	return h
}

// replaced are the entries whose place res takes: the one that was validated,
// and those of the same variant. Parts that res can be joined with stay.
func (e *Engine) replaced(ctx context.Context, j *job, res *rules.Stored) []store.ID {
	var ids []store.ID
	for _, k := range []*kept{j.validating, j.replacing} {
		if k != nil {
			ids = append(ids, k.entry.ID)
		}
	}
	for _, k := range e.entries(ctx, j.key, j.policy) {
		if !rules.SameVariant(k.Stored, res) {
			continue
		}
		if !res.Part.IsZero() && (k.Part.IsZero() || rules.Joinable(k.Stored, res)) {
			continue
		}
		e.counted(j.key, k)
		ids = append(ids, k.entry.ID)
	}
	return ids
}

// complete lands the whole of which j.prefix is stored and a brings the rest.
func (e *Engine) complete(ctx context.Context, j *job, a *arrival) (*landing, func()) {
	res, _ := j.joined(a, &j.policy.Terms)
	size := j.prefix.entry.Size + a.stored.Part.Size()
	l := &landing{status: a.StatusCode, why: "completed from the origin (RFC 9111 3.3)", res: res, from: j.from(), length: size}
	prefix, err := e.Store.Open(ctx, j.key, j.prefix.entry.ID, 0, -1)
	if err == nil {
		whole := &joinedBody{Reader: io.MultiReader(prefix, a.Body), kept: prefix, fetched: a.Body}
		if v := rules.Storable(&j.req, res, nil, &j.policy.Terms); !v.Store {
			l.why, l.origin = v.Why, whole
			e.supersede(ctx, j, res.Status)
			e.remember(j, false)
			return l, nil
		}
		var fill func()
		if fill, err = e.spool(ctx, j, l, res, whole, size); err == nil {
			return l, fill
		}
		l.origin = whole
		return l, nil
	}
	// The prefix has gone meanwhile.
	a.Body.Close()
	j.prefix = nil
	return e.fetch(ctx, j)
}

type joinedBody struct {
	io.Reader
	kept, fetched io.ReadCloser
}

func (b *joinedBody) Close() error { return errors.Join(b.kept.Close(), b.fetched.Close()) }

// joinParts makes one entry of the parts that lie side by side with res, which
// was just committed (RFC 9111 §3.4).
func (e *Engine) joinParts(ctx context.Context, j *job, res *rules.Stored) {
	entries := e.entries(ctx, j.key, j.policy)
	var newest *kept
	for _, k := range entries {
		if !k.Part.IsZero() && rules.SameVariant(k.Stored, res) {
			newest = k
			break
		}
	}
	if newest == nil {
		return
	}
	for _, k := range entries {
		if k == newest || k.Part.IsZero() || !rules.Joinable(k.Stored, newest.Stored) {
			continue
		}
		u, ok := rules.Union(k.Part, newest.Part)
		if !ok {
			continue
		}
		switch err := e.joinTwo(ctx, j, k, newest, u); {
		case errors.Is(err, errDiffer):
			// The tag has stood for two contents: none under it is to be trusted.
			for _, p := range entries {
				if !p.Part.IsZero() && rules.Joinable(p.Stored, newest.Stored) {
					_ = e.Store.Remove(ctx, j.key, p.entry.ID)
				}
			}
			return
		case err == nil:
			e.joinParts(ctx, j, res) // it may touch a third part now
			return
		}
	}
}

var errDiffer = errors.New("engine: parts under one validator differ")

// joinTwo stores the union of two parts in their place. errDiffer: they
// overlap, and not with the same octets.
func (e *Engine) joinTwo(ctx context.Context, j *job, older, newer *kept, u rules.Part) error {
	a, b := older, newer
	if b.Part.First < a.Part.First {
		a, b = b, a
	}
	first, err := e.Store.Open(ctx, j.key, a.entry.ID, 0, -1)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := e.Store.Open(ctx, j.key, b.entry.ID, 0, -1)
	if err != nil {
		return err
	}
	defer second.Close()
	joined, ok := e.judged(j.key, rules.Join(older.Stored, newer.Stored, u, &j.policy.Terms), older.Stored, newer.Stored)
	if !ok {
		return store.ErrGone
	}
	w, err := e.Store.Create(ctx, j.key, j.policy.head(joined), u.Last-u.First+1)
	if err != nil {
		return err
	}
	if err := splice(w, first, second, b.Part.First-a.Part.First, a.Part.Size(), b.Part.Size()); err != nil {
		w.Abort(err)
		return err
	}
	err = store.ErrGone
	e.commit(j, func() {
		var entry store.Entry
		if entry, err = w.Commit(ctx, a.entry.ID, b.entry.ID); err == nil {
			e.stored(j, entry.ID, joined, older.Stored, newer.Stored)
		}
	})
	if err != nil {
		w.Abort(err)
	}
	return err
}

// splice writes the union of first, which has n octets, and second, which has m
// and begins at start of first. Where both have octets they must be the same.
func splice(w io.Writer, first, second io.Reader, start, n, m int64) error {
	if _, err := io.CopyN(w, first, start); err != nil {
		return err
	}
	overlap := min(n-start, m)
	var p, q [4 << 10]byte
	for overlap > 0 {
		size := min(overlap, int64(len(p)))
		if _, err := io.ReadFull(first, p[:size]); err != nil {
			return err
		}
		if _, err := io.ReadFull(second, q[:size]); err != nil {
			return err
		}
		if !bytes.Equal(p[:size], q[:size]) {
			return errDiffer
		}
		if _, err := w.Write(p[:size]); err != nil {
			return err
		}
		overlap -= size
	}
	if _, err := copyBuffered(w, first); err != nil {
		return err
	}
	_, err := copyBuffered(w, second)
	return err
}

// afterHead lets a response to HEAD update, or put in doubt, the stored GET
// (RFC 9111 §4.3.5).
func (e *Engine) afterHead(ctx context.Context, j *job, a *arrival) {
	for _, k := range e.entries(ctx, j.key, j.policy) {
		if !k.Matches(&j.req, &j.policy.Terms) {
			continue
		}
		effect, updated := rules.AfterHead(k.Stored, k.entry.Size, &j.req, a.stored, declaredLength(a), &j.policy.Terms)
		if effect == rules.HeadUpdates && e.purged(j.key, a.stored, k.Stored) {
			continue // k may have been asked for since
		}
		if effect != rules.HeadNothing {
			e.commit(j, func() { e.amend(ctx, j, k, rules.Kept(updated, &j.policy.Terms)) })
		}
	}
}

// amend gives k another head, with the body that it has. It is called in a commit.
func (e *Engine) amend(ctx context.Context, j *job, k *kept, res *rules.Stored) {
	if e.Store.Amend(ctx, j.key, k.entry.ID, j.policy.head(res)) == nil {
		e.stored(j, k.entry.ID, res, k.Stored)
	}
}

// declaredLength is the Content-Length of a response to HEAD, which has no
// content to measure.
func declaredLength(a *arrival) int64 {
	if len(a.Header["Content-Length"]) == 0 {
		return -1
	}
	return a.ContentLength
}

// reason words an error of the store for a client.
func reason(err error) string {
	if errors.Is(err, store.ErrFull) {
		return "larger than the store keeps"
	}
	return "the store failed"
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// copyBuffered is io.Copy without its shortcuts, and with a pooled buffer.
func copyBuffered(dst io.Writer, src io.Reader) (n int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *buf)
}
