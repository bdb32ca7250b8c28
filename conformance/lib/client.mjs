// A thread that runs tests with the suite's own client. A thread of its own,
// since that client keeps its results in a module and cannot run a test twice.

import { writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import nodeFetch from 'node-fetch'
import { getResults, runTests } from 'http-cache-tests/client/runner.mjs'
import { fetchOver } from './http2.mjs'
import { testById } from './suite.mjs'

const { url, ca, ids, dump, together } = workerData // ca: over TLS, in HTTP/2
const fetch = ca ? fetchOver(ca) : nodeFetch

// The suite's client would wait for ever for a cache that does not answer.
const answerWithin = 15_000 // milliseconds
const impatient = (to, init) => fetch(to, { ...init, signal: AbortSignal.timeout(answerWithin) })

// A thread's console lags behind that of the origin, which shows the other
// half of what it dumps.
console.log = line => writeSync(1, `${line}\n`)

const tests = ids.map(testById)
for (const test of tests) test.dump = dump

const report = () => parentPort.postMessage({ done: Object.keys(getResults()).length })
const progress = setInterval(report, 500)
await runTests([{ tests }], impatient, false, url, together)
clearInterval(progress)
fetch.close?.()
parentPort.postMessage({ raw: getResults() })
