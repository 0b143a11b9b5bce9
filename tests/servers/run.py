"""Calls real MCP servers that speak stdio through adit, with real clients, in both eras of MCP.

    python3 tests/servers/run.py [--adit target/debug/adit]

Servers and clients are fetched once, from npm and PyPI, into target/servers. Each server runs behind `adit up`, directly and with
the era bridge. Each client lists its tools and calls one of them, in a session (2025-11-25), and with the newest revision that it
and the server share. All clients must see the same tools and the text that is expected. Exit code 1 if a call fails.
"""

import argparse
import concurrent.futures
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / "target" / "servers"
# The longest that a client may take, in seconds.
PATIENCE_S = 60
PAGE = b"<html><body><h1>A page for the test</h1></body></html>"


def fetch():
    """Fetches what the pins name, unless it is there."""
    pins = "".join((HERE / name).read_text() for name in ("package.json", "requirements.txt", "requirements-1.txt"))
    stamp = HOME / "pins"
    if stamp.exists() and stamp.read_text() == pins:
        return
    print(f"fetching servers and clients into {HOME} (once)", file=sys.stderr)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    shutil.copy(HERE / "package.json", HOME)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=HOME, check=True)
    for venv, requirements in (("venv", "requirements.txt"), ("venv-1", "requirements-1.txt")):
        subprocess.run([sys.executable, "-m", "venv", venv], cwd=HOME, check=True)
        pip = [f"{venv}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", HERE / requirements], cwd=HOME, check=True)
    stamp.write_text(pins)


def npm(name):
    return str(HOME / "node_modules" / ".bin" / name)


def pypi(name, venv="venv"):
    return str(HOME / venv / "bin" / name)


class Page(http.server.BaseHTTPRequestHandler):
    """The page that the server `fetch` fetches."""

    def do_GET(self):
        found = self.path == "/page"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


def servers(folder, page):
    """Name, command, tool, its arguments, and what its answer contains."""
    note = folder / "note.txt"
    note.write_text("what the file says")
    thought = {"thought": "one", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1}
    return [
        ("everything", [npm("mcp-server-everything"), "stdio"], "echo", {"message": "hello"}, "hello"),
        ("filesystem", [npm("mcp-server-filesystem"), str(folder)], "read_text_file", {"path": str(note)}, "what the file says"),
        ("memory", [npm("mcp-server-memory")], "read_graph", {}, "entities"),
        ("sequential-thinking", [npm("mcp-server-sequential-thinking")], "sequentialthinking", thought, "thoughtNumber"),
        ("time", [pypi("mcp-server-time"), "--local-timezone", "UTC"], "get_current_time", {"timezone": "UTC"}, "UTC"),
        ("sqlite", [pypi("mcp-server-sqlite", "venv-1"), "--db-path", str(folder / "a.db")], "list_tables", {}, "["),
        ("fetch", [pypi("mcp-server-fetch"), "--ignore-robots-txt", "--allow-private-ips"], "fetch", {"url": page, "raw": True}, "A page for the test"),
    ]


def clients():
    """Name, era, and the command that a client is for a URL, a tool and its arguments."""
    python, script = pypi("python"), str(HERE / "client.py")
    found = []
    for era, mode in (("2025-11-25", "legacy"), ("the newest", "auto")):
        for name, kind in (("Python SDK", "sdk"), ("FastMCP", "fastmcp")):
            found.append((name, era, lambda url, tool, given, kind=kind, mode=mode: [python, script, kind, mode, url, tool, given]))
        found.append(
            ("TypeScript SDK", era, lambda url, tool, given, mode=mode: ["node", str(HERE / "client.mjs"), str(HOME), mode, url, tool, given])
        )
        found.append(("Inspector", era, lambda url, tool, given, mode=mode: inspector(url, mode, tool, given)))
    return found


def inspector(url, mode, tool, given):
    given = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in json.loads(given).items()]
    call = [npm("mcp-inspector"), "--cli", url, "--transport", "http", "--protocol-era", mode, "--method", "tools/call"]
    return [*call, "--tool-name", tool, *[word for pair in given for word in ("--tool-arg", pair)]]


