// A client of the official TypeScript SDK, with sessions, which prints what it gets as lines of JSON.
//
// Usage: client.mjs PACKAGES URL
//
// PACKAGES is the directory of node_modules.

import { createRequire } from 'node:module';

const [packages, url] = process.argv.slice(2);
const sdk = (path) => createRequire(`${packages}/`)(`@modelcontextprotocol/sdk/${path}`);
const { Client } = sdk('client/index.js');
const { StreamableHTTPClientTransport } = sdk('client/streamableHttp.js');
const types = sdk('types.js');
const say = (what, value) => console.log(JSON.stringify([what, value]));

const client = new Client({ name: 'client', version: '1' }, { capabilities: { elicitation: {} } });
client.setRequestHandler(types.ElicitRequestSchema, () => ({ action: 'accept', content: { name: 'Ada' } }));
const changed = new Promise((resolve) => {
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, resolve);
});
const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
say('instructions', client.getInstructions());
const text = async (name, given) => (await client.callTool({ name, arguments: given })).content[0].text;
say('tools', (await client.listTools()).tools.map((tool) => tool.name).sort());
say('echo', await text('echo', { text: 'ż' }));
say('ask', await text('ask', {}));
await client.ping();
// The stream of the session may be opened a little later than the session.
let heard = false;
changed.then(() => { heard = true; });
while (!heard) await text('change', {});
say('changed', true);
await transport.terminateSession();
process.exit(0);
