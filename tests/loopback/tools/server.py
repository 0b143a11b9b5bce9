"""An MCP server of the official Python SDK with two tools, of which one is described as it is told, a prompt and a resource.

Usage: server.py [PORT]

Once it can be connected to, it prints its port. Each line that it reads is the new description of the tool `add`, and is printed once
that is in force.
"""

import logging
import socket
import sys
import threading

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("tools")


def add(a: int, b: int) -> int:
    return a + b


@server.tool(description="Says hello.")
def greet(name: str) -> str:
    return f"hello {name}"


@server.prompt(description="Asks for a review.")
def review(text: str) -> str:
    return f"Please review: {text}"


@server.resource("notes://one", description="A note.")
def note() -> str:
    return "one"


def describe():
    while line := sys.stdin.readline():
        server.remove_tool("add")
        server.add_tool(add, description=line.strip())
        print(line.strip(), flush=True)


server.add_tool(add, description="Adds two numbers.")
logging.disable(logging.ERROR)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
threading.Thread(target=describe, daemon=True).start()
# It is called under the name of the tunnel's host. The answers are event streams, as by default.
app = server.streamable_http_app(stateless_http=True, transport_security=None)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
