// An MCP server as the official TypeScript SDK makes it for a local address, which accepts an `Origin` of its own alone.
//
// Usage: server.mjs PACKAGES ADDRESS
//
// PACKAGES is the directory of node_modules, ADDRESS an IPv4 address, on which a free port is taken. Once it can be connected to,
// one line is printed: the port.

import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const [packages, address] = process.argv.slice(2);
const sdk = (path) => createRequire(`${packages}/`)(`@modelcontextprotocol/sdk/${path}`);
const { McpServer } = sdk('server/mcp.js');
const { createMcpExpressApp } = sdk('server/express.js');
const { StreamableHTTPServerTransport } = sdk('server/streamableHttp.js');

// Protected against DNS rebinding, as the SDK makes it where nothing else is said.
const app = createMcpExpressApp();
const listener = createServer(app);
app.post('/mcp', async (request, response) => {
  const own = `http://localhost:${listener.address().port}`;
  const settings = { sessionIdGenerator: undefined, enableDnsRebindingProtection: true, allowedOrigins: [own] };
  const transport = new StreamableHTTPServerTransport(settings);
  await new McpServer({ name: 'typescript-sdk', version: '1' }, { capabilities: { tools: {} } }).connect(transport);
  await transport.handleRequest(request, response, request.body);
});
listener.listen(0, address, () => console.log(listener.address().port));
