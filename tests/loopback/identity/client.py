"""A client of the official Python SDK that has no token, and gets one in the way that its server tells it.

Usage: client.py URL ISSUER. It prints how a call of the tool `work` ends, and which tokens it was given, as JSON.
"""

import json
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client


class Storage:
    def __init__(self):
        self.tokens = []

    async def get_tokens(self):
        return None

    async def set_tokens(self, tokens):
        self.tokens.append(tokens.scope)

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info):
        pass


async def main():
    url, issuer = sys.argv[1:]
    storage = Storage()
    provider = ClientCredentialsOAuthProvider(
        server_url=url, storage=storage, client_id="agent-7", client_secret="the-secret-of-agent-7", issuer=issuer
    )
    async with httpx2.AsyncClient(auth=provider, follow_redirects=True, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("work", {"ms": 1})
    print(json.dumps({"tools": tools, "result": result.content[0].text, "tokens": storage.tokens}))


anyio.run(main)
