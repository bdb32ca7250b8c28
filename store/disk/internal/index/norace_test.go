//go:build !race

package index

const many = 1_000_000 // see race_test.go
