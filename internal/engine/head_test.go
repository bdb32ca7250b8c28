package engine_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larderhq/larder/internal/engine"
	"github.com/larderhq/larder/internal/rules"
	"github.com/larderhq/larder/internal/sim"
)

// headed is an answer to HEAD that declares a length, or none if it is negative.
func headed(length int64, header ...string) sim.Reply {
	r := sim.Reply{Header: header}
	if length >= 0 {
		r.Header, r.Length = append([]string{"Content-Length: " + strconv.FormatInt(length, 10)}, header...), length
	}
	return r
}

// afterHead stores stored, lets it go stale, sends HEAD and looks at the entry
// with check. The origin answers 304 to whoever asks later.
func afterHead(t *testing.T, terms rules.Terms, stored, answer sim.Reply, check func(w *sim.World)) {
	t.Helper()
	sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
		w.Origin(stored, answer, sim.Reply{Status: 304})
		w.Get("/a").Want(max(stored.Status, 200), stored.Body)
		w.Advance(time.Hour)
		a := w.Do("HEAD", "/a", "")
		if got, want := a.Status, max(answer.Status, 200); got != want || a.Body() != "" {
			t.Fatalf("HEAD: status %d, body %q; want %d", got, a.Body(), want)
		}
		w.WantCount(2)
		if r := w.Last(); r.Method != "HEAD" || r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
			t.Errorf("the origin saw %s with %v", r.Method, r.Header)
		}
		check(w)
	})
}

// updated and outdated are what an entry may be after a HEAD.
func updated(t *testing.T, body string) func(*sim.World) {
	return func(w *sim.World) {
		t.Helper()
		w.Get("/a").Want(200, body).WantHit().WantField("Content-Length", strconv.Itoa(len(body))).WantField("Age", "0")
		w.WantCount(2)
	}
}

func outdated(t *testing.T, status int, body string) func(*sim.World) {
	return func(w *sim.World) {
		t.Helper()
		w.Get("/a").Want(status, body).WantMiss("stale")
		w.WantCount(3)
	}
}

func TestHED01_WithoutAUsableEntryHEADIsForwarded(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(headed(4, "Cache-Control: max-age=60", `ETag: "1"`))
		for n := range 2 {
			w.Do("HEAD", "/a", "").Want(200, "").WantField("Content-Length", "4").WantMiss("uri-miss")
			w.WantCount(n + 1)
			if m := w.Last().Method; m != "HEAD" {
				t.Errorf("forwarded as %s", m)
			}
		}
		// It has left nothing that a GET could be answered with.
		w.Origin(minute)
		w.Get("/a").Want(200, "page").WantMiss("uri-miss")
	})
	for name, stored := range map[string]sim.Reply{
		"another variant": {Header: []string{"Cache-Control: max-age=60", "Vary: Cookie"}, Body: "page"},
		"stale":           {Header: []string{"Cache-Control: max-age=0", `ETag: "1"`}, Body: "page"},
		"no-cache":        {Header: []string{"Cache-Control: max-age=60, no-cache", `ETag: "1"`}, Body: "page"},
		"a part":          part(0, 3, `ETag: "1"`),
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(stored, headed(9))
				w.Get("/a", "Cookie: a", "Range: bytes=0-3")
				w.Settle()
				w.Do("HEAD", "/a", "").Want(200, "").WantField("Content-Length", "9")
				w.WantCount(2)
				if m := w.Last().Method; m != "HEAD" {
					t.Errorf("forwarded as %s", m)
				}
			})
		})
	}
}

func TestHED01_FreshGETAnswersHEAD(t *testing.T) {
	sim.Run(t, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a")
		w.Advance(7 * time.Second)
		w.Do("HEAD", "/a", "").Want(200, "").WantHit().WantField("Content-Length", "4").WantField("ETag", `"1"`).WantField("Age", "7")
		w.WantCount(1)
	})
}

