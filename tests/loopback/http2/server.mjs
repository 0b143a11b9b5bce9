// A server of HTTP/2 for the tests of upstreams. Arguments: how it listens (`tls`, `tls-or-1`, `clear` or `unix`), then the files of
// its key and its certificate, the path of the socket for `unix`, and perhaps the port of a server of HTTP/1.1 to which it passes all
// requests on. It writes the port on which it listens, and then a line for each stream that is reset.

import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';

const [how, keyFile, certFile, socketPath, relayPort] = process.argv.slice(2);
let sessions = 0;
let refusals = 1;
const waiting = [];

function answer(stream, headers) {
  const path = headers[':path'];
  const number = Number(path.split('/')[2] ?? 0);
  stream.on('error', () => {});
  stream.on('aborted', () => console.log(`reset ${path} ${stream.rstCode}`));
  if (path === '/refused-once' && refusals-- > 0) {
    return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  }
  if (path === '/goodbye') {
    // The request itself is answered; none after it is taken.
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
  }
  if (path === '/events') {
    stream.respond({ 'content-type': 'text/event-stream' });
    stream.write('data: 0\n\n');
    return waiting.push(stream);
  }
  if (path.startsWith('/next/')) {
    waiting.forEach((events) => events.write(`data: ${number}\n\n`));
  }
  if (path.startsWith('/bytes/')) {
    stream.respond({ 'content-length': number });
    return stream.end(Buffer.alloc(number, 'x'));
  }
  if (path === '/hold') {
    return stream.resume();
  }
  const pieces = [];
  let trailers = {};
  stream.on('data', (piece) => pieces.push(piece));
  stream.on('trailers', (received) => { trailers = received; });
  stream.on('end', () => {
    const body = Buffer.concat(pieces);
    stream.additionalHeaders({ ':status': 103, link: '</a>' });
    const head = { 'x-sessions': sessions, 'x-authority': headers[':authority'], 'x-scheme': headers[':scheme'] };
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-length': body.length, ...trailers }));
    stream.end(body);
  });
}

function relay(stream, headers) {
  const fields = Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')));
  const path = headers[':path'];
  const to = { host: '127.0.0.1', port: relayPort, method: headers[':method'], path, headers: { ...fields, host: headers[':authority'] } };
  const request = http.request(to, (response) => {
    const { connection, 'keep-alive': keepAlive, 'transfer-encoding': encoding, ...rest } = response.headers;
    stream.respond({ ':status': response.statusCode, ...rest });
    response.pipe(stream);
  });
  stream.on('error', () => {});
  stream.on('close', () => request.destroy());
  request.on('error', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  stream.pipe(request);
}

const pem = () => ({ key: fs.readFileSync(keyFile), cert: fs.readFileSync(certFile) });
const server = how.startsWith('tls')
  ? http2.createSecureServer({ ...pem(), allowHTTP1: how === 'tls-or-1' })
  : http2.createServer();
server.on('session', () => { sessions += 1; });
if (how === 'tls-or-1') {
  server.on('request', (request, response) => response.end(`spoken to in HTTP/${request.httpVersion}`));
} else {
  server.on('stream', relayPort ? relay : answer);
}
server.listen(how === 'unix' ? socketPath : { host: '127.0.0.1', port: 0 }, () => console.log(server.address().port ?? 0));
