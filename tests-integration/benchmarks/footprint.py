"""Workload E: what an import costs, and what an installation weighs."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from stores import Store

PACKAGES = Path(__file__).parents[2] / "packages"

_PROBE = """
import time
began, used = time.perf_counter(), time.process_time()
{imports}
took, cpu = time.perf_counter() - began, time.process_time() - used
import json, sys
from measuring import peak_rss_mb
print(json.dumps([1000 * took, 1000 * cpu, len(sys.modules), peak_rss_mb()]))
"""


def footprint(job: dict[str, Any], store: Store) -> dict[str, Any]:
    """E."""
    _probe(store.imports)  # once for the byte code
    ours: list[list[float]] = []
    baseline: list[list[float]] = []
    for _ in range(job["n"]):
        baseline.append(_probe(store.baseline))
        ours.append(_probe(store.imports))
    took, cpu, modules, rss_mb = map(statistics.median, zip(*ours, strict=True))
    base_took, base_cpu, *_ = map(statistics.median, zip(*baseline, strict=True))
    return {
        "n": job["n"],
        "imports": store.imports,
        "import_ms": took,
        "import_cpu_ms": cpu,
        "modules": int(modules),
        "import_rss_mb": rss_mb,
        "baseline": store.baseline,
        "baseline_ms": base_took,
        "baseline_cpu_ms": base_cpu,
        "vs_baseline": took / base_took,
        "cpu_vs_baseline": cpu / base_cpu,
        **_installed(store.distributions),
    }


def _probe(imports: str) -> list[float]:
    code = _PROBE.format(imports=imports)
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here
    )
    return json.loads(done.stdout)


def _installed(names: tuple[str, ...]) -> dict[str, Any]:
    """Count what the distributions bring, with all that they require."""
    pending, files = list(names), dict[str, list[Path]]()
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name not in files:
            files[name], required = _ours(name) if (PACKAGES / name).is_dir() else _theirs(name)
            pending += required
    found = {name: paths for name, paths in files.items() if paths}
    sizes = [path.stat().st_size for paths in found.values() for path in paths]
    return {
        "site_packages_mb": sum(sizes) / 1e6,
        "files": len(sizes),
        "distributions": len(found),
        "dists": sorted(found),
    }


def _ours(name: str) -> tuple[list[Path], list[str]]:
    """Our own are installed as links: look where they come from."""
    project = tomllib.loads((PACKAGES / name / "pyproject.toml").read_text())["project"]
    source = (PACKAGES / name / "src").rglob("*")
    return _kept(source), _names(project.get("dependencies", []))


def _theirs(name: str) -> tuple[list[Path], list[str]]:
    try:
        installed = distribution(name)
    except PackageNotFoundError:  # required elsewhere, by its marker
        return [], []
    paths = [Path(str(file.locate())) for file in installed.files or ()]
    return _kept(paths), _names(installed.requires or [])


def _kept(paths: Any) -> list[Path]:
    return [path for path in paths if path.suffix != ".pyc" and path.is_file()]


def _names(requirements: list[str]) -> list[str]:
    needed = [one for one in requirements if not re.search(r";.*\bextra\b", one)]
    return [found.group() for one in needed if (found := re.match(r"[\w.-]+", one))]
