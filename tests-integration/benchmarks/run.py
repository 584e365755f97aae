"""Measure what a durable turn costs, and print it as tables.

`--quick` only shows that everything runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from plan import FULL, QUICK, WORKLOADS, Size, jobs
from report import report
from results import Results
from stores import STORES, Store, find_store

_CHILD = Path(__file__).parent / "child.py"
_TESTBED = str(Path(__file__).parents[1])
_DEADLINE_S = 600


def main() -> None:
    """Run the benchmarks that the command line asks for."""
    options = _options()
    size: Size = QUICK if options.quick else FULL
    if options.repeats:
        import attrs

        size = attrs.evolve(size, repeats=options.repeats)
    stores = [find_store(name) for name in options.stores]
    missing = [store.name for store in stores if not store.installed]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; choose others with --stores")
    results = Results()
    with _servers(stores, Path(options.dir)):
        _run_all(options, stores, size, results)
    for line in report(results, options.workloads, size.marks):
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=_listed(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--stores", type=_listed(STORES), default=list(STORES))
    parser.add_argument("--repeats", type=int, help="processes for each of A and B")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--jsonl", type=Path, help="append a JSON line for each process")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="on the disk to be measured")
    return parser.parse_args()


def _listed(known: Any) -> Any:
    def split(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            message = f"{', '.join(unknown)}: choose from {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return names

    return split


@contextmanager
def _servers(stores: list[Store], directory: Path) -> Iterator[None]:
    """Run the servers that the stores need, where the processes that measure find them."""
    sys.path.append(_TESTBED)
    paths = (os.environ.get("PYTHONPATH"), _TESTBED)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with ExitStack() as servers:
        for store in stores:
            os.environ.update(servers.enter_context(store.serve(directory)))
        yield


def _run_all(
    options: argparse.Namespace, stores: list[Store], size: Size, results: Results
) -> None:
    for job in jobs(options.workloads, stores, size):
        told = f"{job['workload']} {job['backend']} {job['peer']} {job['variant']}"
        print(f"{told} ...", file=sys.stderr, flush=True)
        line = _run(job, Path(options.dir))
        results.add(line)
        if options.jsonl is not None:
            with options.jsonl.open("a") as file:
                file.write(json.dumps(_rounded(line)) + "\n")


def _run(job: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Run one job in a process and a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="rainengine-bench-", dir=directory) as place:
        command = [sys.executable, str(_CHILD), json.dumps(job | {"place": place})]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=_DEADLINE_S, check=False
        )
    if done.returncode:
        sys.exit(f"\n{job} ended with {done.returncode}")
    facts = {name: job[name] for name in ("peer", "variant", "backend", "workload")}
    return facts | json.loads(done.stdout.splitlines()[-1])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1e5 else round(value)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
