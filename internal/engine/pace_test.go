package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larderhq/larder/internal/observe"
)

// Work in the background takes an eleventh of the time, and nobody who asks for something meanwhile
// waits for long; when nobody does, it rests less often.
func TestPRG05_Pace(t *testing.T) {
	const piece = 5 * time.Microsecond
	for _, test := range []struct {
		name    string
		asks    bool
		longest time.Duration // that it goes on without a rest
	}{
		{"asked", true, stretch + piece},
		{"quiet", false, leisure + piece},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recent := new(observe.Recent)
				p := newPace(recent)
				began, worked, longest := time.Now(), time.Duration(0), time.Duration(0)
				for run := time.Duration(0); time.Since(began) < time.Minute; {
					if test.asks {
						recent.Stir()
					}
					time.Sleep(piece)
					worked, run = worked+piece, run+piece
					longest = max(longest, run)
					before := time.Now()
					if !p.rest(t.Context()) {
						t.Fatal("it was not to go on")
					}
					if time.Since(before) > 0 {
						run = 0
					}
				}
				if longest > test.longest || longest < test.longest-2*piece {
					t.Errorf("it goes on for %v at most, want %v", longest, test.longest)
				}
				if share := float64(worked) / float64(time.Since(began)); share < 0.090 || share > 0.092 {
					t.Errorf("it takes %.3f of the time", share)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if p.rest(ctx) {
					t.Error("it goes on though its context has ended")
				}
			})
		})
	}
}
