package purge

// A Preview is what an Order would find, if it was given now.
type Preview struct {
	// Objects, of so many Bytes, are kept and would be purged; each variant is one. URLs
	// are the ones they are for.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	URLs    int64 `json:"urls"`

	// Requests of those that came lately, of which a sample is remembered, and the Share
	// of them that was for these URLs, from 0 to 1. Seconds is how long ago the sample began.
	Requests int64   `json:"requests"`
	Share    float64 `json:"share"`
	Seconds  int64   `json:"seconds"`

	// OriginRequests is how many there will be at most: one for each object that is asked
	// for again. Soon are those for what the sample has.
	OriginRequests int64 `json:"origin_requests"`
	Soon           int64 `json:"soon"`

	// Examples are a few of the URLs.
	Examples []string `json:"examples"`
}

// A Query is Selectors on their own, not in force.
type Query struct{ parts []compiled }

// Query makes a Query of o. *OrderError: there is something wrong with it.
func (l *Ledger) Query(o Order) (*Query, error) {
	parts, err := l.compileAll(&o)
	if err != nil {
		return nil, err
	}
	return &Query{parts}, nil
}

// Names tells whether q is about s, and nobody else has purged it already.
func (q *Query) Names(s *Subject) bool {
	if s.Verdict() == Gone {
		return false
	}
	for i := range q.parts {
		if q.parts[i].names(s) {
			return true
		}
	}
	return false
}
