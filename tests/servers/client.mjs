// A client of the official TypeScript SDK, which prints what it gets as one line of JSON.
//
// Usage: client.mjs PACKAGES legacy|auto URL TOOL ARGUMENTS
//
// PACKAGES is the directory of node_modules.

import { pathToFileURL } from 'node:url';

const [packages, mode, url, name, given] = process.argv.slice(2);
const sdk = await import(pathToFileURL(`${packages}/node_modules/@modelcontextprotocol/client/dist/index.mjs`));

const client = new sdk.Client({ name: 'client', version: '1' }, { versionNegotiation: { mode } });
await client.connect(new sdk.StreamableHTTPClientTransport(new URL(url)));
const tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
const { content } = await client.callTool({ name, arguments: JSON.parse(given) });
const text = content.filter((block) => block.type === 'text').map((block) => block.text).join(' ');
console.log(JSON.stringify({ tools, text }));
await client.close();
process.exit(0);
