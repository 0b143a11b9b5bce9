// An MCP server of the official TypeScript SDK with sessions, which asks on the stream of the session and not on that of a call.
//
// Usage: server.mjs PACKAGES
//
// PACKAGES is the directory of node_modules. Once it can be connected to, it prints its port.

import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';

const [packages] = process.argv.slice(2);
const sdk = (path) => createRequire(`${packages}/`)(`@modelcontextprotocol/sdk/${path}`);
const { Server } = sdk('server/index.js');
const { StreamableHTTPServerTransport } = sdk('server/streamableHttp.js');
const types = sdk('types.js');

const transports = new Map();
const servers = new Set();

function serve() {
  const capabilities = { tools: { listChanged: true }, resources: { subscribe: true, listChanged: true } };
  const server = new Server({ name: 'typescript', version: '1' }, { capabilities, instructions: 'Be brief.' });
  server.setRequestHandler(types.ListToolsRequestSchema, () => ({
    tools: ['ask', 'change', 'echo'].map((name) => ({ name, inputSchema: { type: 'object' } })),
  }));
  server.setRequestHandler(types.SubscribeRequestSchema, () => ({}));
  server.setRequestHandler(types.CallToolRequestSchema, async ({ params: { name, arguments: given } }) => {
    let text = given?.text ?? name;
    if (name === 'ask') {
      const requestedSchema = { type: 'object', properties: { name: { type: 'string' } } };
      const answer = await server.elicitInput({ message: 'who?', requestedSchema });
      text = `hello ${answer.content.name}`;
    }
    if (name === 'change') {
      for (const other of servers) {
        await other.sendToolListChanged();
        await other.sendResourceUpdated({ uri: 'test://a' });
      }
    }
    return { content: [{ type: 'text', text }] };
  });
  servers.add(server);
  server.onclose = () => servers.delete(server);
  return server;
}

const listener = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
  let transport = transports.get(request.headers['mcp-session-id']);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => transports.set(id, transport),
    });
    await serve().connect(transport);
  }
  await transport.handleRequest(request, response, body);
});
listener.listen(0, '127.0.0.1', () => console.log(listener.address().port));
