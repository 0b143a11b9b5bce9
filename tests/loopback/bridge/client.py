"""A client of the official Python SDK that calls servers in one mode each, and prints what it gets as lines of JSON.

Usage: client.py MODE=URL ...
"""

import json
import sys

import anyio
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.types import ElicitResult

# Longest wait for anything, in seconds.
PATIENCE_S = 30


async def session(name, mode, target):
    def say(what, value):
        print(json.dumps([name, what, value]), flush=True)

    async def on_elicit(context, params):
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with Client(target, mode=mode, read_timeout_seconds=PATIENCE_S, elicitation_callback=on_elicit) as client:
        say("revision", [client.protocol_version, client.instructions])

        async def call(tool, arguments, **more):
            result = await client.call_tool(tool, arguments, **more)
            return result.content[0].text

        say("tools", sorted(tool.name for tool in (await client.list_tools()).tools))
        say("echo", await call("echo", {"text": "ż\n\"\\"}))
        counted = []

        async def on_progress(progress, total, message):
            counted.append(progress)

        say("count", await call("count", {"steps": 3}, progress_callback=on_progress))
        say("progress", sorted(counted))
        try:
            say("ask", await call("ask", {}))
        except MCPError as error:
            say("ask", error.code)
        say("resource", (await client.read_resource("test://a")).contents[0].text)
        prompt = await client.get_prompt("greet", {"name": "Bob"})
        say("prompt", prompt.messages[0].content.text)
        try:
            await client.read_resource("test://nothing")
        except MCPError as error:
            say("error", error.code)
        with anyio.move_on_after(0.3):
            await call("hold", {"mark": name})


async def main(targets):
    with anyio.fail_after(2 * PATIENCE_S):
        for target in targets:
            name, mode, url = target.split("=", 2)
            if mode == "sse":
                await session(name, "legacy", sse_client(url))
            else:
                await session(name, mode, url)


anyio.run(main, sys.argv[1:])
