"""What the cost grows with, and what it does not grow with."""
import statistics

import load
import proxies
from workloads import cpu_us


def per_second(bench, proxy, setup, connections):
    """Requests per second of CPU time."""
    program = bench.start(proxy, setup).wait_until_open()
    try:
        load.wrk(program.port, "/", connections, 1)
        cost = [cpu_us(program, lambda: load.wrk(program.port, "/", connections, bench.options.seconds + connections // 2500))
                for _ in range(min(3, bench.options.rounds))]
        return 1e6 / statistics.median(cost)
    finally:
        program.stop()


def memory(bench, proxy, setup, open_one, connections):
    program = bench.start(proxy, setup).wait_until_open()
    try:
        # What the first ones take is the program's own.
        held = [open_one(program.port) for _ in range(50)]
        before = program.resident_kib()
        held += [open_one(program.port) for _ in range(connections)]
        used = program.resident_kib() - before
        for s in held:
            s.close()
        return used / connections
    finally:
        program.stop()


def curve(name, title, x, y, points):
    return {"name": name, "title": title, "x": x, "y": y, "series": points}


def connections(bench):
    # A proxy takes two files for each; one that has too few resets connections.
    steps = (1, 64, 1000, min(10000, (proxies.files() - 1000) // 2))
    return curve("connections", "Requests per second of CPU time", "keep-alive connections", "requests / CPU s", {
        proxy.name: [(n, per_second(bench, proxy, bench.setup(), n)) for n in steps] for proxy in bench.proxies})


def chain(bench):
    ours = bench.proxies[-1]
    return curve("chain", "Requests per second of CPU time", "plugins in the chain", "requests / CPU s", {
        ours.name: [(n, per_second(bench, ours, bench.setup(chain=n), 64)) for n in (0, 1, 3, 10)]})


def routes(bench):
    ours = bench.proxies[-1]
    return curve("routes", "Requests per second of CPU time", "routes", "requests / CPU s", {
        ours.name: [(n, per_second(bench, ours, bench.setup(routes=n), 64)) for n in (1, 10, 1000)]})


def idle(bench):
    steps = (100, 1000, 4000)
    lines = {}
    for proxy in bench.proxies:
        lines[f"{proxy.name}, keep-alive"] = [
            (n, memory(bench, proxy, bench.setup(), load.keep_alive, n)) for n in steps]
        websocket = bench.setup(origin=bench.echo.port, websocket=True)
        lines[f"{proxy.name}, WebSocket"] = [
            (n, memory(bench, proxy, websocket, load.upgrade, n)) for n in steps]
    return curve("idle", "Memory of an idle connection", "connections", "KiB each", lines)


CURVES = {"connections": connections, "chain": chain, "routes": routes, "idle": idle}


def run(bench, wanted):
    """Prints and returns the curves."""
    drawn = []
    for name, measure in CURVES.items():
        if wanted and name not in wanted:
            continue
        one = measure(bench)
        print(f"\n{one['title']} by {one['x']} ({one['y']})")
        for label, points in one["series"].items():
            print(f"  {label:24} " + "  ".join(f"{x}: {y:,.1f}" for x, y in points), flush=True)
        drawn.append(one)
    return drawn
