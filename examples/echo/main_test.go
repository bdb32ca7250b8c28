package main

import (
	"testing"

	"github.com/larderhq/larder/examples/internal/ask"
)

func TestRouter(t *testing.T) {
	ask.Router(t, handler, ask.Answer{Code: 404, Body: "{\"message\":\"Not Found\"}\n"}, ask.Answer{Code: 405, Body: "{\"message\":\"Method Not Allowed\"}\n"})
}
