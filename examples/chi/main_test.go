package main

import (
	"testing"

	"github.com/larderhq/larder/examples/internal/ask"
)

func TestRouter(t *testing.T) {
	ask.Router(t, handler, ask.Answer{Code: 404, Body: "404 page not found\n"}, ask.Answer{Code: 405, Body: ""})
}
