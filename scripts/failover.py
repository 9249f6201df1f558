"""Counts what clients see while upstreams fail: three real nginx, of which one is killed, one hangs and one flaps.

usage: python3 scripts/failover.py [--binary target/release/witgate] [--seconds 12] [--clients 8]

Each way of care is run by itself: clients ask without a pause, nine GETs for each POST, and every answer is counted. Each
error has to have its reason in witgate's log, or the run fails. What stands in docs/operating.md was printed by this.
"""
import argparse
import collections
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"

CARES = {
    "nothing": "",
    "ejection": 'ejection = { failures = 3, time = "2s", max = "67%" }\n',
    "ejection and retries": 'ejection = { failures = 3, time = "2s", max = "67%" }\n'
                            'retry = { attempts = 2, on = ["connect", "reset", "timeout", "503"], budget = "100%" }\n',
    "health checks, ejection and retries": 'health = { path = "/", interval = "500ms", timeout = "500ms" }\n'
                            'ejection = { failures = 3, time = "2s", max = "67%" }\n'
                            'retry = { attempts = 2, on = ["connect", "reset", "timeout", "503"], budget = "100%" }\n',
}


def unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Nginx:
    """One upstream. Its processes are a group, to be stopped and killed together."""

    def __init__(self, directory):
        self.directory, self.port, self.process = directory, unused_port(), None
        directory.mkdir()
        temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "nginx.conf").write_text(
            f"daemon off; pid {directory}/pid; error_log stderr crit; worker_processes 1; events {{}}\n"
            f"http {{ access_log off; {temporary}\n"
            f"server {{ listen 127.0.0.1:{self.port} reuseport; location / {{ return 200 well; }} }} }}\n")
        self.start()

    def start(self):
        command = [NGINX, "-c", self.directory / "nginx.conf", "-p", self.directory, "-e", "stderr"]
        self.process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        until(lambda: answers(self.port))

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("what was to start does not listen")
        time.sleep(0.01)


def clients(port, count, ended, seen):
    """Threads that ask and count: by method, the status or what became of the connection instead."""
    def ask(number):
        connection, turn = None, number
        while not ended.is_set():
            method = "POST" if turn % 10 == 0 else "GET"
            turn += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request(method, "/", body=b"x" if method == "POST" else None)
                response = connection.getresponse()
                response.read()
                outcome = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection, outcome = None, type(error).__name__
            seen[number][method, outcome] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def reasons(log):
    """What the log says of exchanges that failed, endpoints and times left out."""
    found = collections.Counter()
    for line in log.read_text().splitlines():
        fields = json.loads(line)
        fields = fields.get("fields", fields)
        if fields.get("message") == "exchange failed":
            reason = re.sub(r"127\.0\.0\.1:\d+", "ENDPOINT", fields["reason"])
            found[str(fields["status"]), reason.partition("; then ")[0]] += 1
    return found


def run(options, care, directory):
    killed, hanging, flapping = (Nginx(directory / name) for name in ("killed", "hanging", "flapping"))
    endpoints = ", ".join(f'"http://127.0.0.1:{one.port}"' for one in (killed, hanging, flapping))
    port, log = unused_port(), directory / "log"
    (directory / "witgate.toml").write_text(
        f'[server]\nworkers = 2\n[[listener]]\nname = "main"\nbind = "127.0.0.1:{port}"\n'
        f'[[route]]\nupstream = "origin"\n[upstream.origin]\nendpoints = [{endpoints}]\n'
        f'connect-timeout = "1s"\nresponse-timeout = "1s"\n{CARES[care]}')
    command = [options.binary, "run", "--config", directory / "witgate.toml", "--log-format", "json"]
    ended, seen = threading.Event(), [collections.Counter() for _ in range(options.clients)]
    with log.open("w") as to:
        witgate = subprocess.Popen(command, stdout=to, stderr=subprocess.STDOUT)
        try:
            until(lambda: answers(port))
            threads = clients(port, options.clients, ended, seen)
            time.sleep(1)
            killed.kill()
            hanging.signal(signal.SIGSTOP)
            deadline = time.monotonic() + options.seconds
            while time.monotonic() < deadline:
                time.sleep(1)
                flapping.kill()
                time.sleep(1)
                flapping.start()
            hanging.signal(signal.SIGCONT)
            killed.start()
            time.sleep(1)
            ended.set()
            for thread in threads:
                thread.join()
        finally:
            witgate.terminate()
            witgate.wait()
            hanging.signal(signal.SIGCONT)
            for one in (killed, hanging, flapping):
                one.kill()
    return sum(seen, collections.Counter()), reasons(log)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/witgate")
    parser.add_argument("--seconds", type=int, default=12, help="for which the upstreams fail")
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    for needed in (options.binary, Path(NGINX)):
        if not needed.exists():
            sys.exit(f"{needed} is missing: cargo build --release -p witgate, scripts/setup.sh bench")
    print("| care | requests | errors of GET | errors of POST | what they were |\n|---|---|---|---|---|", flush=True)
    unexplained = 0
    for care in CARES:
        with tempfile.TemporaryDirectory(prefix="witgate-failover-") as directory:
            seen, found = run(options, care, Path(directory))
        total = sum(seen.values())
        errors = {key: count for key, count in seen.items() if key[1] != "200"}
        parts = [sum(count for (method, _), count in errors.items() if method == wanted) for wanted in ("GET", "POST")]
        what = collections.Counter()
        for (_, outcome), count in errors.items():
            what[outcome] += count
        cells = ", ".join(f"{count} × {outcome}" for outcome, count in what.most_common()) or "none"
        print(f"| {care} | {total} | {parts[0]} | {parts[1]} | {cells} |", flush=True)
        for (status, reason), count in found.most_common(8):
            print(f"  {count} × {status}: {reason}", file=sys.stderr, flush=True)
        unexplained += max(0, sum(what.values()) - sum(found.values()))
    if unexplained:
        sys.exit(f"{unexplained} errors have no reason in the log")


main()
