import assert from 'node:assert/strict'
import test from 'node:test'
import { compare, totals } from './record.mjs'
import { mainIds, outcome, surrogateIds, withDependencies } from './suite.mjs'

test('the pinned suite has the tests this folder was written for', () => {
  const sums = totals(Object.fromEntries(mainIds.map(id => [id, 'untested'])))
  assert.deepEqual([sums.required.all, sums.optimal.all, sums.check.all], [157, 86, 86])
  assert.equal(surrogateIds.length, 21)
})

test('only what passed before can be lost', () => {
  const before = { a: 'pass', b: 'yes', c: 'fail', d: 'no', e: 'pass' }
  const now = { a: 'setup', b: 'no', c: 'dependency', d: 'yes', e: 'pass', f: 'pass' }
  assert.deepEqual(compare(before, now), { lost: ['a', 'b'], won: ['d', 'f'] })
})

test('a test that was not run is lost', () => {
  assert.deepEqual(compare({ a: 'pass' }, {}), { lost: ['a'], won: [] })
})

test('every outcome of the suite has a word', () => {
  const id = 'stale-close-must-revalidate' // builds on stale-close
  const gate = { 'stale-close': true }
  const words = [
    outcome(id, {}),
    outcome(id, { [id]: true }),
    outcome(id, { ...gate, [id]: true }),
    outcome(id, { ...gate, [id]: ['Assertion', ''] }),
    outcome(id, { ...gate, [id]: ['Setup', ''] }),
    outcome(id, { ...gate, [id]: ['Setup', 'retry'] }),
    outcome('stale-close', gate),
    outcome('stale-close', { 'stale-close': ['Assertion', ''] }),
    outcome('other-set-cookie', { 'other-set-cookie': ['Assertion', ''] })
  ]
  assert.deepEqual(words, ['untested', 'dependency', 'pass', 'fail', 'setup', 'retry', 'yes', 'no', 'fail'])
})

test('dependencies of dependencies are run too', () => {
  assert.deepEqual(withDependencies(['age-parse-prefix']),
    ['age-parse-prefix', 'freshness-max-age-age', 'freshness-max-age', 'freshness-none'])
})
