"""An MCP server over HTTP without a library: of one revision, with sessions or without.

Usage: plain.py REVISION [PORT]

It prints its port. GET /seen tells what it has seen.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

revision = sys.argv[1]
port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
has_sessions = revision < "2026-07-28"
lock = threading.Lock()
sessions = set()
visited = set()
# Answers that a call waits for, by the id of the question.
answers = {}
answered = threading.Condition(lock)
seen = {"opened": [], "ended": [], "revisions": []}


def text(value):
    return {"content": [{"type": "text", "text": value}]}


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body=b"", kind="application/json", session=None):
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, message):
        # Revision 2025-03-26 has batches, also of answers.
        message = [message] if revision == "2025-03-26" else message
        self.send(200, json.dumps(message).encode())

    def events(self, messages):
        data = b"".join(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n" for message in messages)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_GET(self):
        if self.path == "/seen":
            with lock:
                return self.send(200, json.dumps(seen).encode())
        self.send(405)

    def do_DELETE(self):
        with lock:
            session = self.headers["Mcp-Session-Id"]
            sessions.discard(session)
            seen["ended"].append(session)
        self.send(200)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stated = self.headers.get("MCP-Protocol-Version", "")
        if (stated >= "2026-07-28") == has_sessions:
            return self.send(400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"another era"}}')
        method, session = message.get("method"), self.headers.get("Mcp-Session-Id")
        with lock:
            if method == "initialize":
                session = f"s{len(seen['opened'])}"
                sessions.add(session)
                seen["opened"].append(session)
            elif has_sessions and session not in sessions:
                return self.send(404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no session"}}')
            else:
                seen["revisions"].append(stated)
            if method is None:
                answers[message["id"]] = message
                answered.notify_all()
        if method is None or "id" not in message:
            return self.send(202)
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        info = {"name": "plain", "version": "1"}
        if method == "initialize":
            result = {"protocolVersion": revision, "capabilities": {"tools": {}}, "serverInfo": info}
            return self.send(200, json.dumps(answer | {"result": result}).encode(), session=session)
        if method == "server/discover":
            result = {"resultType": "complete", "supportedVersions": [revision], "capabilities": {"tools": {}}}
            return self.say(answer | {"result": result | {"serverInfo": info}})
        self.call(answer, session, message["params"])

    def call(self, answer, session, params):
        name = params["name"]
        if name == "forget":
            with lock:
                sessions.clear()
        if name == "long":
            return self.say(answer | {"result": text("x" * 17 * 1024 * 1024)})
        if name == "visit" and session not in visited:
            visited.add(session)
            page = {"mode": "url", "url": "https://a.example", "message": "go", "elicitationId": "e"}
            error = {"code": -32042, "message": "visit first", "data": {"elicitations": [page]}}
            return self.say(answer | {"error": error})
        if name != "ask":
            result = text(session or "none")
            if not has_sessions:
                result["resultType"] = "complete"
            return self.say(answer | {"result": result})
        # Asks so many questions, and answers with the number of errors among the answers to those that are answered at once.
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        many = params["arguments"]["many"]
        ids = [f"{session}-{answer['id']}-{nth}" for nth in range(many)]
        asked = {"message": "who?", "requestedSchema": {"type": "object", "properties": {}}}
        question = {"jsonrpc": "2.0", "method": "elicitation/create", "params": asked}
        self.events([question | {"id": nth} for nth in ids])
        with lock:
            answered.wait_for(lambda: all(question in answers for question in ids), timeout=60)
            errors = sum("error" in answers.get(question, {}) for question in ids)
        self.events([answer | {"result": text(f"{errors} of {many} refused")}])
        self.wfile.write(b"0\r\n\r\n")


server = ThreadingHTTPServer(("127.0.0.1", port), Server)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
