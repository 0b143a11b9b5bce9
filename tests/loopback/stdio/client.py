"""A client of the official Python SDK, in both eras, of the server in server.py. It prints what it gets, line by line.

Usage: client.py URL
"""

import json
import sys

import anyio
from mcp import Client, MCPError
from mcp.types import ElicitResult

# Longest wait for anything, in seconds.
PATIENCE_S = 30


def say(era, what, value):
    print(json.dumps([era, what, value]), flush=True)


async def session(url, mode):
    async def on_elicit(context, params):
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with Client(url, mode=mode, read_timeout_seconds=PATIENCE_S, elicitation_callback=on_elicit) as client:
        era = client.protocol_version

        async def call(tool, arguments, **more):
            result = await client.call_tool(tool, arguments, **more)
            return [block.text for block in result.content]

        say(era, "tools", sorted(tool.name for tool in (await client.list_tools()).tools))
        say(era, "echo", await call("echo", {"text": "ż\n\"\\"}))
        counted = []

        async def on_progress(progress, total, message):
            counted.append(progress)

        say(era, "count", await call("count", {"steps": 5}, progress_callback=on_progress))
        while len(counted) < 5:
            await anyio.sleep(0.001)
        say(era, "progress", sorted(counted))
        if mode == "legacy":
            say(era, "ask", await call("ask", {}))
        try:
            await client.read_resource("test://nothing")
        except MCPError as error:
            say(era, "error", error.code)


async def main(url):
    with anyio.fail_after(2 * PATIENCE_S):
        for mode in ["legacy", "auto"]:
            await session(url, mode)


anyio.run(main, sys.argv[1])
