// The suite's origin server on 127.0.0.1.
//
// The handlers are the suite's; its own server.mjs is not used because that
// listens on every address, writes a pid file and serves the working folder.

import http from 'node:http'
import handleConfig from 'http-cache-tests/server/handle-config.mjs'
import handleState from 'http-cache-tests/server/handle-state.mjs'
import handleTest from 'http-cache-tests/server/handle-test.mjs'

const handlers = { config: handleConfig, test: handleTest, state: handleState }

// A path of ours, asked for until the cache in front passes the answer on.
export const readyPath = '/ready'

function handle (request, response) {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (pathname === readyPath) {
    response.writeHead(204, { 'Cache-Control': 'no-store' }).end()
    return
  }
  const [kind, ...rest] = pathname.slice(1).split('/')
  const handler = handlers[kind]
  if (!handler) {
    response.writeHead(404).end()
    return
  }
  try {
    handler(rest, request, response)
  } catch (error) {
    // The suite's handlers trust their input; what a cache made of a request
    // must cost that one test, not the whole run.
    console.error(`origin: ${request.method} ${request.url}: ${error.message}`)
    response.destroy()
  }
}

// startOrigin listens on port, or on a free one if port is 0.
export async function startOrigin (port) {
  const server = http.createServer(handle)
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    port: server.address().port,
    stop () {
      server.close()
      server.closeAllConnections()
    }
  }
}
