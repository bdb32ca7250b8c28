//go:build !race

package h2

const (
	lost     = 0
	mostMiBs = 1
)
