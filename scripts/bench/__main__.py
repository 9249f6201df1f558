"""Measures witgate beside nginx on this machine: CPU time per request first of all.

usage: python3 scripts/bench [--binary target/release/witgate] [--only W1,W5,connections] [--rounds 5] [--seconds 1]

Each row is the median of rounds that take both in turns; a ratio is taken within its round. Compare ratios; absolute
figures are this machine's. With --write the curves are drawn into docs/performance with their data beside them.
"""
import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import curves
import plot
import proxies
import workloads

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/witgate")
    parser.add_argument("--only", default="", help="names of workloads and curves, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each sample")
    parser.add_argument("--write", action="store_true", help="write the curves into docs/performance")
    return parser.parse_args()


def machine():
    """Where it was measured, as far as it matters."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    nginx = subprocess.run([proxies.NGINX, "-v"], capture_output=True, text=True).stderr.strip()
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, {nginx}"


def main():
    options = arguments()
    for program in ("wrk", proxies.NGINX):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: scripts/setup.sh bench")
    if not options.binary.exists():
        sys.exit(f"{options.binary} is missing: cargo build --release -p witgate")
    proxies.raise_limits()
    wanted = set(filter(None, options.only.split(",")))
    about = {"machine": machine(), "command": " ".join(["python3", "scripts/bench", *sys.argv[1:]]),
             "date": datetime.date.today().isoformat(), "load": os.getloadavg()[0]}
    print(f"{about['machine']}; load before the start {about['load']:.1f}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="witgate-bench-") as directory:
        bench = workloads.Bench(Path(directory), options)
        try:
            table = workloads.run(bench, wanted)
            drawn = curves.run(bench, wanted)
        finally:
            bench.stop()
    if options.write:
        folder = ROOT / "docs/performance"
        folder.mkdir(exist_ok=True)
        (folder / "bench.json").write_text(json.dumps({**about, "table": table, "curves": drawn}, indent=1) + "\n")
        for curve in drawn:
            (folder / f"{curve['name']}.svg").write_text(plot.svg(curve, about))


main()
