"""A client of the official Python SDK, or of FastMCP, which prints what it gets as one line of JSON.

Usage: client.py sdk|fastmcp legacy|auto URL TOOL ARGUMENTS
"""

import json
import sys

import anyio


async def main(kind, mode, url, tool, arguments):
    if kind == "sdk":
        from mcp import Client
    else:
        from fastmcp import Client
    async with Client(url, mode=mode) as client:
        listed = await client.list_tools()
        names = sorted(tool.name for tool in getattr(listed, "tools", listed))
        result = await client.call_tool(tool, json.loads(arguments))
        text = " ".join(block.text for block in result.content if block.type == "text")
    print(json.dumps({"tools": names, "text": text}))


anyio.run(main, *sys.argv[1:])
