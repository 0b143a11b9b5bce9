// A client of the official TypeScript SDK that has no token, and gets one for its user in the way that its server tells it: by the
// authorization code grant with PKCE. The user agrees to everything.
//
// Usage: client.mjs PACKAGES URL ISSUER. It prints what client.py prints.
//
// PACKAGES is the directory of node_modules.

import { createRequire } from 'node:module';

const [packages, url, issuer] = process.argv.slice(2);
const sdk = (path) => createRequire(`${packages}/`)(`@modelcontextprotocol/sdk/client/${path}`);
const { Client } = sdk('index.js');
const { StreamableHTTPClientTransport } = sdk('streamableHttp.js');
const { UnauthorizedError } = sdk('auth.js');

const given = [];
let answered;
const provider = {
  redirectUrl: 'http://127.0.0.1:1/callback',
  clientMetadata: { redirect_uris: ['http://127.0.0.1:1/callback'], token_endpoint_auth_method: 'none' },
  state: () => 'the-state',
  clientInformation: () => ({ client_id: 'agent-7', issuer }),
  tokens() {
    return this.kept;
  },
  saveTokens(tokens) {
    given.push(tokens.scope);
    this.kept = tokens;
  },
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  },
  codeVerifier() {
    return this.verifier;
  },
  // What a browser does.
  async redirectToAuthorization(address) {
    const response = await fetch(address, { redirect: 'manual' });
    answered = new URL(response.headers.get('location'));
  },
};

const transport = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
const first = transport();
try {
  await new Client({ name: 'client', version: '1' }).connect(first);
  throw new Error('it was let in without a token');
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
if (answered.searchParams.get('state') !== 'the-state') throw new Error('another state');
await first.finishAuth(answered.searchParams.get('code'));

const client = new Client({ name: 'client', version: '1' });
await client.connect(transport());
const { tools } = await client.listTools();
const result = await client.callTool({ name: 'work', arguments: { ms: 1 } });
const told = { tools: tools.map((tool) => tool.name), result: result.content[0].text, tokens: given };
console.log(JSON.stringify(told));
process.exit(0);
