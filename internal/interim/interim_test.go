package interim_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/larderhq/larder/internal/interim"
)

func TestINT01_ContextCarriesFunc(t *testing.T) {
	if interim.From(context.Background()) != nil {
		t.Fatal("an empty context carries a Func")
	}
	want := errors.New("stop")
	ctx := interim.With(context.Background(), func(status int, _ http.Header) error {
		if status != 103 {
			t.Errorf("status %d, want 103", status)
		}
		return want
	})
	if got := interim.From(ctx)(103, http.Header{}); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	if interim.From(interim.With(ctx, nil)) != nil {
		t.Fatal("a nil Func must hide the outer one")
	}
}
