"""What a release needs: versions that agree, workflows that can run, forms that ask for what helps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import lifepool

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
HOME = "https://github.com/lifepool/lifepool"

if not GITHUB.is_dir():
    pytest.skip("a source distribution has no workflows", allow_module_level=True)


def read(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text())
    return document


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


# --- workflows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_few_rights_a_bound_and_known_parts(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] in ({}, {"contents": "read"}), "what more a job needs, the job says"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= workflow["jobs"].keys()
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step), step
    assert workflow[True], "yaml reads `on` as true: it says when the workflow runs"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(path: Path) -> None:
    """By a commit, with its version beside it; but for the branch that PyPI asks for."""
    for line in re.findall(r"uses: (.+)", path.read_text()):
        known = r"pypa/gh-action-pypi-publish@release/v1 # .+"
        assert re.fullmatch(rf"[\w./-]+@[0-9a-f]{{40}} # v[\d.]+|{known}", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_exists(path: Path) -> None:
    commands = "\n".join(step.get("run", "") for step in steps(read(path)))
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"^ *make (.*)$", commands, re.MULTILINE):
        for target in [word for word in line.split() if "=" not in word]:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    for file in re.findall(r"\b((?:scripts|requirements|tests)/[\w./-]+)", commands):
        assert (ROOT / file).exists(), file


def test_only_what_is_published_was_tested() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    built = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert any("wheel-test" in command for command in built)
    assert (jobs["pypi"]["needs"], jobs["pypi"]["permissions"]) == ("build", {"id-token": "write"})
    assert not any("run" in step for step in jobs["pypi"]["steps"]), "it uploads what was built, and builds nothing"
    assert jobs["github"]["needs"] == "pypi"


def test_every_supported_python_is_in_the_matrix_and_in_the_classifiers() -> None:
    matrix = read(GITHUB / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert classifiers == ["3.11", "3.12", "3.13"]
    assert set(classifiers) <= set(matrix)


# --- forms and files that GitHub looks for ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_the_parts_that_github_asks_for(path: Path) -> None:
    form = read(path)
    assert form.keys() <= {"name", "description", "title", "labels", "assignees", "body"}
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w-]+", each) for each in ids)
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert part["attributes"].get("label") or part["attributes"].get("value")
        assert part["type"] != "dropdown" or len(part["attributes"]["options"]) > 1


def test_a_report_of_a_bug_comes_with_what_doctor_says() -> None:
    asked = {part["id"]: part for part in read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]}
    assert "lifepool doctor" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]


def test_vulnerabilities_are_not_reported_as_issues() -> None:
    links = [link["url"] for link in read(GITHUB / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]]
    assert f"{HOME}/security/advisories/new" in links


def test_the_repository_has_one_address() -> None:
    for path in (ROOT / "CITATION.cff", ROOT / "CODE_OF_CONDUCT.md", ROOT / "pyproject.toml", *GITHUB.rglob("*.yml")):
        owned = re.findall(r"https://github\.com/lifepool\S*", path.read_text())
        assert [url for url in owned if not url.startswith(HOME)] == [], path.name


def test_the_citation_has_what_its_format_asks_for() -> None:
    cited = read(ROOT / "CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert cited.keys() >= {"message", "title", "authors", "version", "date-released", "license", "repository-code"}
    assert cited["repository-code"] == HOME
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", cited["date-released"])


# --- the notes of a release ------------------------------------------------------------------------------------------

FILES = ("pyproject.toml", "src/lifepool/__init__.py", "CITATION.cff", "CHANGELOG.md")


def release(folder: Path, *tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "scripts" / "release.py", *tag],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*FILES, "scripts/release.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_tag_of_this_version_has_notes(checkout: Path) -> None:
    done = release(checkout, f"v{lifepool.__version__}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "### " in done.stdout
    assert "## [" not in re.sub(r"(?m)^### .*$", "", done.stdout), "the notes of another version"


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_knows_another_version_stops_the_release(file: str, checkout: Path) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace(lifepool.__version__, "9.9.9"))
    done = release(checkout, f"v{lifepool.__version__}")
    assert (done.returncode, done.stdout) == (1, "")
    assert file in done.stderr


def test_another_day_in_the_citation_stops_the_release(checkout: Path) -> None:
    path = checkout / "CITATION.cff"
    path.write_text(re.sub(r"(?m)^date-released: .*$", 'date-released: "2020-01-01"', path.read_text()))
    assert "CITATION.cff says 2020-01-01" in release(checkout, f"v{lifepool.__version__}").stderr


@pytest.mark.parametrize("tag", ["0.1.0", "v1", "v0.1.0-beta", "latest"])
def test_a_tag_that_is_no_version_stops_the_release(tag: str, checkout: Path) -> None:
    assert "is no tag of a release" in release(checkout, tag).stderr


def test_without_a_tag_it_says_so(checkout: Path) -> None:
    assert release(checkout).returncode == 1
