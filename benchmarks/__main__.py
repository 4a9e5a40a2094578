"""`python -m benchmarks`: each benchmark in a process of its own, and one table of all their figures."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import apply, flat, latency, opt_outs, plan, pull, scan, tables
from benchmarks.report import Figure, Target, show

Benchmark = Callable[[Path, float], list[Figure]]
BENCHMARKS: Mapping[str, Benchmark] = {
    "pull": pull.run,
    "scan": scan.run,
    "plan": plan.run,
    "tables": tables.run,
    "apply": apply.run,
    "opt_outs": opt_outs.run,
    "flat": flat.run,
    "latency": latency.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Our speed, held against the bare engine's.")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="just this one; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data; 0.2 plans 1,000,000 rows")
    parser.add_argument(
        "--full", action="store_true", help="flat: 300 runs over 200,000 contacts; opt_outs: 10,000,000 rows"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--child", choices=BENCHMARKS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps([asdict(figure) for figure in _measure(given.child, given.scale, given.full)]))
        return 0
    figures = [f for name in given.only or BENCHMARKS for f in _measure_apart(name, given.scale, given.full)]
    show(figures)
    if given.json:
        facts = [asdict(f) | {"ratio": f.ratio, "met": f.met} for f in figures]
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.met for figure in figures) else 1


def _measure(name: str, scale: float, full: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory:
        if name == "flat":
            return flat.run(Path(directory), scale, full)
        if name == "opt_outs":
            return opt_outs.run(Path(directory), scale, full)
        return BENCHMARKS[name](Path(directory), scale)


def _measure_apart(name: str, scale: float, full: bool) -> list[Figure]:
    """In a new process, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks", "--child", name, "--scale", str(scale), *["--full"][: int(full)]]
    print(f"{name} ...", file=sys.stderr, flush=True)
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return [Figure(**facts | {"target": Target(**facts["target"])}) for facts in json.loads(said)]


if __name__ == "__main__":
    sys.exit(main())
