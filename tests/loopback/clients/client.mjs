// A client of the official TypeScript SDK with its default settings, as client.py.
//
// Usage: client.mjs PACKAGES
//
// PACKAGES is the directory of node_modules.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [packages] = process.argv.slice(2);
const sdk = (path) => createRequire(`${packages}/`)(`@modelcontextprotocol/sdk/${path}`);
const { Client } = sdk('client/index.js');
const { StreamableHTTPClientTransport } = sdk('client/streamableHttp.js');

let client;
for await (const line of createInterface({ input: process.stdin })) {
  if (line.startsWith('http')) {
    client = new Client({ name: 'client', version: '1' });
    await client.connect(new StreamableHTTPClientTransport(new URL(line)));
    console.log('connected');
    continue;
  }
  let said;
  try {
    if (Number.isNaN(Number(line))) {
      await client.listTools();
      said = await client.callTool({ name: line, arguments: {} });
    } else {
      const result = await client.callTool({ name: 'work', arguments: { ms: Number(line) } });
      said = { result: result.content[0].text };
    }
  } catch (error) {
    const { code, message, data } = error;
    said = { error: error.constructor.name, code, message, data };
  }
  console.log(JSON.stringify(said));
}
process.exit(0);
