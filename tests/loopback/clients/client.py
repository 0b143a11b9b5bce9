"""A client in Python with its default settings, which calls the tool `work` as often as it is told.

Usage: client.py python-sdk|fastmcp|openai-agents

Each line that it reads is a URL, a number of milliseconds or, in python-sdk, the name of a tool. It connects to the URL, beside the
connections that it has, and prints a line when it is connected. It calls `work` with the number, or the tool of that name, whose result
is checked against the schema that the server has listed, through the last connection. It prints how that ended as JSON: `result`, or
the `error` that was raised with its `code`, `message` and `data` as far as it has them, and
`model`, what the library itself shows to a model, if it does.
"""

import importlib
import json
import logging
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread

logging.disable(logging.CRITICAL)


@asynccontextmanager
async def client_of(package, url):
    async with importlib.import_module(package).Client(url) as client:

        async def call(ms):
            if isinstance(ms, str):
                await client.list_tools()
                return (await client.call_tool(ms, {})).model_dump(mode="json", by_alias=True)
            result = await client.call_tool("work", {"ms": ms})
            return {"result": result.content[0].text}

        yield call


@asynccontextmanager
async def openai_agents(url):
    from agents import Agent
    from agents.mcp import MCPServerStreamableHttp
    from agents.tool_context import ToolContext

    async with MCPServerStreamableHttp({"url": url}) as server:
        agent = Agent(name="agent", mcp_servers=[server])
        context = ToolContext(context=None, tool_name="work", tool_call_id="1", tool_arguments="{}")
        [tool] = [tool for tool in await agent.get_mcp_tools(context) if tool.name == "work"]

        async def call(ms):
            try:
                result = await server.call_tool("work", {"ms": ms})
                return {"result": result.content[0].text}
            except Exception as error:
                model = await tool.on_invoke_tool(context, json.dumps({"ms": ms}))
                return {**told(error), "model": model}

        yield call


def told(error):
    return {
        "error": type(error).__name__,
        "code": getattr(error, "code", None),
        "message": getattr(error, "message", None) or str(error),
        "data": getattr(error, "data", None),
    }


async def main(kind):
    packages = {"python-sdk": "mcp", "fastmcp": "fastmcp"}
    call = None
    async with AsyncExitStack() as connections:
        while line := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            if line.startswith("http"):
                client = client_of(packages[kind], line) if kind in packages else openai_agents(line)
                call = await connections.enter_async_context(client)
                print("connected", flush=True)
                continue
            try:
                said = await call(int(line) if line.isdigit() else line)
            except Exception as error:
                said = told(error)
            print(json.dumps(said, default=str), flush=True)


anyio.run(main, *sys.argv[1:])
