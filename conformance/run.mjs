#!/usr/bin/env node
// Runs the public HTTP cache test-suite against Larder, or against a peer.

import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { buildFace, buildLarder, buildSecureLarder, faces, peer, peers, ready, start } from './lib/cache.mjs'
import { writeDocs } from './lib/docs.mjs'
import { startOrigin } from './lib/origin.mjs'
import { compare, readRecord, totals, writeRecord } from './lib/record.mjs'
import { refused } from './lib/refused.mjs'
import { kindOf, kinds, mainIds, outcome, passed, surrogateIds, testById, withDependencies } from './lib/suite.mjs'

const usage = `usage: node run.mjs [OPTION]...

Without options: builds Larder, runs every test against it with default
settings, and compares with results/larder.json. Exit code 1: a test that
passed there no longer does.

  --surrogate          the Surrogate-Control group instead, with
                       surrogate-control on; compares with
                       results/larder-surrogate.json
  --tls                the same over TLS, in HTTP/2, for each of the two
                       above; compares with what they have recorded
  --face NAME          a face of the library instead of the program:
                       ${Object.keys(faces).join(', ')};
                       compares with results/face-NAME.json
  --faces              every face
  --update             record the results and rewrite docs/conformance.md
  --test ID            one test, showing its requests and responses
  --peer NAME          another cache, started by bench/up, instead of Larder:
                       ${Object.keys(peers).join(', ')}
  --peers              every peer that is installed, recording the results
  --against URL        a cache that is already running, in front of an origin
  --origin PORT        on this port of 127.0.0.1, which is started here
  --help               this text
`

const surrogateSettings = ['surrogate-control=on']

// Tests sleep most of the time, so many run at once; as many as in the suite's
// own command line, for results to be comparable.
const together = 100

// More failures than this are no accident of timing and not worth a second run.
const repeatAtMost = 20

function options () {
  const { values } = parseArgs({
    options: {
      surrogate: { type: 'boolean' },
      tls: { type: 'boolean' },
      face: { type: 'string' },
      faces: { type: 'boolean' },
      update: { type: 'boolean' },
      test: { type: 'string' },
      peer: { type: 'string' },
      peers: { type: 'boolean' },
      against: { type: 'string' },
      origin: { type: 'string' },
      help: { type: 'boolean' }
    }
  })
  const targets = [values.face, values.faces, values.peer, values.peers, values.against].filter(Boolean)
  if (targets.length > 1) throw new Error('choose one of --face, --faces, --peer, --peers and --against')
  if (values.surrogate && (values.face || values.faces || values.peer || values.peers)) throw new Error('--surrogate is a configuration of the program')
  if (values.tls && (targets.length > 0 || values.update)) throw new Error('--tls is for the program, and held to what it does without')
  if ((values.peers || values.faces) && values.test) throw new Error('--test needs one cache: use --peer or --face')
  if (!values.against !== !values.origin) throw new Error('--against and --origin go together')
  if (values.update && (values.test || values.against)) throw new Error('--update records whole runs of a known product')
  if (values.face && !(values.face in faces)) throw new Error(`no face is called ${values.face}`)
  if (values.peer && !(values.peer in peers)) throw new Error(`no peer is called ${values.peer}`)
  if (values.test) testById(values.test)
  return values
}

// rig says which cache to run and under which name its results are kept.
function rig ({ surrogate, tls, face, peer: name, against, origin }) {
  if (face) return { ...buildFace(face), record: `face-${face}`, settings: [] }
  if (against) return { title: against, url: against.replace(/\/$/, ''), originPort: Number(origin), settings: [] }
  if (name) {
    const product = peer(name)
    if (!product) throw new Error(`${name} is not installed: see bench/install-peers`)
    return { ...product, record: name, settings: [] }
  }
  return {
    ...(tls ? buildSecureLarder() : buildLarder()),
    record: surrogate ? 'larder-surrogate' : 'larder',
    settings: surrogate ? surrogateSettings : []
  }
}

// run gives the raw results of ids against a fresh cache and a fresh origin.
async function run (target, ids, { dump = false, atOnce = together } = {}) {
  const origin = await startOrigin(target.originPort ?? 0)
  let cache
  try {
    if (target.url) {
      await ready(target.url)
      cache = { url: target.url, died: new Promise(() => {}), stop () {} }
    } else {
      const command = (origin, port, securePort) => target.command(origin, port, target.settings, securePort)
      cache = await start(command, origin.port, { log: dump })
    }
    const url = target.ca ? cache.secureUrl : cache.url
    return await Promise.race([drive(url, target.ca, ids, dump, atOnce), cache.died])
  } finally {
    await cache?.stop()
    origin.stop()
  }
}

