"""What is shipped: a light, typed wheel; a lock file that installs from any index."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lifepool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_BYTES = 2_000_000  # of a file in the repository
LOCK = (ROOT / "requirements" / "dev.txt").read_text()
SERVE_LOCK = (ROOT / "requirements/serve.txt").read_text()
DISTRIBUTED_LOCK = (ROOT / "requirements/distributed.txt").read_text()
SERVERS_LOCK = (ROOT / "requirements/servers.txt").read_text()


def canonical(requirement: str) -> str:
    """The name in a requirement, as package indexes compare it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        timeout=50,
    )
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_nothing_that_a_tool_made_is_kept_in_the_repository() -> None:
    def tracked(*options: str) -> list[str]:
        listed = subprocess.run(
            ["git", "ls-files", "-z", *options], cwd=ROOT, check=True, capture_output=True, text=True
        )
        return [name for name in listed.stdout.split("\0") if name]

    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    assert not tracked("--cached", "--ignored", "--exclude-standard")
    assert not [name for name in tracked() if (ROOT / name).is_file() and (ROOT / name).stat().st_size > MOST_BYTES]


def test_the_wheel_holds_the_package_its_type_marker_and_its_licence(
    wheel: zipfile.ZipFile,
) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"lifepool", "lifepool-0.1.0.dist-info"}
    assert "lifepool/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_source_file(wheel: zipfile.ZipFile) -> None:
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert sources <= set(wheel.namelist())


def test_the_wheel_holds_the_live_pages_files(wheel: zipfile.ZipFile) -> None:
    static = ROOT / "src" / "lifepool" / "dashboard" / "static"
    files = {path.relative_to(ROOT / "src").as_posix() for path in static.iterdir()}
    assert "lifepool/dashboard/static/index.html" in files
    assert files <= set(wheel.namelist())


def test_the_core_asks_for_no_other_package(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_string(wheel.read("lifepool-0.1.0.dist-info/METADATA").decode())
    required = metadata.get_all("Requires-Dist", [])
    assert required, "the extras are missing"
    assert all("extra ==" in requirement for requirement in required)


def test_the_public_names_load_with_the_standard_library_alone() -> None:
    source = Path(lifepool.__file__).parent.parent
    program = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "import lifepool\n"
        "for name in lifepool.__all__: getattr(lifepool, name)\n"
        "assert lifepool.__all__\n"
    )
    # -S: without site-packages, so an import of anything that is not standard fails.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "lock", [LOCK, SERVE_LOCK, DISTRIBUTED_LOCK, SERVERS_LOCK], ids=["dev", "serve", "distributed", "servers"]
)
def test_the_lock_names_no_address(lock: str) -> None:
    assert not re.findall(r"\w+://|--index|--extra-index|--find-links", lock)


@pytest.mark.parametrize(
    "lock", [LOCK, SERVE_LOCK, DISTRIBUTED_LOCK, SERVERS_LOCK], ids=["dev", "serve", "distributed", "servers"]
)
def test_every_locked_package_is_pinned_with_a_hash(lock: str) -> None:
    entries = re.findall(r"(?m)^(\S+==\S+)((?:.*\\\n)*.*)", lock)
    assert len(entries) > 20
    assert [name for name, rest in entries if "--hash=sha256:" not in rest] == []


def test_make_serve_installs_few_packages_and_those_that_the_tests_ran_with() -> None:
    served, tested = (set(re.findall(r"(?m)^(\S+==\S+)", lock)) for lock in (SERVE_LOCK, LOCK))
    assert served <= tested
    assert len(served) < len(tested) / 2


def test_every_declared_package_is_locked() -> None:
    project = PYPROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    declared = {canonical(r) for group in groups for r in group if isinstance(r, str)}
    assert declared - _locked(LOCK + DISTRIBUTED_LOCK + SERVERS_LOCK) == set()
    needed = [*project["optional-dependencies"]["examples"], *PYPROJECT["dependency-groups"]["install"]]
    assert {canonical(r) for r in needed} - _locked(SERVE_LOCK) == set()


def _locked(lock: str) -> set[str]:
    return {canonical(line) for line in lock.splitlines() if re.match(r"\w", line)}
