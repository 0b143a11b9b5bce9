"""An MCP server without a library, which starts fast and misbehaves when it is told to."""

import json
import os
import signal
import sys
import threading
import time

answered = []
# How many more bytes are written before the end, if it was asked for.
left = None


def write(data):
    global left
    if left is not None:
        data, left = data[:left], left - len(data)
    while data:
        data = data[os.write(1, data):]
    if left is not None and left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


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


def call(number, name, arguments, token):
    global left
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
    if name == "die":
        # What it writes from here on ends anywhere, also within a line. If nobody asks for so much, it ends soon.
        left = arguments["after"]
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGKILL]).start()
        return None
    if name == "announce":
        for _ in range(arguments["many"]):
            params = {"_meta": {"pad": "x" * arguments["len"]}}
            say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params})
    if name == "report":
        for step in range(arguments["many"]):
            params = {"progressToken": token, "progress": step, "message": "x" * arguments["len"]}
            say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    if name == "giant":
        for _ in range(arguments["len"] // 1_000_000):
            write(b"x" * 1_000_000)
        write(b"\n")
    if name == "deaf":
        time.sleep(arguments["s"])
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
        params = message["params"]
        call(number, params["name"], params.get("arguments", {}), params.get("_meta", {}).get("progressToken"))
    else:
        say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no such method"}})
