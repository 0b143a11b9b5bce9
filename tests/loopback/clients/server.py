"""An MCP server of the official Python SDK: `work` takes as many milliseconds as it is told, `hold` a minute. The results of `key`,
`note` and `rows` have schemas.

Once it can be connected to, it prints its port.
"""

import logging
import socket
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field

server = MCPServer("clients")


@server.tool()
async def work(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "done"


@server.tool()
async def hold() -> str:
    await anyio.sleep(60)
    return "done"


class Key(BaseModel):
    key: Annotated[str, Field(pattern="^AKIA")]


class Note(BaseModel):
    note: str


class Rows(BaseModel):
    rows: list[int]


@server.tool()
async def key() -> Key:
    return Key(key="AKIAIOSFODNN7EXAMPLE")


@server.tool()
async def note() -> Note:
    return Note(note="it is AKIAIOSFODNN7EXAMPLE")


@server.tool()
async def rows() -> Rows:
    return Rows(rows=list(range(100)))


logging.disable(logging.ERROR)
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
# It is called under the name of the tunnel's host.
app = server.streamable_http_app(stateless_http=True, transport_security=None)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
