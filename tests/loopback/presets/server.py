"""An MCP server as the official Python SDK or FastMCP makes it for a local address.

Usage: server.py python-sdk|fastmcp ADDRESS

ADDRESS is an IPv4 address, on which a free port is taken, or `unix:PATH`. Once it can be connected to, one line is printed: the
port, or the path.
"""

import logging
import socket
import sys

import uvicorn

# Longer than any test: connections that come before the server reads are kept.
BACKLOG = 64


def app(kind):
    if kind == "python-sdk":
        from mcp.server.mcpserver import MCPServer

        # The protection against DNS rebinding is on by default.
        return MCPServer(kind).streamable_http_app()
    from fastmcp import FastMCP

    return FastMCP(kind).http_app(host_origin_protection="auto")


def listen(address):
    if address.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address.removeprefix("unix:"))
    else:
        listener = socket.socket()
        listener.bind((address, 0))
    listener.listen(BACKLOG)
    name = listener.getsockname()
    print(name if isinstance(name, str) else name[1], flush=True)
    return listener


kind, address = sys.argv[1:]
# That it refuses requests is what is tested.
logging.disable(logging.ERROR)
listener = listen(address)
uvicorn.Server(uvicorn.Config(app(kind), log_level="error")).run(sockets=[listener])
