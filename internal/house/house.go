// Package house holds the rules of this code base as tests: who may import
// whom, what pure code may not touch, and that every requirement has the tests
// that the ledger names. It has no code of its own.
package house
