"""What a user of the built distributions relies on, read off the built files themselves."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
META = "rainengine"
PROJECTS = {file.parent.name: file.parent for file in ROOT.glob("packages/*/pyproject.toml")}
CODE = sorted(PROJECTS.keys() - {META})

# They come with the distributions that build on them, and nobody asks for them by name.
SHARED = {"rainengine-store-sql"}

# They are for tests: no production install has them.
FOR_TESTS = {"rainengine-model-servers"}


class Built:
    """A distribution's sdist and wheel, and the wheel built from that sdist."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        _hatchling(PROJECTS[name], folder, "sdist", "wheel")
        self.sdist, self.wheel = next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))
        with tarfile.open(self.sdist) as archive:
            archive.extractall(folder, filter="data")
        unpacked = folder / self.sdist.name.removesuffix(".tar.gz")
        _hatchling(unpacked, folder / "from-sdist", "wheel")
        self.wheel_from_sdist = next((folder / "from-sdist").glob("*.whl"))

    @property
    def leaf(self) -> str:
        """The folder of the one module that this distribution adds to the namespace."""
        return "rainengine/" + self.name.removeprefix("rainengine-").replace("-", "_")

    @property
    def installed(self) -> Distribution:
        """What the wheel says of itself, read as if it were installed."""
        (folder,) = {path.split("/")[0] for path in _names(self.wheel) if ".dist-info/" in path}
        return PathDistribution(zipfile.Path(self.wheel, f"{folder}/"))

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(line) for line in self.installed.requires or []]

    @property
    def siblings(self) -> list[Requirement]:
        return [one for one in self.requirements if one.name in PROJECTS]

    @property
    def files(self) -> set[str]:
        """What the wheel puts into site-packages, its own metadata aside."""
        return {path for path in _names(self.wheel) if ".dist-info/" not in path}

    def asked_for_by(self, extra: str) -> set[str]:
        return {
            one.name
            for one in self.requirements
            if one.marker is not None and one.marker.evaluate({"extra": extra})
        }


def _hatchling(project: Path, folder: Path, *targets: str) -> None:
    wanted = [argument for target in targets for argument in ("-t", target)]
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *wanted]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _settings() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Build every distribution, once."""
    return {name: Built(name, tmp_path_factory.mktemp(name)) for name in PROJECTS}


@pytest.mark.parametrize("name", PROJECTS)
def test_folder_is_named_for_its_distribution(name: str, built: dict[str, Built]) -> None:
    """`packages/NAME` builds the distribution NAME."""
    assert name == built[name].installed.name


@pytest.mark.parametrize("name", CODE)
def test_wheel_adds_one_typed_module_to_the_namespace(name: str, built: dict[str, Built]) -> None:
    """A wheel holds its leaf module with `py.typed`, and no file outside of it."""
    one = built[name]
    assert [path for path in one.files if not path.startswith(f"{one.leaf}/")] == []
    assert f"{one.leaf}/py.typed" in one.files


@pytest.mark.parametrize("name", PROJECTS)
def test_nobody_owns_the_namespace(name: str, built: dict[str, Built]) -> None:
    """No distribution has a `rainengine/__init__.py`, which would hide all the others."""
    with tarfile.open(built[name].sdist) as sdist:
        shipped = built[name].files | set(sdist.getnames())
    assert [path for path in shipped if path.endswith("rainengine/__init__.py")] == []


def test_meta_wheel_holds_no_code(built: dict[str, Built]) -> None:
    """The meta distribution is metadata alone."""
    assert built[META].files == set()


@pytest.mark.parametrize("name", PROJECTS)
def test_wheel_from_sdist_equals_wheel_from_source(name: str, built: dict[str, Built]) -> None:
    """The sdist misses nothing that the wheel is made of."""
    assert _names(built[name].wheel_from_sdist) == _names(built[name].wheel)


@pytest.mark.parametrize("name", PROJECTS)
def test_license_is_shipped(name: str, built: dict[str, Built]) -> None:
    """Each wheel carries the repository's licence."""
    installed = built[name].installed
    assert installed.metadata["License-Expression"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text() == installed.read_text("licenses/LICENSE")


def test_versions_are_in_lockstep(built: dict[str, Built]) -> None:
    """All distributions carry one version."""
    assert len({one.installed.version for one in built.values()}) == 1


@pytest.mark.parametrize("name", CODE)
def test_siblings_are_pinned_to_the_compatible_series(name: str, built: dict[str, Built]) -> None:
    """A sibling of the same minor version will do, from the one it was built with."""
    version = built[name].installed.version
    major, minor, _ = version.split(".")
    compatible = SpecifierSet(f">={version},<{major}.{int(minor) + 1}")
    pins = {one.name: one.specifier for one in built[name].siblings}
    assert dict.fromkeys(pins, compatible) == pins


def test_meta_pins_exactly(built: dict[str, Built]) -> None:
    """The meta distribution asks for the very versions that it was released with."""
    exact = SpecifierSet(f"=={built[META].installed.version}")
    pins = {one.name: one.specifier for one in built[META].requirements}
    assert dict.fromkeys(pins, exact) == pins


def test_meta_extras_are_the_distributions(built: dict[str, Built]) -> None:
    """What runs in production is there by default or by its extra, and `all` is all of that."""
    meta = built[META]
    default = {one.name for one in meta.requirements if one.marker is None}
    provided = meta.installed.metadata.get_all("Provides-Extra") or []
    extras = {extra: meta.asked_for_by(extra) for extra in provided}
    optional = set(CODE) - SHARED - FOR_TESTS - default
    assert optional == extras.pop("all")
    assert {name.removeprefix("rainengine-"): {name} for name in optional} == extras


@pytest.mark.parametrize("name", CODE)
def test_entry_points_lead_somewhere(name: str, built: dict[str, Built]) -> None:
    """What an entry point names can be imported, and is the distribution's own."""
    module = built[name].leaf.replace("/", ".")
    for entry in built[name].installed.entry_points:
        assert f"{entry.module}.".startswith(f"{module}.")
        assert callable(entry.load())


@pytest.mark.parametrize("name", CODE)
def test_tools_know_every_distribution(name: str) -> None:
    """A new distribution is type-checked, layered, and has its place in the changelog."""
    tools = _settings()
    source = f"packages/{name}/src"
    layers = str(tools["importlinter"]["contracts"])
    sections = str(tools["towncrier"]["section"])
    assert source in str(tools["mypy"]["mypy_path"])
    assert source in str(tools["pyright"]["extraPaths"])
    assert "rainengine." + name.removeprefix("rainengine-").replace("-", "_") in layers
    assert f"'name': '{name}'" in sections
