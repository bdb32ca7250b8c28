// The echo for node: what its parser understood, in each answer and on stderr.
// Fields of a record: state, length and hash of the body, connection and number
// of the request on it, method, host, target. echo.go has the other one.
const http = require('node:http');
const crypto = require('node:crypto');

let connections = 0;

function record(state, length, sum, req) {
  const s = req.socket;
  return [state, length, sum, s.id + '/' + req.nth, req.method, req.headers.host || '-', req.url].join(' ');
}

function answer(req, res, state, body) {
  const sum = crypto.createHash('sha256').update(body).digest('hex').slice(0, 12);
  const line = record(state, body.length, sum, req);
  process.stderr.write(Buffer.from(line + '\n', 'latin1'));
  if (state === 'broken') {
    req.socket.destroy();
    return;
  }
  const text = Buffer.from(line + '\n', 'latin1');
  res.setHeader('Echo', line);
  res.setHeader('Cache-Control', req.url.includes('/hit') ? 'max-age=60' : 'no-store');
  if (!req.url.includes('/chunked')) res.setHeader('Content-Length', text.length);
  res.write(text);
  res.end();
}

function serve(req, res) {
  req.nth = req.socket.served = (req.socket.served || 0) + 1;
  req.on('error', () => {});
  res.on('error', () => {});
  if (req.url.includes('/early')) {
    answer(req, res, 'early', Buffer.alloc(0));
    req.resume();
    return;
  }
  const parts = [];
  let ended = false;
  req.on('data', (part) => parts.push(part));
  req.on('end', () => {
    ended = true;
    answer(req, res, 'whole', Buffer.concat(parts));
  });
  req.on('close', () => {
    if (!ended) answer(req, res, 'broken', Buffer.concat(parts));
  });
}

const server = http.createServer({ keepAliveTimeout: 600000, requestTimeout: 0, headersTimeout: 60000 }, serve);
server.on('checkContinue', (req, res) => {
  if (!req.url.includes('/early')) res.writeContinue();
  serve(req, res);
});
server.on('connection', (socket) => {
  socket.id = ++connections;
  socket.on('error', () => {});
});
server.on('clientError', (err, socket) => {
  if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
});
server.listen(0, '127.0.0.1', () => process.stderr.write('listening ' + server.address().port + '\n'));
