"""An MCP server of the official Python SDK that has every kind of thing which a policy is about.

Usage: server.py. Once it can be connected to, it prints its port.

`/json` answers with JSON, `/events` with event streams. A POST to `/reached` answers with what has reached the server since the last
one: a list of the JSON-RPC messages.
"""

import json
import logging
import socket
from contextlib import AsyncExitStack

import anyio
import uvicorn
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

TOOLS = ["get_a", "get_b", "put_a", "drop"]
PROMPTS = ["ask_a", "ask_b", "plan"]
RESOURCES = ["note://items/1", "note://items/2", "file:///docs/a", "file:///etc/b"]
TEMPLATES = ["note://items/{id}", "file:///docs/{name}"]

reached = []


async def list_tools(context, params):
    tools = [
        types.Tool(
            name=name,
            input_schema={"type": "object"},
            annotations=types.ToolAnnotations(read_only_hint=name.startswith("get_")),
        )
        for name in TOOLS
    ]
    return types.ListToolsResult(tools=tools, cache_scope="public")


async def call_tool(context, params):
    return types.CallToolResult(content=[types.TextContent(type="text", text=f"called {params.name}")])


async def list_prompts(context, params):
    return types.ListPromptsResult(prompts=[types.Prompt(name=name) for name in PROMPTS])


async def get_prompt(context, params):
    content = types.TextContent(type="text", text=f"got {params.name}")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


async def list_resources(context, params):
    return types.ListResourcesResult(resources=[types.Resource(name=uri, uri=uri) for uri in RESOURCES])


async def list_templates(context, params):
    templates = [types.ResourceTemplate(name=uri, uri_template=uri) for uri in TEMPLATES]
    return types.ListResourceTemplatesResult(resource_templates=templates)


async def read_resource(context, params):
    content = types.TextResourceContents(uri=params.uri, text=f"read {params.uri}")
    return types.ReadResourceResult(contents=[content])


async def complete(context, params):
    return types.CompleteResult(completion=types.Completion(values=["one", "two"]))


async def do_nothing(context, params):
    return types.EmptyResult()


async def tell(context, call_next):
    """Tells of the progress first, where that is asked for, so that the answer is an event stream in both eras."""
    if context.request_id is not None:
        await context.session.report_progress(1)
    return await call_next(context)


def server():
    made = Server(
        "governed",
        version="1",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=do_nothing,
        on_unsubscribe_resource=do_nothing,
        on_completion=complete,
    )
    for method in ["logging/setLevel", "tasks/get", "tasks/cancel", "x/own"]:
        made.add_request_handler(method, types.RequestParams, do_nothing)
    made.middleware.append(tell)
    return made


async def told(receive, send):
    """Answers with the messages that have come, and forgets them."""
    await receive()
    body = json.dumps(reached).encode()
    reached.clear()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def main():
    # It is called under the name of the tunnel's host.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    apps = {
        path: server().streamable_http_app(
            streamable_http_path=path,
            stateless_http=True,
            json_response=path == "/json",
            transport_security=security,
        )
        for path in ["/json", "/events"]
    }

    async def dispatch(scope, receive, send):
        if scope["path"] == "/reached":
            return await told(receive, send)

        async def receive_and_note():
            event = await receive()
            # Messages are short, and come in one piece.
            if event["type"] == "http.request" and event.get("body"):
                reached.append(json.loads(event["body"]))
            return event

        await apps[scope["path"]](scope, receive_and_note, send)

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    async with AsyncExitStack() as stack:
        for app in apps.values():
            await stack.enter_async_context(app.router.lifespan_context(app))
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(dispatch, log_level="error", lifespan="off")
        await uvicorn.Server(config).serve(sockets=[listener])


logging.disable(logging.ERROR)
anyio.run(main)