func TestHED02_AgreementUpdates(t *testing.T) {
	tagged := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified, "X-Old: old", "X-Both: old"}, Body: "page"}
	for name, answer := range map[string]sim.Reply{
		"all":              headed(4, "Cache-Control: max-age=60", `ETag: "1"`, modified),
		"tag":              headed(-1, "Cache-Control: max-age=60", `ETag: "1"`),
		"date":             headed(-1, "Cache-Control: max-age=60", modified),
		"length":           headed(4, "Cache-Control: max-age=60"),
		"nothing to speak": headed(-1, "Cache-Control: max-age=60"), // HED-06 at rfc
	} {
		t.Run(name, func(t *testing.T) { afterHead(t, rules.Terms{}, tagged, answer, updated(t, "page")) })
	}
	plain := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page"}
	t.Run("no validators", func(t *testing.T) {
		afterHead(t, rules.Terms{}, plain, headed(4, "Cache-Control: max-age=60"), updated(t, "page"))
	})
	t.Run("fields", func(t *testing.T) {
		answer := headed(-1, "Cache-Control: max-age=90", `ETag: "1"`, "X-Both: new", "X-New: new", "Content-Encoding: gzip", "Content-Range: bytes 0-1/2")
		afterHead(t, rules.Terms{}, tagged, answer, func(w *sim.World) {
			w.Advance(80 * time.Second)
			w.Get("/a").Want(200, "page").WantHit().WantField("Age", "80").WantField("Cache-Control", "max-age=90").WantField("Date", sim.Date(-80*time.Second)).
				WantField("X-Old", "old").WantField("X-Both", "new").WantField("X-New", "new").WantField("Content-Encoding").WantField("Content-Range").
				WantField("Content-Length", "4").WantField("ETag", `"1"`)
			w.WantCount(2)
		})
	})
}

func TestHED03_DisagreementMakesStale(t *testing.T) {
	tagged := sim.Reply{Header: []string{"Cache-Control: max-age=7200", `ETag: "1"`, modified}, Body: "page"}
	reload := rules.Terms{Requests: rules.HonorRequests}
	for name, answer := range map[string]sim.Reply{
		"tag":                     headed(-1, "Cache-Control: max-age=60", `ETag: "2"`),
		"weak tag":                headed(-1, "Cache-Control: max-age=60", `ETag: W/"2"`),
		"date":                    headed(-1, "Cache-Control: max-age=60", "Last-Modified: Tue, 15 Nov 1994 12:45:27 GMT"),
		"tag agrees, date not":    headed(-1, "Cache-Control: max-age=60", `ETag: "1"`, "Last-Modified: Tue, 15 Nov 1994 12:45:27 GMT"),
		"date agrees, tag not":    headed(-1, "Cache-Control: max-age=60", `ETag: "2"`, modified),
		"length":                  headed(5, "Cache-Control: max-age=60", `ETag: "1"`, modified),
		"length of nothing":       headed(0, "Cache-Control: max-age=60", `ETag: "1"`, modified),
		"a tag that is malformed": headed(-1, "Cache-Control: max-age=60", "ETag: 1"),
	} {
		for mode, terms := range map[string]rules.Terms{"rfc": {Requests: rules.HonorRequests}, "validators": {Requests: rules.HonorRequests, HeadFreshening: rules.HeadValidators}} {
			t.Run(name+" "+mode, func(t *testing.T) {
				sim.RunWith(t, func(c *engine.Config) { c.Terms = terms }, func(w *sim.World) {
					w.Origin(tagged, answer, sim.Reply{Status: 304})
					w.Get("/a")
					w.Settle()
					w.Do("HEAD", "/a", "", "Cache-Control: no-cache") // it is fresh
					w.WantCount(2)
					outdated(t, 200, "page")(w)
					w.Get("/a").Want(200, "page").WantHit() // the validation has ended the doubt
				})
			})
		}
	}
	// Nor does a dead origin make it good again.
	sim.RunWith(t, func(c *engine.Config) { c.Terms = reload }, func(w *sim.World) {
		w.Origin(tagged, headed(-1, `ETag: "2"`), sim.Reply{Err: io.ErrUnexpectedEOF})
		w.Get("/a")
		w.Settle()
		w.Do("HEAD", "/a", "", "Cache-Control: no-cache")
		if a := w.Get("/a"); a.Status != 504 || strings.Contains(a.Body(), "page") {
			t.Errorf("status %d, body %q", a.Status, a.Body())
		}
	})
}

// A GET that had been answered with something else than 200 does not agree with
// a 200.
func TestHED03_200AgainstAStoredError(t *testing.T) {
	for _, status := range []int{301, 404, 410} {
		sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
			w.Origin(sim.Reply{Status: status, Header: []string{"Cache-Control: max-age=7200"}, Body: "other"}, headed(-1, "Cache-Control: max-age=60"), minute)
			w.Get("/a").Want(status, "other")
			w.Settle()
			w.Do("HEAD", "/a", "", "Cache-Control: no-cache")
			w.Get("/a").Want(200, "page").WantMiss("stale")
		})
	}
}

