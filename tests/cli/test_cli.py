"""The `lifepool` command's shell: version, help, and what it says where its packages are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lifepool as package
from tests.cli.runner import TIMEOUT, lifepool


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_it_tells_its_version() -> None:
    done = lifepool("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lifepool {package.__version__}\n", "")


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lifepool", "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"lifepool {package.__version__}\n")


def test_help_names_the_command_as_it_is_typed() -> None:
    done = lifepool("--help")
    assert done.returncode == 0
    assert "Usage: lifepool [OPTIONS]" in done.stdout


def test_an_unknown_subcommand_is_wrong_usage() -> None:
    done = lifepool("brew-coffee")
    assert done.returncode == 2
    assert "No such command 'brew-coffee'" in done.stderr


def test_without_the_extra_one_line_says_what_to_install() -> None:
    source = Path(package.__file__).parent.parent
    # -S: without site-packages there is no typer.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(source)!r})\n"
         "from lifepool.__main__ import main; main()"],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the lifepool command needs typer: pip install 'lifepool[cli]'\n"


def test_a_module_that_is_missing_for_another_reason_is_not_hidden() -> None:
    done = run(
        # The import fails.
        "import sys; sys.modules['lifepool.cli.subcommands'] = None\nfrom lifepool.__main__ import main\nmain()"
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


def test_help_loads_no_command_and_no_engine() -> None:
    done = run(
        "import sys\nfrom lifepool.cli.subcommands import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('lifepool.')], file=sys.stderr)"
    )
    assert done.stderr.strip() == "['lifepool.cli', 'lifepool.cli.subcommands']"
