// Package field reads and writes the values of the HTTP fields a cache has to
// understand: Cache-Control and its relatives, dates, Age, entity tags, ranges,
// Vary, Via and a few more.
//
// Everything here is a pure function of its arguments. Nothing reads a clock,
// keeps state or does I/O, and no input makes a function panic or take more
// than linear time (n log n where a result is sorted).
//
// Arguments called lines are the values of all field lines of one name in the
// order received, as in http.Header: blanks around the values already removed,
// nil if the field is absent. Strings in results may share memory with the
// arguments.
package field
