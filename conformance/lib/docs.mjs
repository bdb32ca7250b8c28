// Writes docs/conformance.md from the recorded results.

import { readFileSync, writeFileSync } from 'node:fs'
import { faces, peers } from './cache.mjs'
import { readRecord, totals } from './record.mjs'
import { inPrivate, refused } from './refused.mjs'
import { kindOf, kinds, nameOf, passed, suiteVersion } from './suite.mjs'

const page = new URL('../../docs/conformance.md', import.meta.url)
const ledger = new URL('../../spec/requirements.tsv', import.meta.url)

export function writeDocs () {
  const larder = readRecord('larder')
  if (!larder) throw new Error('results/larder.json is missing: run node run.mjs --update')
  const surrogate = readRecord('larder-surrogate')
  if (!surrogate) throw new Error('results/larder-surrogate.json is missing: run node run.mjs --surrogate --update')
  const others = Object.keys(peers).map(readRecord).filter(Boolean)
  const bodies = Object.keys(faces).map(name => {
    const record = readRecord(`face-${name}`)
    if (!record) throw new Error(`results/face-${name}.json is missing: run node run.mjs --face ${name} --update`)
    return record
  })
  others.sort((a, b) => requiredPassed(b) - requiredPassed(a))
  checkReasons([larder, surrogate])
  checkPrivate(larder, readRecord('face-private'))
  writeFileSync(page, render(larder, surrogate, others, bodies, requirements()))
}

const requiredPassed = record => totals(record.results).required.passed

// Each failure has its reason, and each reason its failure: a sentence left
// from a test that passes by now would be as untrue as a missing one.
function checkReasons (records) {
  const failing = new Set(records.flatMap(record => notPassed(record)))
  const missing = [...failing].filter(id => !(id in refused))
  const stale = Object.keys(refused).filter(id => !failing.has(id))
  if (missing.length > 0) throw new Error(`refused.json has no reason for: ${missing.join(', ')}`)
  if (stale.length > 0) throw new Error(`refused.json has a reason for tests that pass: ${stale.join(', ')}`)
}

// differences are the tests, but for checks, in which a face does not end as the
// program does.
const differences = (larder, face) => Object.keys(larder.results)
  .filter(id => kindOf(id) !== 'check' && larder.results[id] !== face.results[id])

function checkPrivate (larder, face) {
  const differing = differences(larder, face)
  const missing = differing.filter(id => !(id in inPrivate))
  const stale = Object.keys(inPrivate).filter(id => !differing.includes(id))
  if (missing.length > 0) throw new Error(`private.json has no reason for: ${missing.join(', ')}`)
  if (stale.length > 0) throw new Error(`private.json has a reason for tests that do not differ: ${stale.join(', ')}`)
}

const notPassed = ({ results }) => Object.keys(results)
  .filter(id => kindOf(id) !== 'check' && !passed(results[id]))

// The ledger of requirements: how many there are a section, and what of them
// is defended by a test. A test of the code base holds the ledger to the tests.
function requirements () {
  const sections = new Map()
  for (const line of readFileSync(ledger, 'utf8').trim().split('\n').slice(1)) {
    const [, section, level,, test] = line.split('\t')
    const sums = sections.get(section) ?? { MUST: 0, SHOULD: 0, MAY: 0, tested: 0, later: 0, refused: 0 }
    sums[level]++
    sums[test === 'later' ? 'later' : test.startsWith('not done:') ? 'refused' : 'tested']++
    sections.set(section, sums)
  }
  const columns = ['MUST', 'SHOULD', 'MAY', 'tested', 'refused', 'later']
  const sum = column => [...sections.values()].reduce((n, sums) => n + sums[column], 0)
  return table(['section', ...columns.map(c => (c === 'refused' ? 'not done, with the reason' : c))], [
    ...[...sections].sort(([a], [b]) => a - b).map(([name, sums]) => [sectionNames[name] ?? name, ...columns.map(c => sums[c])]),
    ['**all**', ...columns.map(sum)]
  ])
}

const sectionNames = Object.fromEntries([
  'Cache-Control syntax', 'Dates and times', 'What is stored', 'Cache key', 'Vary', 'Freshness and Age', 'Answering from the store',
  'Serving stale', 'Validation with the origin', 'Conditional requests', 'Ranges and partial content', 'HEAD',
  'Invalidation by requests', 'Groups, tags and purging', 'Targeted fields, Surrogate-Control', 'Cache-Status, Proxy-Status',
  'Forwarding', 'HTTP/1.1 messages', 'HTTP/2 and HTTP/3', 'Interim responses, Expect, early data', 'Collapsing, two-stage expiry',
  'Request directives', 'Content coding', 'QUERY, No-Vary-Search', 'Page assembly', 'Client cache and safety', 'Policy switches',
  'Where the Go library is not enough', 'Storage as an origin'
].map((name, i) => [String(i + 1).padStart(2, '0'), `${i + 1}. ${name}`]))

const row = cells => `| ${cells.map(cell => `${cell}`.replaceAll('|', '\\|')).join(' | ')} |`
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')
const share = ({ passed, all }) => `${passed} of ${all}`

