// Has the official suite speak HTTP/2 in the clear: loaded before it with `--import`, it replaces `fetch`, by which the suite and
// the TypeScript SDK in it send their requests, and the agent of undici's `request`, by which the suite sends the few others. All
// requests of `fetch` to one origin share a connection. At the end it says how many requests there were.

import http2 from 'node:http2';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';

const { Agent, H2CClient, setGlobalDispatcher } = createRequire(process.argv[1])('undici');
const STATUSES_WITHOUT_BODY = [204, 205, 304];

const sessions = new Map();
let count = 0;

function session(origin) {
  let open = sessions.get(origin);
  if (!open || open.closed || open.destroyed) {
    open = http2.connect(origin);
    // The requests on it fail with the same error, and tell it.
    open.on('error', () => {});
    // A connection without requests does not keep the process alive.
    open.unref();
    sessions.set(origin, open);
  }
  return open;
}

globalThis.fetch = async (input, init) => {
  const request = new Request(input, init);
  const { origin, host, pathname, search } = new URL(request.url);
  const body = request.body && Buffer.from(await request.arrayBuffer());
  request.signal.throwIfAborted();
  const headers = {
    ...Object.fromEntries(request.headers),
    ':method': request.method,
    ':scheme': 'http',
    ':authority': host,
    ':path': pathname + search,
  };
  if (body) headers['content-length'] = body.length;
  count += 1;
  const connection = session(origin);
  connection.ref();
  const stream = connection.request(headers, { endStream: !body });
  if (body) stream.end(body);
  const abort = () => {
    stream.close(http2.constants.NGHTTP2_CANCEL);
    stream.destroy(request.signal.reason);
  };
  request.signal.addEventListener('abort', abort);
  stream.on('close', () => request.signal.removeEventListener('abort', abort));
  const answer = await new Promise((resolve, reject) => {
    stream.on('response', resolve);
    stream.on('error', reject);
    stream.on('close', () => reject(new TypeError('the stream ended without a response')));
  });
  const status = answer[':status'];
  const fields = Object.entries(answer).filter(([name]) => !name.startsWith(':'));
  const lines = fields.flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  if (STATUSES_WITHOUT_BODY.includes(status)) stream.resume();
  const content = STATUSES_WITHOUT_BODY.includes(status) ? null : Readable.toWeb(stream);
  return new Response(content, { status, headers: lines });
};

// One connection for each request, as one of undici's takes no second one beside a POST.
setGlobalDispatcher(new Agent({ factory: (origin) => new H2CClient(origin, { pipelining: 1, maxConcurrentStreams: 1 }) }));
process.on('exit', () => console.error(`requests over HTTP/2: ${count}`));
