"""A plugin from elsewhere: built, installed, found by its entry point, and removed again."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples/plugin_store_acme"


def _run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False
    )


def _succeed(*command: str | Path, folder: Path) -> str:
    done = _run(*command, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Elsewhere:
    """An environment of its own, in which what is installed here can be imported as well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.build_folder = folder / "source"
        venv.create(folder / "venv", with_pip=True, symlinks=True)
        scripts = "Scripts" if sys.platform == "win32" else "bin"
        self.python = folder / "venv" / scripts / "python"
        own = _succeed(
            self.python,
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
            folder=folder,
        )
        here = sysconfig.get_path("purelib")
        line = f"import site; site.addsitedir({here!r})\n"
        (Path(own.strip()) / "installed_here.pth").write_text(line)

    def build(self) -> Path:
        """Build the example's wheel with the tools that are here."""
        shutil.copytree(EXAMPLE, self.build_folder)
        _succeed(
            sys.executable, "-m", "hatchling", "build", "-t", "wheel", folder=self.build_folder
        )
        (wheel,) = (self.build_folder / "dist").glob("*.whl")
        return wheel

    def pip(self, *arguments: str | Path) -> None:
        command = ("-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)
        _succeed(self.python, *command, folder=self.folder)

    def use(self) -> subprocess.CompletedProcess[str]:
        return _run(self.python, EXAMPLE / "use_it.py", folder=self.folder)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    """Make an environment to install into."""
    return Elsewhere(tmp_path)


def test_a_store_from_elsewhere_comes_and_goes(elsewhere: Elsewhere) -> None:
    """A store that is installed opens by its URL; removed, its URL is an error with a remedy."""
    wheel = elsewhere.build()
    before = elsewhere.use()
    elsewhere.pip("install", "--no-index", "--no-deps", wheel)
    installed = elsewhere.use()
    elsewhere.pip("uninstall", "--yes", "rainengine-store-acme")
    after = elsewhere.use()

    assert "acme" not in before.stdout
    assert "UnknownPlugin" in before.stderr
    assert installed.returncode == 0, installed.stderr
    assert "acme" in installed.stdout.splitlines()[0]
    assert installed.stdout.splitlines()[1] == "hello from acme"
    assert before.stdout == after.stdout
    assert "install the distribution that does" in after.stderr
