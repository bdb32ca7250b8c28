//go:build !race

package front

// mutants is how many inputs TestMutants makes, each way that the tests are run.
const mutants = 500_000
