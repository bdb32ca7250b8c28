// A fetch that speaks HTTP/2 by TLS alone, for the suite's client: node-fetch speaks HTTP/1 alone,
// and Node's own keeps fields from a test that browsers may not set. What it does not do, the suite
// does not ask for: redirects are passed on, and content codings left as they are.

import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { Headers, Response } from 'node-fetch'

// What node-fetch sends with every request, so that a cache gets the same.
const usual = { 'user-agent': 'node-fetch/1.0', accept: '*/*', 'accept-encoding': 'gzip,deflate' }

// fetchOver gives such a fetch, and close() ends what it has open. All requests go over one
// connection, as a browser has them, and over another one once the server has closed that.
// The server has to have the certificate ca.
export function fetchOver (ca) {
  let session
  const open = origin => {
    if (!session || session.closed || session.destroyed) {
      session = connect(origin, { ca })
      session.on('error', () => {}) // the requests on it fail
    }
    return session
  }
  const fetch = async (to, init = {}) => {
    const url = new URL(to)
    const stream = open(url.origin).request(
      { ...fieldsOf(init.headers), ':method': init.method ?? 'GET', ':path': url.pathname + url.search },
      { signal: init.signal, endStream: init.body === undefined }) // Node takes a DELETE for one without
    const answer = heard(stream)
    if (init.body !== undefined) stream.end(init.body)
    return answer
  }
  return Object.assign(fetch, { close: () => session?.destroy() })
}

function fieldsOf (headers) {
  const fields = { ...usual }
  for (const [name, values] of Object.entries(new Headers(headers).raw())) fields[name.toLowerCase()] = values
  return fields
}

// heard waits for all of an answer.
async function heard (stream) {
  const pieces = []
  stream.on('data', piece => pieces.push(piece))
  const ended = once(stream, 'close') // rejects if the stream fails
  ended.catch(() => {}) // which is heard of below
  const [fields,, raw] = await once(stream, 'response')
  await ended
  if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) throw new Error(`the stream was reset with code ${stream.rstCode}`)
  const headers = new Headers()
  for (let i = 0; i < raw.length; i += 2) {
    if (!raw[i].startsWith(':')) headers.append(raw[i], raw[i + 1])
  }
  return new Response(Buffer.concat(pieces), { status: fields[':status'], headers })
}
