// What readers of the official TypeScript SDK make of bodies, as reads.py: its own, and that of Express, which it is used with.
//
// Usage: reads.mjs PACKAGES
//
// PACKAGES is the directory of node_modules.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [packages] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const types = require('@modelcontextprotocol/sdk/types.js');
const iconv = require('iconv-lite');

const named = {
  'tools/call': [types.CallToolRequestSchema, (params) => params.name],
  'prompts/get': [types.GetPromptRequestSchema, (params) => params.name],
  'resources/read': [types.ReadResourceRequestSchema, (params) => params.uri],
  'resources/subscribe': [types.SubscribeRequestSchema, (params) => params.uri],
  'resources/unsubscribe': [types.UnsubscribeRequestSchema, (params) => params.uri],
  'completion/complete': [
    types.CompleteRequestSchema,
    ({ ref }) => (ref.type === 'ref/prompt' ? ref.name : ref.uri),
  ],
};
const readers = [
  (body) => JSON.parse(new TextDecoder().decode(body)),
  (body) => JSON.parse(iconv.decode(body, 'utf-8')),
  (body) => JSON.parse(body.toString()),
];

function call(value) {
  const message = types.JSONRPCMessageSchema.parse(value);
  if (message.method === undefined) return undefined;
  if (!Object.hasOwn(named, message.method)) return [message.method, null];
  const [schema, nameOf] = named[message.method];
  return [message.method, nameOf(schema.parse(message).params)];
}

function calls(body) {
  const found = new Map();
  for (const reader of readers) {
    try {
      const value = reader(body);
      for (const message of Array.isArray(value) ? value : [value]) {
        const made = call(message);
        if (made !== undefined) found.set(JSON.stringify(made), made);
      }
    } catch {
      // The server answers that it cannot be read.
    }
  }
  return [...found.values()];
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(calls(Buffer.from(line.trim(), 'hex'))));
}
