//go:build race

package index

// many is how many entries a test with many has. The race detector makes an
// access to a slot a hundred times slower.
const many = 10_000
