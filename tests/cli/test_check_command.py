"""`lifepool check` as it is typed: what it reads, how it ends, and every format that it writes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from lifepool.cli.check import command
from lifepool.cli.check.checker import check_files
from lifepool.cli.check.comments import Ignores
from lifepool.cli.check.files import find_files
from lifepool.cli.check.finding import Location
from lifepool.cli.check.formats import FORMATS
from lifepool.cli.check.rules import RULES
from lifepool.cli.check.settings import WrongUsage, load
from tests.cli.runner import lifepool
from tests.cli.sources import findings
from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SLEEPS = "import time\n\nasync def nap():\n    time.sleep(1)\n"
CLEAN = "import asyncio\n\nasync def nap():\n    await asyncio.sleep(1)\n"
POLLS = "import asyncio\n\nloop = asyncio.get_event_loop()\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the current folder, with a file that sleeps and one that polls."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "sleeps.py").write_text(SLEEPS)
    (tmp_path / "app" / "polls.py").write_text(POLLS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(report: str) -> list[str]:
    return re.findall(r": (LP\d+) ", report)


# --- the console script --------------------------------------------------------------------------------------------


def test_findings_end_it_with_1_and_say_where_why_and_what_to_do(project: Path) -> None:
    done = lifepool("check", "app", cwd=project)
    assert (done.returncode, done.stderr) == (1, "")
    first, second, *rest = done.stdout.splitlines()
    assert first == "app/polls.py:3:8: LP010 `asyncio.get_event_loop()` raises where no loop runs"
    assert second.startswith("app/sleeps.py:4:5: LP005 `time.sleep()` blocks: use `await asyncio.sleep(...)`")
    assert f"  why: {RULES['LP005'].why}" in rest
    assert f"  fix: {RULES['LP010'].fix}" in rest
    assert rest[-1] == "2 findings in 2 files"


def test_a_clean_project_ends_it_with_0(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CLEAN)
    done = lifepool("check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no findings in 1 file\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no nowhere"),
        (["--select", "LP999"], "there is no rule 'LP999'; they are LP000 to LP"),
        (["--format", "xml"], "there is no format 'xml'; there are text, json, sarif, github"),
        (["--explain", "E501"], "there is no rule 'E501'"),
    ],
)
def test_wrong_usage_ends_it_with_2(project: Path, arguments: list[str], message: str) -> None:
    done = lifepool("check", *arguments, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"lifepool check: {message}" in done.stderr


def test_explain_shows_both_examples(project: Path) -> None:
    done = lifepool("check", "--explain", "lp001", cwd=project)
    assert done.returncode == 0
    for part in (RULES["LP001"].title, RULES["LP001"].why, RULES["LP001"].fix, "    install(app, pool)"):
        assert part in done.stdout


def test_nothing_of_the_user_s_is_imported(project: Path) -> None:
    (project / "app" / "bomb.py").write_text("raise SystemExit('imported')\n")
    assert lifepool("check", "app/bomb.py", cwd=project).returncode == 0


def test_options_reach_the_command(project: Path) -> None:
    done = lifepool("check", "--ignore", "LP005", "--exclude", "polls.py", "--format", "json", cwd=project)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"files": 1, "findings": []})


# --- which files ----------------------------------------------------------------------------------------------------


def test_other_people_s_code_is_passed_over(tmp_path: Path) -> None:
    for folder in (".venv", ".git", "node_modules", "__pycache__", "env/lib", "src"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "src" / "notes.txt").touch()
    assert find_files([tmp_path], [], tmp_path) == [tmp_path / "src" / "a.py"]


def test_a_file_that_is_named_is_read_whatever_it_is_called_and_once(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.touch()
    assert find_files([script, script], [], tmp_path) == [script]


@pytest.mark.parametrize(
    "pattern", ["legacy", "legacy/", "app/legacy", "app/legacy/*", "*/legacy", "*_old.py", "x_old.py"]
)
def test_a_pattern_leaves_out_files_and_folders(tmp_path: Path, pattern: str) -> None:
    old, new = tmp_path / "app" / "legacy" / "x_old.py", tmp_path / "app" / "new.py"
    old.parent.mkdir(parents=True)
    old.touch()
    new.touch()
    assert find_files([tmp_path], [pattern], tmp_path) == [new]
    assert find_files([old], [pattern], tmp_path) == [], "also one that is named, as pre-commit does"


# --- files that can't be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why", "position"),
    [
        (b"def broken(:\n", "invalid syntax", (1, 12)),
        (b"x = 1\ny = '\xff'\n", "", (1, 1)),
        (b"x = 1\0", "null bytes", (1, 1)),
        (b"# coding: klingon\n", "klingon", (1, 1)),
        (b"x = " + b"-" * 100_000 + b"1", "", (1, 1)),
    ],
)
def test_a_file_that_can_not_be_read_is_a_finding_and_the_others_are_checked(
    tmp_path: Path, content: bytes, why: str, position: tuple[int, int]
) -> None:
    broken, sleeps = tmp_path / "broken.py", tmp_path / "sleeps.py"
    broken.write_bytes(content)
    sleeps.write_text(SLEEPS)
    first, second = check_files([broken, sleeps], RULES.keys()).findings
    assert (first.code, second.code) == ("LP000", "LP005")
    assert why in first.message
    assert (first.location.line, first.location.column) == position or not why


@pytest.mark.parametrize("source", [" + ".join(["'a'"] * 600), "q" + ".f(1)" * 600])
def test_long_expressions_are_read(tmp_path: Path, source: str) -> None:
    assert findings(tmp_path, f"x = {source}\n") == ()


def test_a_file_that_is_gone_is_a_finding(tmp_path: Path) -> None:
    (finding,) = check_files([tmp_path / "gone.py"], RULES.keys()).findings
    assert finding.message == "this file can't be read: No such file or directory"


def test_columns_count_characters(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, "import time\nasync def f():\n    x = 'üü'; time.sleep(1)\n")
    assert finding.location == Location(3, 15, 3, 28)


def test_a_file_is_read_by_its_coding_line(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xfc'\n" + SLEEPS.encode())
    assert [each.code for each in check_files([tmp_path / "latin.py"], RULES.keys()).findings] == ["LP005"]


# --- comments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comment", "stays"),
    [
        ("# lifepool: ignore", False),
        ("# lifepool: ignore[LP005]", False),
        ("#lifepool:ignore[lp001, lp005]", False),
        ("# known # lifepool: ignore[LP005] until June", False),
        ("# lifepool: ignore[LP001]", True),
        ("# noqa", True),
        ("; x = '# lifepool: ignore'", True),
    ],
)
def test_a_comment_silences_its_line(tmp_path: Path, comment: str, stays: bool) -> None:
    source = f"import time\nasync def f():\n    time.sleep(1)  {comment}\n"
    assert bool(findings(tmp_path, source)) is stays


def test_a_comment_may_stand_at_the_end_of_a_call_of_many_lines() -> None:
    ignores = Ignores("f(\n    1,\n)  # lifepool: ignore[LP005]\n")
    assert ignores.cover("LP005", Location(1, 1, 3, 2))
    assert not ignores.cover("LP005", Location(1, 1, 2, 2))


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_project_s_table_is_used_from_every_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.lifepool.check]\nselect = ['LP005', 'LP010']\nignore = ['LP010']\nexclude = ['app/other']\n"
    )
    assert found(command.check([project])[0]) == ["LP005"]
    monkeypatch.chdir(project / "app")
    settings = load(project / "app", select=(), ignore=(), exclude=())
    assert sorted(settings.codes) == ["LP005"]
    assert (settings.exclude, settings.root) == (("app/other",), project)


def test_what_is_typed_overrides_what_is_written(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.lifepool.check]\nselect = ['LP005']\nexclude = ['app']\n")
    settings = load(project, select=["lp010,LP001"], ignore=[], exclude=["x", "y"])
    assert sorted(settings.codes) == ["LP001", "LP010"]
    assert settings.exclude == ("x", "y")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("selection = []", "[tool.lifepool.check] has no 'selection'; it has select, ignore, exclude"),
        ("select = 'LP001'", "select must be a list of strings"),
        ("ignore = ['LP999']", "there is no rule 'LP999'"),
        ("ignore = [", "pyproject.toml: "),
    ],
)
def test_a_table_that_makes_no_sense_is_wrong_usage(project: Path, table: str, message: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.lifepool.check]\n{table}\n")
    with pytest.raises(WrongUsage, match=re.escape(message)):
        command.check([project])


def test_without_a_table_every_rule_applies(project: Path) -> None:
    assert load(project, select=(), ignore=(), exclude=()).codes == RULES.keys()


# --- formats --------------------------------------------------------------------------------------------------------


def test_json_has_everything_about_a_finding(project: Path) -> None:
    report = json.loads(command.check([project / "app" / "sleeps.py"], form="json")[0])
    assert report["files"] == 1
    (finding,) = report["findings"]
    assert finding | {"message": ""} == {
        "path": (project / "app" / "sleeps.py").as_posix(),
        "line": 4,
        "column": 5,
        "end_line": 4,
        "end_column": 18,
        "code": "LP005",
        "message": "",
        "level": "warning",
        "title": RULES["LP005"].title,
        "why": RULES["LP005"].why,
        "fix": RULES["LP005"].fix,
    }


def test_github_gets_a_command_for_each_finding_with_its_special_characters_escaped(project: Path) -> None:
    odd = project / "a,b:100%.py"
    odd.write_text(SLEEPS)
    text, clean = command.check([odd.relative_to(project)], form="github")
    assert not clean
    assert text.startswith("::warning file=a%2Cb%3A100%25.py,line=4,endLine=4,col=5,endColumn=18,title=LP005%3A ")
    assert "::`time.sleep()` blocks: use" in text
    assert text.count("\n") == 0
    assert command.check([project / "app"], form="github")[0].startswith("::notice file=")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_can_say_that_there_is_nothing(tmp_path: Path, form: str) -> None:
    text, clean = command.check([tmp_path], form=form)
    assert clean
    assert form == "github" or text


#: What SARIF 2.1.0 asks of the objects that are written: required properties first, then others that it knows.
SARIF = {
    "log": ({"version", "runs"}, {"$schema"}),
    "run": ({"tool"}, {"results", "columnKind"}),
    "tool": ({"driver"}, set()),
    "driver": ({"name"}, {"version", "rules"}),
    "rule": ({"id"}, {"shortDescription", "fullDescription", "help", "defaultConfiguration"}),
    "result": ({"message"}, {"ruleId", "ruleIndex", "level", "locations"}),
    "physicalLocation": ({"artifactLocation"}, {"region"}),
    "artifactLocation": ({"uri"}, {"uriBaseId"}),
    "region": ({"startLine"}, {"startColumn", "endLine", "endColumn"}),
}


def check_object(kind: str, value: dict[str, Any]) -> None:
    required, known = SARIF[kind]
    assert required <= value.keys() <= required | known, kind


def sarif(*paths: Path) -> dict[str, Any]:
    """Return the log, after each of its objects was compared with the standard."""
    log: dict[str, Any] = json.loads(command.check(paths, form="sarif")[0])
    check_object("log", log)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    check_object("run", run)
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    check_object("tool", run["tool"])
    check_object("driver", run["tool"]["driver"])
    for rule in run["tool"]["driver"]["rules"]:
        check_object("rule", rule)
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    for result in run["results"]:
        check_result(result, run["tool"]["driver"]["rules"])
    return log


def check_result(result: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    check_object("result", result)
    assert result["message"]["text"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    (location,) = result["locations"]
    assert location.keys() == {"physicalLocation"}
    check_object("physicalLocation", location["physicalLocation"])
    check_object("artifactLocation", location["physicalLocation"]["artifactLocation"])
    region = location["physicalLocation"]["region"]
    check_object("region", region)
    assert all(isinstance(value, int) and value >= 1 for value in region.values())
    assert (region["startLine"], region["startColumn"]) < (region["endLine"], region["endColumn"])


def test_sarif_is_as_the_standard_says(project: Path) -> None:
    (project / "app" / "broken.py").write_text("def (")
    run = sarif(project / "app")["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    assert [result["ruleId"] for result in run["results"]] == ["LP000", "LP010", "LP005"]


def test_sarif_names_files_from_the_folder_that_it_was_made_in(project: Path) -> None:
    odd = project / "my app.py"
    odd.write_text(SLEEPS)
    (result,) = sarif(odd)["runs"][0]["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "my%20app.py", "uriBaseId": "%SRCROOT%"}


def test_sarif_names_files_elsewhere_by_their_whole_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "app")
    odd = project / "other.py"
    odd.write_text(SLEEPS)
    (result,) = sarif(odd)["runs"][0]["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact.keys() == {"uri"}
    assert unquote(artifact["uri"]) == f"file://{odd.as_posix()}"


# --- this repository ------------------------------------------------------------------------------------------------


def test_this_repository_s_own_code_has_no_findings() -> None:
    folders = [ROOT / "src", ROOT / "examples"]
    assert check_files(find_files(folders, [], ROOT), RULES.keys()).findings == ()


def test_the_hook_of_pre_commit_runs_the_command_that_exists() -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert re.findall(r"^- id: (.+)$", text, re.MULTILINE) == ["lifepool-check"]
    (entry,) = re.findall(r"^  entry: lifepool (.+)$", text, re.MULTILINE)
    assert lifepool(entry, "--help").returncode == 0
    assert "- id: lifepool-check" in (ROOT / "docs" / "how-to" / "check-your-code.md").read_text()
