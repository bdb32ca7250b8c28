// Starting and stopping the cache under test.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { readyPath } from './origin.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const startWithin = 30_000 // milliseconds
const stopWithin = 5_000

// Peers by the name that bench/up knows them by.
export const peers = {
  apache: { title: 'Apache httpd', package: 'apache2' },
  ats: { title: 'Apache Traffic Server', package: 'trafficserver' },
  haproxy: { title: 'HAProxy', package: 'haproxy' },
  nginx: { title: 'nginx', package: 'nginx' },
  squid: { title: 'Squid', package: 'squid' },
  varnish: { title: 'Varnish', package: 'varnish' }
}

// Faces of the library by the name that conformance/face knows them by.
export const faces = {
  middleware: { title: 'Cache.Handler around a reverse proxy' },
  proxy: { title: 'Cache.Proxy' },
  transport: { title: 'Cache.Transport under a reverse proxy, shared' },
  private: { title: 'Cache.Transport under a reverse proxy, private' }
}

// build compiles a program of this checkout into a folder that goes when the
// process does.
function build (folder) {
  const dir = mkdtempSync(join(tmpdir(), 'larder-conformance-'))
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }))
  const program = join(dir, 'program')
  execFileSync('go', ['build', '-o', program, folder], { cwd: root, stdio: 'inherit' })
  return program
}

// buildFace gives a face of the library.
export function buildFace (name) {
  const program = build('./conformance/face')
  return {
    ...faces[name],
    command: (origin, port) => [program, name, `http://127.0.0.1:${origin}`, `127.0.0.1:${port}`]
  }
}

// buildLarder gives the daemon.
export function buildLarder () {
  const program = build('./cmd/larder')
  return {
    title: 'Larder',
    command: (origin, port, settings) => [
      program, 'serve', `http://127.0.0.1:${origin}`, '--listen', `127.0.0.1:${port}`,
      ...settings.flatMap(setting => ['--set', setting])
    ]
  }
}

// buildSecureLarder gives the daemon for clients that come by TLS, with HTTP/2.
export function buildSecureLarder () {
  const { command } = buildLarder()
  const make = build('./conformance/certificate')
  const file = join(dirname(make), 'certificate.pem')
  const ca = execFileSync(make, [file], { encoding: 'utf8' })
  return {
    title: 'Larder over TLS, in HTTP/2',
    ca,
    command: (origin, port, settings, securePort) => [
      ...command(origin, port, settings), '--cert', file, '--https', `127.0.0.1:${securePort}`
    ]
  }
}

// peer describes an installed peer, or gives undefined if it is not installed.
export function peer (name) {
  const { title, package: debian } = peers[name]
  const up = join(root, 'bench', 'up')
  let version
  try {
    execFileSync(up, [name, '0', '0'], { env: { ...process.env, UP_CHECK: '1' }, stdio: 'ignore' })
    version = execFileSync('dpkg-query', ['-W', '-f', '${Version}', debian], { encoding: 'utf8' })
  } catch {
    return undefined
  }
  return { title, version, command: (origin, port) => [up, name, `${origin}`, `${port}`, 'conformance'] }
}

// start runs command(origin, port, securePort) and waits until it forwards to the
// origin. The promise `died` rejects if the program ends before it is stopped.
export async function start (command, origin, { log }) {
  const [port, securePort] = [await freePort(), await freePort()]
  const url = `http://127.0.0.1:${port}`
  const child = spawn('sh', ['-c', leash, 'sh', ...command(origin, port, securePort)],
    { detached: true, stdio: ['pipe', 'pipe', 'pipe'] })

  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output = (output + text).slice(-4096)
      if (log) process.stderr.write(text)
    })
  }

  let stopping = false
  const exited = once(child, 'exit')
  const died = exited.then(([code, signal]) => {
    if (!stopping) throw new Error(`the cache ended by itself (${signal ?? `exit code ${code}`})\n${output}`)
  })
  died.catch(() => {}) // it may die while nobody waits for it

  const stop = async () => {
    stopping = true
    child.stdin.destroy()
    const kill = setTimeout(() => killGroup(child.pid), stopWithin)
    await exited
    clearTimeout(kill)
  }
  try {
    await Promise.race([ready(url), died])
  } catch (error) {
    await stop()
    throw error
  }
  return { url, secureUrl: `https://127.0.0.1:${securePort}`, died, stop }
}

// leash stops the command and its children when our end of the pipe is closed:
// by us, or by the system should we be killed.
const leash = 'exec 3<&0; (cat <&3 >/dev/null; kill -TERM 0) & exec "$@" </dev/null 3<&-'

function killGroup (leader) {
  try {
    process.kill(-leader, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

// ready asks url until the origin's own answer comes through.
export async function ready (url) {
  const deadline = Date.now() + startWithin
  let last
  while (Date.now() < deadline) {
    try {
      const response = await fetch(url + readyPath, { signal: AbortSignal.timeout(1000) })
      if (response.status === 204) return
      last = `status ${response.status}`
    } catch (error) {
      last = error.cause?.message ?? error.message
    }
    await delay(25)
  }
  throw new Error(`${url} does not forward to the origin: ${last}`)
}

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
