//go:build race

package front

// mutants is less where every access to memory is watched.
const mutants = 25_000