// A HEAD tells of parts what it tells of the whole: they are stale if their
// validators or the length are not those of today.
func TestHED03_PartsBecomeStaleToo(t *testing.T) {
	for name, c := range map[string]struct {
		answer sim.Reply
		stale  bool
	}{
		"agrees":  {headed(10, `ETag: "1"`), false},
		"tag":     {headed(-1, `ETag: "2"`), true},
		"length":  {headed(11, `ETag: "1"`), true},
		"gone":    {sim.Reply{Status: 410}, true},
		"missing": {sim.Reply{Status: 404}, true},
		"busy":    {sim.Reply{Status: 503}, false},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(part(0, 3, `ETag: "1"`), c.answer, sim.Reply{Status: 304, Header: []string{`ETag: "1"`}})
				fetched(w, "0-3")
				w.Do("HEAD", "/a", "")
				a := fetched(w, "1-2")
				wantPart(t, a, "12", 1, 2, "10")
				if a.Hit() == c.stale {
					t.Errorf("Cache-Status %q", a.CacheStatus())
				}
			})
		})
	}
}

func TestHED04_OtherStatusesUpdateNothing(t *testing.T) {
	fields := []string{"Cache-Control: max-age=60", `ETag: "1"`, "X-New: new"}
	for _, status := range []int{201, 203, 204, 206, 301, 302, 304, 400, 401, 403, 405, 404, 410, 429, 451, 501} {
		stored := sim.Reply{Header: []string{"Cache-Control: max-age=7200", `ETag: "1"`}, Body: "page"}
		sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
			w.Origin(stored, sim.Reply{Status: status, Header: fields}, sim.Reply{Status: 304})
			w.Get("/a")
			w.Advance(time.Minute)
			// A Range, so that a 206 would be an answer.
			w.Do("HEAD", "/a", "", "Cache-Control: no-cache", `If-None-Match: "1"`, "Range: bytes=0-1").Want(status, "").WantField("X-New", "new")
			w.WantCount(2)
			a := w.Get("/a").Want(200, "page").WantField("X-New")
			if a.Hit() == (status == 404 || status == 410) {
				t.Errorf("after %d: %q", status, a.CacheStatus())
			}
		})
	}
	// Nor is an entry of the same status updated.
	stored := sim.Reply{Status: 404, Header: []string{"Cache-Control: max-age=60", `ETag: "1"`}, Body: "none"}
	afterHead(t, rules.Terms{}, stored, sim.Reply{Status: 404, Header: fields}, func(w *sim.World) {
		w.Origin(sim.Reply{Status: 304})
		w.Get("/a").Want(404, "none").WantMiss("stale").WantField("X-New")
	})
}

func TestHED04_GoneEndsFreshnessUntilValidated(t *testing.T) {
	for _, status := range []int{404, 410} {
		stored := sim.Reply{Header: []string{"Cache-Control: max-age=7200"}, Body: "page"} // no validator
		sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
			w.Origin(stored, sim.Reply{Status: status}, sim.Reply{Status: status, Body: "none"})
			w.Get("/a")
			w.Settle()
			w.Do("HEAD", "/a", "", "Cache-Control: no-cache").Want(status, "")
			w.Get("/a").Want(status, "none").WantMiss("stale")
		})
	}
}

func TestHED05_HEADGetsWhatTheOriginAnswered(t *testing.T) {
	stored := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, "X-Stored: yes", "Content-Type: text/plain", "Expires: Sat, 01 Jan 2000 00:01:00 GMT"}, Body: "page"}
	for name, answer := range map[string]sim.Reply{
		"agrees":    headed(4, `ETag: "1"`),
		"disagrees": headed(7, `ETag: "2"`),
		"no length": headed(-1, `ETag: "1"`),
		"bare":      headed(-1),
		"not found": {Status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(stored, answer)
				w.Get("/a")
				w.Advance(time.Hour)
				a := w.Do("HEAD", "/a", "")
				for name, lines := range a.Header {
					switch name {
					case "Date", "Cache-Status", "Content-Type": // ours; that of HEAD itself
						if name == "Content-Type" && len(lines) > 0 {
							t.Errorf("Content-Type %q", lines)
						}
						continue
					}
					found := false
					for _, line := range answer.Header {
						found = found || strings.EqualFold(line, name+": "+strings.Join(lines, ""))
					}
					if !found {
						t.Errorf("%s: %q was not in the origin's answer", name, lines)
					}
				}
				for _, line := range answer.Header {
					field, value, _ := strings.Cut(line, ": ")
					a.WantField(field, value)
				}
			})
		})
	}
}

