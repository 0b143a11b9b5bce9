"""An MCP server of the official Python SDK that speaks over standard input and output."""

import os
import subprocess
import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("stdio")
print("started", file=sys.stderr, flush=True)


@server.tool()
async def echo(text: str) -> str:
    return text


@server.tool()
async def work(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "done"


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    for step in range(steps):
        await ctx.report_progress(step, steps)
    return "counted"


class Name(BaseModel):
    name: str


@server.tool()
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("who?", Name)
    return answer.data.name


@server.tool()
async def begin(ms: int, ctx: Context) -> str:
    """Reports progress at once, and answers later."""
    await ctx.report_progress(1, 2)
    await anyio.sleep(ms / 1000)
    return "finished"


@server.tool()
def number() -> str:
    """The number of this process, and of one that it has started and left alone in a session of its own."""
    left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return f"{os.getpid()} {left.pid}"


@server.tool()
def variable(name: str) -> str:
    return os.environ.get(name, "unset")


@server.tool()
def litter(lines: int) -> str:
    """Writes what is no message to standard output."""
    for line in range(lines):
        os.write(1, b"a stray line\r\n\n")
    return "littered"


@server.tool()
def end(code: int) -> str:
    os._exit(code)


server.run(transport="stdio")
