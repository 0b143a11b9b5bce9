"""A client of the official Python SDK, of 2026-07-28, which listens to changes. It prints what it gets as lines of JSON.

Usage: listener.py URL
"""

import json
import sys

import anyio
from mcp import Client
from mcp.types import ElicitResult

# Longest wait for anything, in seconds.
PATIENCE_S = 30


async def main(url):
    async def on_elicit(context, params):
        return ElicitResult(action="accept", content={"name": "Ada"})

    with anyio.fail_after(2 * PATIENCE_S):
        async with Client(url, read_timeout_seconds=PATIENCE_S, elicitation_callback=on_elicit) as client:
            print(json.dumps(["revision", client.protocol_version, client.instructions]), flush=True)
            tools = sorted(tool.name for tool in (await client.list_tools()).tools)
            print(json.dumps(["tools", tools]), flush=True)
            print(json.dumps(["ask", (await client.call_tool("ask", {})).content[0].text]), flush=True)
            async with client.listen(tools_list_changed=True, resource_subscriptions=["test://a"]) as heard:
                honored = heard.honored
                print(json.dumps(["granted", honored.tools_list_changed, honored.resource_subscriptions]), flush=True)
                kinds = set()

                async def change():
                    # The stream with the server may be opened a little later than that of the client.
                    while len(kinds) < 2:
                        await client.call_tool("change", {})
                        await anyio.sleep(0.05)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(change)
                    async for event in heard:
                        kinds.add(type(event).__name__)
                        if len(kinds) == 2:
                            break
                print(json.dumps(["heard", sorted(kinds)]), flush=True)


anyio.run(main, sys.argv[1])
