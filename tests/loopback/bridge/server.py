"""MCP servers of the official Python SDK, each of which speaks one era, at the paths of one port.

/sessions    with sessions, Streamable HTTP
/plain       the same without keeping sessions
/sse         the transport HTTP+SSE of 2024-11-05
/modern      2026-07-28 alone

Once it can be connected to, it prints its port. On /seen it tells the credentials of each session that was opened.
"""

import logging
import socket
from contextlib import AsyncExitStack
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel
from starlette.responses import JSONResponse

logging.disable(logging.ERROR)
FIRST_WITHOUT_SESSIONS = b"2026-07-28"
opened = []
cancelled = []


class Name(BaseModel):
    name: str


async def who(ctx: Context) -> Elicit[Name]:
    return Elicit("who?", Name)


def server():
    server = MCPServer("bridge", instructions="Be kind.")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def count(steps: int, ctx: Context) -> str:
        for step in range(steps):
            await ctx.report_progress(step, steps)
        return "counted"

    @server.tool()
    async def ask(name: Annotated[Name, Resolve(who)]) -> str:
        return f"hello {name.name}"

    @server.tool()
    async def hold(mark: str) -> str:
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            cancelled.append(mark)
            raise
        return "held"

    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool()
    async def credential(ctx: Context) -> str:
        return ctx.headers.get("authorization", "none")

    @server.resource("test://a")
    def a() -> str:
        return "the resource"

    @server.prompt()
    def greet(name: str) -> str:
        return f"Hello, {name}"

    return server


def only(app, path, is_modern):
    """The application, for requests of one era."""

    async def limited(scope, receive, send):
        headers = dict(scope["headers"])
        wants_modern = headers.get(b"mcp-protocol-version", b"") >= FIRST_WITHOUT_SESSIONS
        if wants_modern != is_modern:
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Bad Request"}}
            return await JSONResponse(error, 400)(scope, receive, send)
        if not is_modern and b"mcp-session-id" not in headers:
            opened.append([path, headers.get(b"authorization", b"").decode()])
        await app(scope, receive, send)

    return limited


async def main():
    with_sessions, plain, sse, modern = server(), server(), server(), server()
    apps = {
        "/sessions": only(
            with_sessions.streamable_http_app(streamable_http_path="/sessions", transport_security=None), "/sessions", False
        ),
        "/plain": only(
            plain.streamable_http_app(streamable_http_path="/plain", stateless_http=True, json_response=True), "/plain", False
        ),
        "/modern": only(modern.streamable_http_app(streamable_http_path="/modern"), "/modern", True),
    }
    old = sse.sse_app(sse_path="/sse", message_path="/messages/")

    async def application(scope, receive, send):
        path = scope["path"]
        if path == "/seen":
            return await JSONResponse({"opened": opened, "cancelled": cancelled})(scope, receive, send)
        await apps.get(path, old)(scope, receive, send)

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    async with AsyncExitStack() as stack:
        for one in with_sessions, plain, modern:
            await stack.enter_async_context(one.session_manager.run())
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(application, log_level="error", lifespan="off")
        await uvicorn.Server(config).serve(sockets=[listener])


anyio.run(main)
