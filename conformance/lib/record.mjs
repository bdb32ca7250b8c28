// Recorded results: what they add up to, and what changed since.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { kindOf, kinds, passed, suiteVersion } from './suite.mjs'

const fileOf = name => new URL(`../results/${name}.json`, import.meta.url)

// readRecord gives the record of that name, or undefined if there is none.
export function readRecord (name) {
  const file = fileOf(name)
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
}

export function writeRecord (name, { title, version, settings }, results) {
  const sorted = Object.fromEntries(Object.entries(results).sort(([a], [b]) => (a < b ? -1 : 1)))
  const date = new Date().toISOString().slice(0, 10)
  const record = { title, version, settings, suite: suiteVersion, date, results: sorted }
  writeFileSync(fileOf(name), JSON.stringify(record, null, 1) + '\n')
}

// totals counts, for each kind, all tests and each outcome.
export function totals (results) {
  const sums = Object.fromEntries(kinds.map(kind => [kind, { all: 0, passed: 0 }]))
  for (const [id, word] of Object.entries(results)) {
    const sum = sums[kindOf(id)]
    sum.all++
    sum[word] = (sum[word] ?? 0) + 1
    if (passed(word)) sum.passed++
  }
  return sums
}

// compare lists the ids that passed before and no longer do, and the reverse.
// For a check, yes is passing: a changed answer is changed behaviour.
export function compare (before, now) {
  const ids = Object.keys({ ...before, ...now })
  const passedIn = (results, id) => id in results && passed(results[id])
  return {
    lost: ids.filter(id => passedIn(before, id) && !passedIn(now, id)),
    won: ids.filter(id => !passedIn(before, id) && passedIn(now, id))
  }
}
