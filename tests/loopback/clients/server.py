"""An MCP server of the official Python SDK with two tools: `work` takes as many milliseconds as it is told, `hold` a minute.

Once it can be connected to, it prints its port.
"""

import logging
import socket

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("clients")


@server.tool()
async def work(ms: int) -> str:
    await anyio.sleep(ms / 1000)
    return "done"


@server.tool()
async def hold() -> str:
    await anyio.sleep(60)
    return "done"


logging.disable(logging.ERROR)
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
# It is called under the name of the tunnel's host.
app = server.streamable_http_app(stateless_http=True, transport_security=None)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
