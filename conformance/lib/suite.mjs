// The tests themselves, and what their raw results mean.

import { createRequire } from 'node:module'
import groups from 'http-cache-tests/tests/index.mjs'
import surrogateControl from 'http-cache-tests/tests/surrogate-control.mjs'
import { determineTestResult } from 'http-cache-tests/lib/display.mjs'

const { name, version } = createRequire(import.meta.url)('http-cache-tests/package.json')
export const suiteVersion = `${name} ${version}`

const suites = [...groups, surrogateControl]
const tests = new Map(suites.flatMap(group => group.tests).map(test => [test.id, test]))

// What the suite's client runs against a proxy: browser_only tests never.
const runnable = selected => selected
  .flatMap(group => group.tests)
  .filter(test => !test.browser_only)
  .map(test => test.id)

// The suite keeps Surrogate-Control out of its index, and so do its published
// results: it is no part of HTTP caching, and is scored on its own.
export const mainIds = runnable(groups)
export const surrogateIds = runnable([surrogateControl])

export const kinds = ['required', 'optimal', 'check']

export function testById (id) {
  const test = tests.get(id)
  if (!test) throw new Error(`no test is called ${id}`)
  return test
}

export const kindOf = id => testById(id).kind ?? 'required'

// The names carry links and code marks that mean nothing outside Markdown.
export const nameOf = id => testById(id).name.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').trim()

// withDependencies adds the tests without which the result of ids is void.
export function withDependencies (ids) {
  const all = new Set()
  const add = id => {
    if (all.has(id)) return
    all.add(id)
    for (const dependency of testById(id).depends_on ?? []) add(dependency)
  }
  ids.forEach(add)
  return [...all]
}

// The suite tells its outcomes apart by a symbol for people and names none.
const outcomes = {
  '-': 'untested',
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'fail',
  Y: 'yes',
  N: 'no',
  '🔹': 'setup',
  '⁉️': 'harness',
  '⚪️': 'dependency',
  '↻': 'retry'
}

// outcome gives one word for a test: pass or fail; for a check yes or no;
// setup, retry, harness or dependency where the test could not be judged.
export function outcome (id, raw, { honorDependencies = true } = {}) {
  return outcomes[determineTestResult(suites, id, raw, honorDependencies)[2]]
}

export const passed = word => word === 'pass' || word === 'yes'
