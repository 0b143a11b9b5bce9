"""What readers of the official Python SDK make of bodies: those of its transports for HTTP in both eras, and of its other ones.

Usage: reads.py. Each line that it reads is a body in hexadecimal. For each it prints what all readers take it for: a list of calls, each
the method and what it names.
"""

import json
import sys

import pydantic_core
from mcp.types import (
    CallToolRequestParams,
    CompleteRequestParams,
    GetPromptRequestParams,
    JSONRPCRequest,
    ReadResourceRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

NAMES = {
    "tools/call": (CallToolRequestParams, lambda params: params.name),
    "prompts/get": (GetPromptRequestParams, lambda params: params.name),
    "resources/read": (ReadResourceRequestParams, lambda params: str(params.uri)),
    "resources/subscribe": (SubscribeRequestParams, lambda params: str(params.uri)),
    "resources/unsubscribe": (UnsubscribeRequestParams, lambda params: str(params.uri)),
    "completion/complete": (
        CompleteRequestParams,
        lambda params: params.ref.name if params.ref.type == "ref/prompt" else params.ref.uri,
    ),
}
READERS = [
    # The transport of the revisions with sessions.
    lambda body: jsonrpc_message_adapter.validate_python(pydantic_core.from_json(body), by_name=False),
    # That of 2026-07-28, whose reader finds out the encoding.
    lambda body: JSONRPCRequest.model_validate(json.loads(body)),
    # Those of the older transport for HTTP and of standard input.
    lambda body: jsonrpc_message_adapter.validate_json(body, by_name=False),
]


def read(reader, body):
    message = reader(body)
    method = getattr(message, "method", None)
    if method not in NAMES:
        return method and [method, None]
    model, name_of = NAMES[method]
    return [method, name_of(model.model_validate(message.params or {}, by_name=False))]


def calls(body):
    found = []
    for reader in READERS:
        try:
            call = read(reader, body)
        except (ValidationError, ValueError, RecursionError):
            continue
        if call and call not in found:
            found.append(call)
    return found


for line in sys.stdin:
    print(json.dumps(calls(bytes.fromhex(line.strip()))))
