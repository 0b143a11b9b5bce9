"""A plain session with the official Python SDK, in both eras, printed line by line so that two runs can be compared.

Usage: session.py URL [--http2]

With --http2 all requests are HTTP/2 in the clear. Nothing that differs between two honest runs is printed: no times, no ids, no
addresses.
"""

import hashlib
import json
import sys
from contextlib import asynccontextmanager

import anyio
import h2.errors
import httpx2
from httpcore2._async.http2 import AsyncHTTP2Connection
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

# Longest wait for anything, in seconds: reached only when something was lost on the way.
PATIENCE_S = 20


def say(era, what, **facts):
    print(json.dumps({"era": era, "step": what, **facts}, sort_keys=True, ensure_ascii=False), flush=True)


def texts(result):
    return [block.text for block in result.content if block.type == "text"]


async def until(there):
    """Waits for callbacks that the SDK runs as tasks of their own, so after the answer that they came before."""
    while not there():
        await anyio.sleep(0.001)


async def hold_and_cancel(client, holds):
    """Starts a call that never ends, cancels it once it runs, and asks the server whether it saw that."""
    running = anyio.Event()

    async def on_progress(progress, total, message):
        running.set()

    async def hold():
        await client.call_tool("session_hold", {}, progress_callback=on_progress)

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await running.wait()
        group.cancel_scope.cancel()
    return texts(await client.call_tool("session_was_cancelled", {"holds": holds}))


async def change(client, era, told):
    """Has the server change its tools and waits until the change was told: by a listen or by the GET stream."""
    if era == "2026-07-28":
        async with client.listen(tools_list_changed=True) as heard:
            await client.call_tool("test_trigger_tool_change", {})
            async for event in heard:
                return type(event).__name__
    await client.call_tool("test_trigger_tool_change", {})
    await told.wait()
    return "told"


def reset_streams_that_are_given_up():
    """Has the client's library tell the server when a response is closed before its end.

    As it is (httpcore2 2.16.2, `_response_closed`) it forgets the stream and sends nothing, so that no server can see that the SDK
    cancels a call of the revision in which that is done by closing the stream.
    """
    forget = AsyncHTTP2Connection._response_closed

    async def reset_and_forget(connection, stream_id):
        state = connection._h2_state
        stream = state.streams.get(stream_id)
        if stream is not None and not stream.closed:
            state.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
            async with connection._write_lock:
                await connection._network_stream.write(state.data_to_send())
        await forget(connection, stream_id)

    AsyncHTTP2Connection._response_closed = reset_and_forget


@asynccontextmanager
async def http2_transport(url):
    """The SDK's transport over a client that speaks nothing but HTTP/2."""

    async def check(response):
        assert response.http_version == "HTTP/2", response.http_version

    timeout = httpx2.Timeout(PATIENCE_S)
    async with httpx2.AsyncClient(http1=False, http2=True, timeout=timeout, event_hooks={"response": [check]}) as client:
        async with streamable_http_client(url, http_client=client) as streams:
            yield streams


async def session(url, over_http2, mode, holds):
    logged, told = [], anyio.Event()

    async def on_log(params):
        logged.append(params.data)

    async def on_message(message):
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            told.set()

    async def on_elicit(context, params):
        return ElicitResult(action="accept", content={"username": "u", "email": "u@example.com", "name": "Ada"})

    async with Client(
        http2_transport(url) if over_http2 else url,
        mode=mode,
        read_timeout_seconds=PATIENCE_S,
        logging_callback=on_log,
        log_level="info" if mode == "auto" else None,
        message_handler=on_message,
        elicitation_callback=on_elicit,
    ) as client:
        era = client.protocol_version
        say(era, "connected", server=client.server_info.name)

        tools = (await client.list_tools()).tools
        schemas = json.dumps([tool.input_schema for tool in tools], sort_keys=True)
        say(era, "list", tools=[tool.name for tool in tools], schemas=hashlib.sha256(schemas.encode()).hexdigest())

        say(era, "call", text=texts(await client.call_tool("test_simple_text", {})))
        large = "".join(texts(await client.call_tool("session_large", {})))
        say(era, "large", length=len(large), digest=hashlib.sha256(large.encode()).hexdigest())

        counted = []

        async def on_progress(progress, total, message):
            counted.append([progress, total])

        result = texts(await client.call_tool("session_count", {"to": 20}, progress_callback=on_progress))
        await until(lambda: len(counted) >= 20)
        say(era, "progress", text=result, told=sorted(counted))

        result = texts(await client.call_tool("test_tool_with_logging", {}))
        await until(lambda: len(logged) >= 3)
        say(era, "stream", text=result, logged=sorted(logged))

        say(era, "cancel", text=await hold_and_cancel(client, holds))
        say(era, "change", heard=await change(client, era, told))

        ask = "test_input_required_result_elicitation" if era == "2026-07-28" else "test_elicitation"
        say(era, "elicit", text=texts(await client.call_tool(ask, {"message": "who?"})))

        read = await client.read_resource("test://template/123/data")
        say(era, "resource", text=[content.text for content in read.contents])
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a b", "arg2": "ż"})
        say(era, "prompt", text=[message.content.text for message in prompt.messages])

        failed = await client.call_tool("test_error_handling", {})
        say(era, "tool error", is_error=failed.is_error, text=texts(failed))
        try:
            await client.call_tool("no_such_tool", {})
        except MCPError as error:
            say(era, "unknown tool", code=error.code, message=error.message)


async def main(url, over_http2):
    if over_http2:
        reset_streams_that_are_given_up()
    with anyio.fail_after(4 * PATIENCE_S):
        for holds, mode in enumerate(["legacy", "auto"], start=1):
            await session(url, over_http2, mode, holds)


anyio.run(main, sys.argv[1], "--http2" in sys.argv[2:])
