"""The workloads, each on nginx and on witgate in turns."""
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import load
import proxies
from proxies import LOAD_CPU, Program, Setup


class Bench:
    """What all measurements share: the origins, and a new folder for each start."""

    def __init__(self, directory, options):
        self.directory, self.options, self.count = directory, options, 0
        self.origin = proxies.origin(directory / "origin")
        port = proxies.free_port()
        echo = [sys.executable, str(Path(load.__file__)), str(port)]
        self.echo = Program(echo, port, directory / "origin", LOAD_CPU).wait_until_open()
        self.proxies = [proxies.Nginx(), proxies.Witgate(options.binary)]
        self.state = directory / "state.json"
        self.state.write_text(json.dumps({"cookies": [{"name": f"n{n}", "value": "x" * 80} for n in range(180)]}))

    def setup(self, **what):
        return Setup(what.pop("origin", self.origin.port), **what)

    def start(self, proxy, setup):
        self.count += 1
        directory = self.directory / f"{self.count}"
        directory.mkdir()
        return proxy.start(directory, setup)

    def stop(self):
        self.origin.stop()
        self.echo.stop()


def cpu_us(program, measure):
    """CPU time of the program per unit of what `measure` returns, in µs."""
    before = program.cpu_seconds()
    done = measure()
    return (program.cpu_seconds() - before) / done * 1e6


def requests(path="/", connections=64, headers=(), expect=200, **what):
    """CPU per request of each proxy, over the rounds."""
    def run(bench):
        setup = bench.setup(**what)
        programs = [bench.start(proxy, setup).wait_until_open() for proxy in bench.proxies]
        try:
            samples = [[] for _ in programs]
            for program in programs:
                status = load.request(program.port, path, headers)
                if status != expect:
                    raise SystemExit(f"{program.command[0]}: status {status}")
                if what.get("guarded") and load.request(program.port, path) != 401:
                    raise SystemExit(f"{program.command[0]} lets anybody in")
                load.wrk(program.port, path, connections, 1, headers)
            for number in range(bench.options.rounds):
                order = range(len(programs)) if number % 2 == 0 else reversed(range(len(programs)))
                for at in order:
                    measure = lambda: load.wrk(  # noqa: E731
                        programs[at].port, path, connections, bench.options.seconds, headers)
                    samples[at].append(cpu_us(programs[at], measure))
        finally:
            for program in programs:
                program.stop()
        return samples
    return run


def websocket(what):
    """Idle memory, or CPU per echo."""
    def run(bench):
        samples = [[] for _ in bench.proxies]
        setup = bench.setup(origin=bench.echo.port, websocket=True)
        for _ in range(min(3, bench.options.rounds)):
            for at, proxy in enumerate(bench.proxies):
                program = bench.start(proxy, setup).wait_until_open()
                try:
                    samples[at].append(what(bench, program))
                finally:
                    program.stop()
        return samples
    return run


def idle_kib(open_one, connections):
    """Memory of each connection that is held idle, once those before it have warmed the program up."""
    def run(bench, program):
        held = [open_one(program.port) for _ in range(50)]
        before = program.resident_kib()
        held += [open_one(program.port) for _ in range(connections)]
        used = program.resident_kib() - before
        for s in held:
            s.close()
        return used / connections
    return run


def echo_us(connections, size):
    def run(bench, program):
        load.echo(program.port, connections, size, 0.3)
        return cpu_us(program, lambda: load.echo(program.port, connections, size, bench.options.seconds))
    return run


def start_ms(bench):
    """From the start of the program to its first answer, three plugins in the code cache."""
    samples = [[] for _ in bench.proxies]
    setup = bench.setup(guarded=True)
    for number in range(bench.options.rounds + 1):
        for at, proxy in enumerate(bench.proxies):
            program = bench.start(proxy, setup)
            program.wait_until_open()
            while load.request(program.port, "/", [load.authorized()]) != 200:
                pass
            if number > 0:
                samples[at].append((time.perf_counter() - program.started) * 1e3)
            program.stop()
    return samples


def reload_ms(bench):
    """The slowest of the requests around a reload. A failed one ends the run."""
    samples = [[] for _ in bench.proxies]
    for _ in range(min(3, bench.options.rounds)):
        for at, proxy in enumerate(bench.proxies):
            setup = bench.setup(guarded=True)
            program = bench.start(proxy, setup).wait_until_open()
            directory = Path(program.log.name).parent
            following = bench.setup(guarded=True, version="2")
            try:
                failed, latencies = load.steady(
                    program.port, 500, 3, 1, lambda: proxy.reload(program, directory, following))
            finally:
                program.stop()
            if failed:
                print(f"{proxy.name}: {failed} requests failed around a reload")
            samples[at].append(latencies[-1])
    return samples


BEARER = [load.authorized()]

# name, what is measured, unit, how
WORKLOADS = [
    ("W1", "plain proxying, 64 connections", "µs CPU", requests()),
    ("W2", "three plugins: bearer token, Host, a response header", "µs CPU", requests(headers=BEARER, guarded=True)),
    ("W3", "100 KiB bodies, 32 connections", "µs CPU", requests(path="/big", connections=32)),
    ("W4", "a connection for each request", "µs CPU", requests(close=True)),
    ("W5", "an idle WebSocket", "KiB", websocket(idle_kib(load.upgrade, 500))),
    ("W5a", "echo of 125 bytes on a WebSocket", "µs CPU", websocket(echo_us(16, 125))),
    ("W5b", "echo of 64 KiB on a WebSocket", "µs CPU", websocket(echo_us(8, 64 << 10))),
    ("W6", "20 KiB of JSON from a file, behind a token", "µs CPU", None),
    ("W7", "from exec to the first answer, three plugins", "ms", start_ms),
    ("W8", "slowest answer around a reload, 500 a second", "ms", reload_ms),
]


def run(bench, wanted):
    """Prints the table, row by row."""
    rows = []
    columns = [proxy.name for proxy in bench.proxies]
    print(f"| | | unit | {' | '.join(columns)} | ratio (min–max) |\n|---|---|---|{'---|' * len(columns)}---|")
    for name, about, unit, measure in WORKLOADS:
        if wanted and name not in wanted:
            continue
        if name == "W6":
            measure = requests(path="/state.json", headers=BEARER, guarded=True, file=bench.state)
        samples = measure(bench)
        ratios = sorted(ours / theirs for theirs, ours in zip(*samples))
        medians = [statistics.median(one) for one in samples]
        ratio = statistics.median(ratios)
        print(f"| {name} | {about} | {unit} | {' | '.join(f'{m:.1f}' for m in medians)} "
              f"| {ratio:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) |", flush=True)
        rows.append({"name": name, "about": about, "unit": unit, "medians": dict(zip(columns, medians)),
                     "ratio": ratio, "ratios": ratios})
    return rows