class Events:
    """A process of adit that prints events."""

    def __init__(self, words):
        env = {**os.environ, "ADIT_LOG": "error"}
        self.child = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)

    def until(self, name):
        for line in self.child.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
        raise SystemExit(f"{self.child.args} has ended")

    def close(self):
        self.child.terminate()
        self.child.wait(PATIENCE_S)
        self.child.stdout.close()


class Site:
    """adit in front of a server: `adit up`, or an edge and a connector with the era bridge."""

    def __init__(self, adit, command, has_bridge):
        self.folder = tempfile.TemporaryDirectory()
        self.running = []
        try:
            self.start(adit, command, has_bridge)
        except BaseException:
            self.close()
            raise

    def start(self, adit, command, has_bridge):
        if has_bridge:
            self.url = self.start_two(adit, command, pathlib.Path(self.folder.name))
            return
        up = Events([adit, "up", "--listen", "127.0.0.1:0", "--admin", "off", "--json", "--", *command])
        self.running.append(up)
        self.url = up.until("listening")["plain_agent_url"]
        up.until("linked")

    def start_two(self, adit, command, folder):
        data = ["--data-dir", str(folder / "edge")]
        subprocess.run([adit, "edge", "init", *data, "--name", "localhost"], check=True, stdout=subprocess.DEVNULL)
        listen = ["--listen", "127.0.0.1:0", "--connectors-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        edge = Events([adit, "edge", *data, *listen, "--json"])
        self.running.append(edge)
        ready = edge.until("listening")
        admin = ["--admin", f"http://{ready['admin']}", "--admin-token-file", str(folder / "edge" / "admin.token")]
        made = subprocess.run([adit, "tunnel", "create", *admin, "--host", "localhost", "--json"], check=True, capture_output=True)
        token, config = folder / "tunnel.token", folder / "connect.toml"
        token.touch(0o600)
        token.write_text(json.loads(made.stdout)["token"]["tunnel_token"])
        route = f"[[route]]\nhost = 'localhost'\nupstream = 'stdio'\nbridge = 'auto'\ncommand = {json.dumps(command)}\n"
        config.write_text(f"[connect]\nedge = ['localhost:{ready['connectors'].rsplit(':', 1)[1]}']\ntoken_file = '{token}'\n{route}")
        connector = Events([adit, "connect", "--config", str(config), "--json"])
        self.running.append(connector)
        connector.until("linked")
        return f"http://localhost:{ready['agents'].rsplit(':', 1)[1]}/mcp"

    def close(self):
        for process in reversed(self.running):
            process.close()
        self.folder.cleanup()


def attempt(command):
    """What a client got, or why it failed."""
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, "it took too long"
    if out.returncode != 0:
        return None, (out.stderr.strip() or out.stdout.strip())[-400:]
    return out.stdout, None


def check(adit, server, has_bridge):
    """The cells of one server."""
    name, command, tool, given, expected = server
    site, cells, tools = Site(adit, command, has_bridge), [], None
    bridge = "with the bridge" if has_bridge else "adit up"
    try:
        for client, era, command_for in clients():
            began = time.monotonic()
            out, why = attempt(command_for(site.url, tool, json.dumps(given)))
            if why is None and expected not in out:
                why = f"it got {out[:400]}"
            if why is None and client != "Inspector":
                listed = json.loads(out.splitlines()[-1])["tools"]
                tools = tools or listed
                why = None if listed == tools else f"it sees other tools: {listed}"
            cells.append((name, bridge, client, era, time.monotonic() - began, why))
    finally:
        site.close()
    return cells


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--adit", default=str(ROOT / "target" / "debug" / "adit"))
    args.add_argument("--jobs", type=int, default=2)
    args.add_argument("--only", help="the name of one server")
    args = args.parse_args()
    fetch()
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        each = servers(pathlib.Path(folder).resolve(), f"http://127.0.0.1:{pages.server_port}/page")
        each = [server for server in each if args.only in (None, server[0])]
        runs = [(server[0], pool.submit(check, args.adit, server, has_bridge)) for server in each for has_bridge in (False, True)]
        failed = 0
        for server, run in runs:
            cells = run.result()
            bad = [cell for cell in cells if cell[-1]]
            print(f"{server:20} {cells[0][1]:16} {len(cells) - len(bad)} of {len(cells)}", flush=True)
            for _, _, client, era, took, why in bad:
                print(f"  failed: {client}, {era}, after {took:.1f} s: {why}", flush=True)
            failed += len(bad)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