func TestHED06_ValidatorsMode(t *testing.T) {
	tagged := sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "1"`, modified}, Body: "page"}
	plain := sim.Reply{Header: []string{"Cache-Control: max-age=60"}, Body: "page"}
	for name, c := range map[string]struct {
		mode           rules.HeadMode
		stored, answer sim.Reply
		updates        bool
	}{
		"rfc, length only":           {rules.HeadRFC, tagged, headed(4, "Cache-Control: max-age=60"), true},
		"rfc, no validators at all":  {rules.HeadRFC, plain, headed(4, "Cache-Control: max-age=60"), true},
		"validators, length only":    {rules.HeadValidators, tagged, headed(4, "Cache-Control: max-age=60"), false},
		"validators, tag":            {rules.HeadValidators, tagged, headed(-1, "Cache-Control: max-age=60", `ETag: "1"`), true},
		"validators, date":           {rules.HeadValidators, tagged, headed(4, "Cache-Control: max-age=60", modified), true},
		"validators, tag and length": {rules.HeadValidators, tagged, headed(9, "Cache-Control: max-age=60", `ETag: "1"`), false},
		"off, all agree":             {rules.HeadNever, tagged, headed(4, "Cache-Control: max-age=60", `ETag: "1"`, modified), false},
	} {
		t.Run(name, func(t *testing.T) {
			afterHead(t, rules.Terms{HeadFreshening: c.mode}, c.stored, c.answer, func(w *sim.World) {
				if c.updates {
					updated(t, "page")(w)
				} else {
					outdated(t, 200, "page")(w)
				}
			})
		})
	}
	// A date that is no date is no agreement.
	for _, bad := range []string{"Last-Modified: unknown", "ETag: unknown"} {
		stored := sim.Reply{Header: []string{"Cache-Control: max-age=60", bad}, Body: "page"}
		sim.RunWith(t, func(c *engine.Config) { c.Terms.HeadFreshening = rules.HeadValidators }, func(w *sim.World) {
			w.Origin(stored, headed(4, "Cache-Control: max-age=60", bad), minute)
			w.Get("/a")
			w.Advance(time.Hour)
			w.Do("HEAD", "/a", "")
			w.Get("/a").Want(200, "page").WantMiss("stale")
		})
	}
}

// A HEAD that was under way when the entry was invalidated must not bring it
// back, nor speak of the one that came after.
func TestHED02_HEADUnderWayWhileInvalidated(t *testing.T) {
	sim.RunWith(t, func(c *engine.Config) { c.Terms.Requests = rules.HonorRequests }, func(w *sim.World) {
		w.Origin(minute)
		w.Get("/a")
		slow := headed(4, "Cache-Control: max-age=60", `ETag: "1"`)
		slow.Delay = time.Second
		w.Origin(slow, sim.Reply{Status: 204}, sim.Reply{Header: []string{"Cache-Control: max-age=60", `ETag: "2"`}, Body: "new page"})
		head := w.Start("HEAD", "/a", "", "Cache-Control: no-cache")
		w.Settle()
		w.Do("POST", "/a", "x").Want(204, "")
		w.Get("/a").Want(200, "new page").WantMiss("uri-miss")
		head.Wait()
		w.Get("/a").Want(200, "new page").WantHit()
	})
}

// What the origin says to one user's HEAD must not become what others read of a
// shared entry (RFC 9111 §3.5).
func TestHED02_FieldsOfOneUserStayWithThatUser(t *testing.T) {
	for name, c := range map[string]struct{ request, policy string }{
		"Authorization":    {"Authorization: Basic u4", "max-age=60"},
		"request no-store": {"Cache-Control: no-store", "max-age=60"},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(w *sim.World) {
				w.Origin(
					sim.Reply{Header: []string{"Cache-Control: public, max-age=10", "X-User: all"}, Body: "page"},
					sim.Reply{Header: []string{"Cache-Control: " + c.policy, "X-User: u4"}},
					sim.Reply{Header: []string{"Cache-Control: public, max-age=10", "X-User: all"}, Body: "page"},
				)
				w.Get("/a").Want(200, "page")
				w.Advance(20 * time.Second)
				w.Do("HEAD", "/a", "", c.request).WantField("X-User", "u4")
				w.Get("/a").Want(200, "page").WantField("X-User", "all")
			})
		})
	}
}
