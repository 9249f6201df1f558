"""The programs under test and what they stand before: configurations, starting, stopping, what they used."""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

TOKEN = "bench-token-of-32-characters-long"
HOST = "bench.example"
# The proxy under test has the first core for itself where there are two; whatever loads it has the second.
PROXY_CPU, LOAD_CPU = 0, 1
# More than the most connections of a measurement, on both sides. nginx takes memory for each one that it might have.
FILES = 1 << 16


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def raise_limits():
    """As many files as are needed, for this process and those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if most == resource.RLIM_INFINITY else min(most, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def files():
    """So many may be open in each process that is started."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def prepare(cpu):
    """What a child process does before it becomes the program: it takes its core."""
    def run():
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[cpu]})
    return run


class Program:
    """A running program, with all its processes."""

    def __init__(self, command, port, directory, cpu, environment=None):
        self.command, self.port = command, port
        self.log = open(Path(directory) / "log", "ab")
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd=directory, preexec_fn=prepare(cpu),
            env={**os.environ, **(environment or {})}, start_new_session=True)

    def wait_until_open(self, limit=30):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.command[0]} ended at once: {Path(self.log.name).read_text()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.001)
        raise SystemExit(f"{self.command[0]} does not listen")

    def pids(self):
        """Its own and those of its children."""
        found = [self.process.pid]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == self.process.pid:
                    found.append(int(entry.name))
        return found

    def cpu_seconds(self):
        """User and system time so far."""
        total = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def resident_kib(self):
        """Memory that is its own, without what it shares with others."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1])
        return total

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()


NGINX = shutil.which("nginx") or "/usr/sbin/nginx"

NGINX_FRAME = """worker_processes 1; daemon off; pid {dir}/nginx.pid; {user}
worker_rlimit_nofile {files}; worker_shutdown_timeout 20s;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; server_tokens off; default_type text/plain;
  keepalive_timeout {keep}; keepalive_requests 1000000000;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
{rest}
}}
"""


def write_nginx(directory, rest, keep="600s"):
    user = "user root;" if os.getuid() == 0 else ""
    text = NGINX_FRAME.format(dir=directory, rest=rest, keep=keep, files=files(), connections=files() - 64, user=user)
    (Path(directory) / "nginx.conf").write_text(text)


def start_nginx(directory, port, cpu):
    command = [NGINX, "-e", "stderr", "-c", f"{directory}/nginx.conf", "-p", str(directory)]
    return Program(command, port, directory, cpu)


def origin(directory):
    """What the proxies stand before: a short text, and 100 KiB at /big."""
    directory.mkdir()
    port = free_port()
    (directory / "big").write_bytes(b"x" * (100 << 10))
    write_nginx(directory, f"""
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 "a short answer of the origin to $http_host\\n"; }}
    location = /big {{ alias {directory}/big; }}
  }}""")
    return start_nginx(directory, port, LOAD_CPU).wait_until_open()


class Nginx:
    """nginx doing natively what the workload asks for."""
    name = "nginx"

    def start(self, directory, setup):
        port = free_port()
        self.write(directory, setup, port)
        return start_nginx(directory, port, PROXY_CPU)

    def write(self, directory, setup, port):
        upgrade = "proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 600s;" if setup.websocket else ""
        guard = "if ($admitted = 0) { return 401; }" if setup.guarded else ""
        header = f"add_header X-Bench {setup.version} always;" if setup.guarded and not setup.file else ""
        if setup.file:
            location = f"location = /state.json {{ {guard} default_type application/json; alias {setup.file}; }}"
        else:
            host = HOST if setup.guarded else "$http_host"
            connection = "$upgrading" if setup.websocket else '""'
            location = f"""location / {{
      {guard} {header} {upgrade}
      proxy_pass http://origin; proxy_http_version 1.1;
      proxy_set_header Host {host}; proxy_set_header Connection {connection};
    }}"""
        write_nginx(directory, f"""
  proxy_buffer_size 32k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
  map $http_authorization $admitted {{ default 0; "Bearer {TOKEN}" 1; }}
  map $http_upgrade $upgrading {{ default upgrade; "" ""; }}
  upstream origin {{
    server 127.0.0.1:{setup.origin}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {location}
  }}""", keep="0" if setup.close else "600s")

    def reload(self, program, directory, setup):
        self.write(directory, setup, program.port)
        program.process.send_signal(signal.SIGHUP)


class Witgate:
    """The binary that was built."""
    name = "witgate"

    def __init__(self, binary):
        self.binary = str(Path(binary).resolve())

    def start(self, directory, setup):
        port = free_port()
        self.write(directory, setup, port)
        command = [self.binary, "run", "--log-level", "info,access=off", "--config", "witgate.toml"]
        return Program(command, port, directory, PROXY_CPU)

    def write(self, directory, setup, port):
        plugins, tables = [], []
        if setup.close:
            plugins.append("close")
            tables.append('[plugin.close]\ncomponent = "builtin:connection-close"\n')
        if setup.guarded:
            plugins.append("token")
            tables.append('[plugin.token]\ncomponent = "builtin:bearer-auth"\n'
                          f'config.tokens = [{{ name = "bench", value = "{TOKEN}" }}]\n')
        if setup.file:
            plugins.append("file")
            path = Path(setup.file)
            tables.append('[plugin.file]\ncomponent = "builtin:snapshot-server"\n'
                          f'grant.files = [{{ path = "{path.parent}", as = "/state" }}]\n'
                          f'config.file = "/state/{path.name}"\n')
        elif setup.guarded:
            plugins += ["host", "version"]
            tables.append(f'[plugin.host]\ncomponent = "builtin:host-rewrite"\nconfig.host = "{HOST}"\n')
            tables.append('[plugin.version]\ncomponent = "builtin:headers"\n'
                          f'config.response.set = {{ "X-Bench" = "{setup.version}" }}\n')
        for number in range(setup.chain):
            plugins.append(f"chain-{number}")
            tables.append(f'[plugin.chain-{number}]\ncomponent = "builtin:headers"\n'
                          f'config.response.set = {{ "X-Bench-{number}" = "1" }}\n')
        extra = "".join(f'[[route]]\nname = "extra-{n}"\npath = "/extra/{n}/*"\nupstream = "origin"\n'
                        for n in range(setup.routes - 1))
        text = f"""[server]
workers = 1

[[listener]]
name = "main"
bind = "127.0.0.1:{port}"
limits.connections = 50000
limits.idle-timeout = "600s"

[[route]]
name = "bench"
plugins = {json.dumps(plugins)}
{"" if setup.file else 'upstream = "origin"'}
{extra}
[upstream.origin]
endpoints = ["http://127.0.0.1:{setup.origin}"]
idle-connections = 1024
idle-timeout = "600s"

""" + "\n".join(tables)
        new = Path(directory) / "witgate.toml.new"
        new.write_text(text)
        new.rename(Path(directory) / "witgate.toml")

    def reload(self, program, directory, setup):
        self.write(directory, setup, program.port)
        program.process.send_signal(signal.SIGHUP)


class Setup:
    """What a workload asks of a proxy."""

    def __init__(self, origin, close=False, guarded=False, file=None, websocket=False, chain=0, routes=1, version="1"):
        self.origin, self.close, self.guarded, self.file = origin, close, guarded, file
        self.websocket, self.chain, self.routes, self.version = websocket, chain, routes, version
