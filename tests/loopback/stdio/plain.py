"""An MCP server without a library, which starts fast and misbehaves when it is told to."""

import json
import os
import sys

answered = []


def write(data):
    os.write(1, data)


def say(message):
    write(json.dumps(message, ensure_ascii=False).encode() + b"\n")


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def misbehave(answer):
    """Everything that is tolerated, around one answer."""
    line = json.dumps(answer).encode()
    write(b"started up\r\n\r\n   \n{not json}\n[1, 2]\n\xff\xfe\n" + b'{"jsonrpc":"2.0","id":1,"result":"\xff"}\n')
    say({"jsonrpc": "2.0", "id": 987654321, "result": {}})
    say({"jsonrpc": "2.0", "id": "no such id", "result": {}})
    write(b"x" * 3_000_000 + b"\n")
    write(b"\xef\xbb\xbf  " + line + b" \r\n" + line + b"\n")


def call(number, name, arguments):
    answer = {"jsonrpc": "2.0", "id": number}
    if name == "misbehave":
        return misbehave(answer | {"result": text("tolerated")})
    if name == "long":
        return say(answer | {"result": text("x" * arguments["len"])})
    if name == "end":
        os._exit(arguments["code"])
    if name == "complain":
        for line in range(arguments["lines"]):
            print("a line of the log", line, file=sys.stderr)
        sys.stderr.flush()
    if name == "ask":
        # The answer to the call follows the answer to this.
        answered.append(number)
        return say({"jsonrpc": "2.0", "id": f"ask-{number}", "method": arguments["method"], "params": {}})
    if name == "silent":
        return None
    said = {"pid": str(os.getpid()), "echo": arguments.get("text", "")}.get(name, "done")
    say(answer | {"result": text(said)})


for line in sys.stdin.buffer:
    message = json.loads(line)
    number, method = message.get("id"), message.get("method")
    if method is None:
        call_of = int(str(number).removeprefix("ask-"))
        what = "error" if "error" in message else "result"
        say({"jsonrpc": "2.0", "id": call_of, "result": text(what + " " + json.dumps(message[what]))})
    elif number is None:
        continue
    elif method == "initialize":
        if "--mute" in sys.argv:
            continue
        info = {"name": "plain", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        say({"jsonrpc": "2.0", "id": number, "result": result})
    elif method == "tools/call":
        call(number, message["params"]["name"], message["params"].get("arguments", {}))
    else:
        say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no such method"}})
