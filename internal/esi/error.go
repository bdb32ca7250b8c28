package esi

import (
	"errors"
	"fmt"
)

// The reasons for which an assembly fails, to be found by errors.Is. ErrIncludes
// and ErrSize are bounds of the page, which nothing in the page mends.
var (
	// ErrDepth is an include that lies deeper than Limits.Depth.
	ErrDepth = errors.New("fragments lie too deep in each other")
	// ErrLoop is an include of the template or of a fragment it lies in.
	ErrLoop = errors.New("the fragment would include itself")
	// ErrIncludes is one include more than Limits.Includes.
	ErrIncludes = errors.New("too many includes")
	// ErrRefused is a source that is no usable URL or that Page.Allowed refuses.
	ErrRefused = errors.New("source refused")
	// ErrResponse is a fragment with the wrong status or a content coding.
	ErrResponse = errors.New("response cannot be included")
	// ErrFragment is a fragment, or an attempt, longer than Limits.Fragment.
	ErrFragment = errors.New("fragment too long")
	// ErrSize is a page longer than Limits.Size.
	ErrSize = errors.New("page too long")
	// ErrTime is that fragments held up the page for Limits.Time.
	ErrTime = errors.New("fragments took too long")
	// ErrMarkup is malformed markup in a strict page, or elements too deep in
	// each other in any.
	ErrMarkup = errors.New("malformed markup")
)

// An IncludeError is an include that failed: because of its origin, of the page
// that names it, or of our limits, as Err tells.
type IncludeError struct {
	// Document is the URL of the template or fragment with the include.
	Document string
	// Source is its src or alt, with variables replaced. It may hold what a
	// client sent.
	Source string
	// Err is why it failed.
	Err error
}

func (e *IncludeError) Error() string {
	return fmt.Sprintf("esi: %q in %q: %v", e.Source, e.Document, e.Err)
}

func (e *IncludeError) Unwrap() error { return e.Err }

// also returns first, or both if second is the failure of what was tried then.
func also(first, second error) error {
	if first == nil {
		return second
	}
	return fmt.Errorf("%w; then %w", first, second)
}