function drive (url, ca, ids, dump, atOnce) {
  const worker = new Worker(new URL('lib/client.mjs', import.meta.url),
    { workerData: { url, ca, ids, dump, together: atOnce } })
  return new Promise((resolve, reject) => {
    worker.on('message', ({ done, raw }) => {
      if (raw) {
        if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
        resolve(raw)
      } else if (process.stderr.isTTY && !dump) process.stderr.write(`\r${done} of ${ids.length} tests`)
    })
    worker.on('error', reject)
  })
}

async function one (target, id) {
  const raw = await run(target, [id], { dump: true })
  const word = outcome(id, raw, { honorDependencies: false })
  console.log(`${id}: ${word}${messageOf(raw, id)}`)
  return passed(word) ? 0 : 1
}

async function all (target, ids, update) {
  const started = Date.now()
  const judge = raw => Object.fromEntries(ids.map(id => [id, outcome(id, raw)]))
  const before = target.record && readRecord(target.record)?.results
  if (target.record && !before && !update) throw new Error(`results/${target.record}.json is missing: record it with --update`)
  console.log(`${target.title}${target.version ? ` ${target.version}` : ''}${target.settings.map(s => `, ${s}`).join('')}`)

  // Over TLS nothing at all may be otherwise than without.
  const worse = results => {
    const { lost, won } = compare(before ?? {}, results)
    return target.ca ? [...lost, ...won] : lost
  }
  const raw = await run(target, withDependencies(ids))
  let results = judge(raw)
  let lost = worse(results)
  if (lost.length > 0 && lost.length <= repeatAtMost) {
    // Timers in the tests are real: a busy machine can fail any of them.
    const again = withDependencies(lost).filter(id => lost.includes(id) || !passed(outcome(id, raw)))
    console.log(`repeating alone: ${again.map(id => `${id} (${outcome(id, raw)}${messageOf(raw, id)})`).join(', ')}`)
    Object.assign(raw, await run(target, again, { atOnce: 1 }))
    results = judge(raw)
    for (const id of again) console.log(`  ${id}: ${outcome(id, raw)} when run alone`)
    lost = worse(results)
  }

  printTotals(results)
  printNotPassed(results, raw)
  console.log(`${Math.round((Date.now() - started) / 1000)} s`)
  for (const id of compare(before ?? results, results).won) console.log(`now passes: ${id} (${before[id] ?? 'new'} before)`)
  for (const id of lost) console.log(`${passed(results[id]) ? 'PASSES HERE ALONE' : 'NO LONGER PASSES'}: ${id}: ${results[id]}${messageOf(raw, id)}`)
  if (update) writeRecord(target.record, target, results)
  return lost.length > 0 && !update ? 1 : 0
}

function printTotals (results) {
  const sums = totals(results)
  const columns = ['passed', 'all', 'fail', 'no', 'setup', 'retry', 'harness', 'dependency']
  console.log('\n' + ['kind    ', ...columns].join('  '))
  for (const kind of kinds) {
    console.log([kind.padEnd(8), ...columns.map(c => String(sums[kind][c] ?? 0).padStart(c.length))].join('  '))
  }
  console.log()
}

function printNotPassed (results, raw) {
  for (const [id, word] of Object.entries(results)) {
    if (passed(word) || kindOf(id) === 'check') continue
    console.log(`${id}: ${word}${messageOf(raw, id)}${id in refused ? ' [see refused.json]' : ''}`)
  }
}

// What the suite says about a failure, in one line.
function messageOf (raw, id) {
  return Array.isArray(raw[id]) ? `: ${raw[id][1]}`.replaceAll(/\s+/g, ' ') : ''
}

async function main () {
  let opt
  try {
    opt = options()
  } catch (error) {
    console.error(`run.mjs: ${error.message} (--help shows the options)`)
    return 2
  }
  if (opt.help) {
    console.log(usage)
    return 0
  }
  if (opt.faces) {
    let code = 0
    for (const face of Object.keys(faces)) code = Math.max(code, await all(rig({ face }), mainIds, opt.update))
    if (opt.update) writeDocs()
    return code
  }
  if (opt.peers) {
    for (const name of Object.keys(peers)) {
      if (peer(name)) await all(rig({ peer: name }), mainIds, true)
      else console.log(`${name} is not installed: see bench/install-peers`)
    }
    writeDocs()
    return 0
  }
  const target = rig(opt)
  if (opt.test) return one(target, opt.test)
  const code = await all(target, opt.surrogate ? surrogateIds : mainIds, opt.update)
  if (opt.update) writeDocs()
  return code
}

// Leaving at once is safe: whatever was started ends with this process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130))

main().then(code => process.exit(code), error => {
  console.error(error)
  process.exit(1)
})
