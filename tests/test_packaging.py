"""What is shipped: a light, typed wheel; a lock file that installs from any index."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
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
MOST_WHEEL_BYTES = 1_000_000  # 0.1.0 has 0.72 MB
MOST_SDIST_BYTES = 3_500_000  # 0.1.0 has 2.4 MB, with its tests and the pictures of the documentation
INFO = f"lifepool-{lifepool.__version__}.dist-info"
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
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files, as `make build` makes them: the wheel from the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        timeout=55,
    )
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Iterator[tarfile.TarFile]:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as opened:
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
    assert tops == {"lifepool", INFO}
    assert "lifepool/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_files_are_no_larger_than_they_were_meant_to_be(dist: Path) -> None:
    ((wheel,), (sdist,)) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert wheel.stat().st_size < MOST_WHEEL_BYTES
    assert sdist.stat().st_size < MOST_SDIST_BYTES


def test_the_wheel_holds_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    kinds = {Path(name).suffix for name in wheel.namelist() if name.startswith("lifepool/")}
    assert kinds == {".py", ".typed", ".html", ".js", ".css", ".svg", ".json", ".yaml", ".toml", ".md"}
    assert not [
        name for name in wheel.namelist() if re.search(r"(^|/)(tests?|conftest|__pycache__|test_\w+)(/|\.)", name)
    ]


def test_the_source_distribution_holds_what_builds_and_tests_it(sdist: tarfile.TarFile) -> None:
    names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "LICENSE", "CHANGELOG.md", "CITATION.cff", "requirements/dev.txt"} <= names
    assert {"scripts/make-venv.sh", "tests/conftest.py", "docs/how-to/deploy.md", "src/lifepool/py.typed"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", "dist/"))]


def test_links_of_the_description_lead_somewhere_from_the_package_index(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_string(wheel.read(f"{INFO}/METADATA").decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)\s]+)\)", str(metadata.get_payload()))
    assert len(links) > 30
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    ours = [link for link in links if f"/v{lifepool.__version__}/" in link]
    files = [re.sub(r"https://[^/]+/\w+/\w+/(blob|raw)/v[^/]+/([^#]+).*", r"\2", link) for link in ours]
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_addresses_are_those_of_one_repository(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_string(wheel.read(f"{INFO}/METADATA").decode())
    urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL", []))
    assert urls.keys() >= {"Homepage", "Documentation", "Repository", "Issues", "Changelog"}
    assert [url for url in urls.values() if not url.startswith("https://github.com/lifepool/lifepool")] == []


def test_importing_it_costs_little_more_than_asyncio_and_multiprocessing() -> None:
    """In modules: that is the same on every machine at any time (the seconds are in docs/benchmarks.md)."""
    ours = _modules_of("from lifepool import Pool")
    assert ours < 1.5 * _modules_of("import asyncio, concurrent.futures.process")


def _modules_of(program: str) -> int:
    source = str(Path(lifepool.__file__).parent.parent)
    counted = f"import sys; sys.path.insert(0, {source!r}); {program}; print(len(sys.modules))"
    command = [sys.executable, "-S", "-c", counted]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout)


def test_the_wheel_holds_every_source_file(wheel: zipfile.ZipFile) -> None:
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert sources <= set(wheel.namelist())


def test_the_wheel_holds_the_live_pages_files(wheel: zipfile.ZipFile) -> None:
    static = ROOT / "src" / "lifepool" / "dashboard" / "static"
    files = {path.relative_to(ROOT / "src").as_posix() for path in static.iterdir()}
    assert "lifepool/dashboard/static/index.html" in files
    assert files <= set(wheel.namelist())


def test_the_core_asks_for_no_other_package(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_string(wheel.read(f"{INFO}/METADATA").decode())
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