function totalsTable (records) {
  return table(['', ...kinds.map(kind => (kind === 'check' ? 'check answered yes' : kind))],
    records.map(record => {
      const sums = totals(record.results)
      return [productOf(record), ...kinds.map(kind => share(sums[kind]))]
    }))
}

const productOf = ({ title, version }) => (version ? `${title} ${version}` : `**${title}**`)

const failuresTable = (record, others) => table(
  ['test', 'kind', 'result', 'why', ...(others.length > 0 ? ['passed by'] : [])],
  notPassed(record).map(id => [
    `\`${id}\``, kindOf(id), record.results[id], refused[id],
    ...(others.length > 0 ? [others.filter(({ results }) => passed(results[id])).map(o => o.title).join(', ') || 'none'] : [])
  ]))

const checksTable = record => table(['question', 'test', 'answer'], Object.keys(record.results)
  .filter(id => kindOf(id) === 'check')
  .map(id => [nameOf(id), `\`${id}\``, record.results[id]]))

const section = (condition, ...parts) => (condition ? `\n${parts.join('\n\n')}\n` : '')

function differencesTable (larder, records) {
  const rows = records.flatMap(record => differences(larder, record).map(id => [
    record.title, `\`${id}\``, kindOf(id), larder.results[id], record.results[id], inPrivate[id] ?? ''
  ]))
  return rows.length === 0 ? 'None.' : table(['face', 'test', 'kind', 'the program', 'the face', 'why'], rows)
}

function render (larder, surrogate, others, bodies, kept) {
  return `# Conformance

\`\`\`sh
cd conformance && npm ci --ignore-scripts && node run.mjs
\`\`\`

This builds Larder, runs the public [HTTP cache test-suite](https://cache-tests.fyi) (${suiteVersion}, pinned by a lock
file) against \`larder serve\` with default settings, and fails if a test that passed no longer does. CI runs it on every
change. \`node run.mjs --help\` tells how to run one test, another cache, or to record new results; this page is written
by \`node run.mjs --update\`.

The suite's authors say themselves that passing everything means nothing: where a test asks for what the RFCs forbid, or
for what is not safe, Larder fails it on purpose and says why below. Tests for browsers only are left out, as they are
by the suite's own client.

## Totals

${totalsTable([larder, ...others])}

The suite's *required* tests follow from a requirement of the specifications, *optimal* ones make a cache more useful, and
a *check* only asks how a cache behaves: neither answer is better. A test that could not be judged counts as not passed:
*setup* (the exchange did not come as far as the question), *retry* (the origin was asked twice) and *dependency*
(a test that this one builds upon did not pass). The peers are Debian's packages, run in the same way, with the settings
in [bench/up](../bench/up). Larder's results are of ${larder.date}${others.length > 0 ? `, the peers' of ${dates(others)}` : ''}.

## TLS and HTTP/2

\`node run.mjs --tls\` has the suite's client come by TLS and speak HTTP/2 ([http2.mjs](../conformance/lib/http2.mjs)), over one
connection for all tests, and fails if one test ends otherwise than in the record of HTTP/1.1: the totals are the same. All
tests can be asked in HTTP/2, for none of them sends a field of a connection. Those that have the origin send one
(\`headers-store-Connection\`, \`-Keep-Alive\`, \`-Proxy-Connection\`, \`-TE\`, \`-Transfer-Encoding\`, \`-Upgrade\` and
\`headers-omit-headers-listed-in-Connection\`) ask whether it comes as far as the client, where HTTP/2 would not allow it at all
(RFC 9113 8.2.2).

HTTP/2 and HPACK themselves are gone through by [h2spec](https://github.com/summerwind/h2spec) 2.2.1, strict cases and all, for what is
stored and for what the origin is asked for (\`./check h2spec\`, [h2spec](../conformance/h2spec/main.go)). All cases pass.

\`./check browser\` has Chromium load a page with 200 images: all of them come over one connection, in HTTP/2.

## The library

The same suite against each face of package larder, in a program of its own (\`node run.mjs --faces\`, [face](../conformance/face/main.go)):

${totalsTable([larder, ...bodies])}

Tests that end otherwise than with the program, checks apart:

${differencesTable(larder, bodies)}

## Tests that do not pass

${failuresTable(larder, others)}

## Answers to the checks

${checksTable(larder)}

## Surrogate-Control

The suite keeps its tests of the \`Surrogate-Control\` field apart from the others, and Larder heeds that field only if told to.
With \`${surrogate.settings.join(' ')}\` (\`node run.mjs --surrogate\`):

${totalsTable([surrogate])}
${section(notPassed(surrogate).length > 0, failuresTable(surrogate, []))}
${checksTable(surrogate)}

## Requirements

What Larder is built to do, row by row, is [spec/requirements.tsv](../spec/requirements.tsv); a test fails when a MUST of sections 1 to
13, 15 to 17, 20 to 22, 25 and 29 has no test, or names one that does not exist.

${kept}
`
}

const dates = records => [...new Set(records.map(({ date }) => date))].sort().join(', ')
