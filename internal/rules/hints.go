package rules

// EarlyHints tells whether links of stored, for which d has the origin asked, may
// be sent to who sent req before there is an answer (RFC 8297 §2). What the origin
// wants to be asked for each time (no-cache), or with credentials, is not hinted at
// either.
func EarlyHints(req *Request, stored *Stored, d *Decision, terms *Terms) bool {
	return terms.EarlyHints && d.Forward == Stale && req.Method == "GET" && !req.Ranged() && !req.Authorized() &&
		stored.Status == 200 && stored.Part.IsZero() && !stored.Policy.NoCache
}
