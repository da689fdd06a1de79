#!/bin/sh
# Makes a virtual environment with exactly the locked packages and the project: editable, or from a wheel.
# usage: [LOCK=requirements/dev.txt] make-venv.sh DIRECTORY PYTHON [WHEEL]
# PYTHON may be empty: the first suitable one
set -eu

venv=$1
python=$(sh scripts/find-python.sh "$2")

# From nothing each time: what an older lock had installed must not stay and be imported by accident.
rm -rf "$venv"
echo "making $venv with $("$python" --version)"
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
# No resolving: the lock is complete, and pip would look for the newest release of what another package asks for with
# an extra (coverage[toml]), which the lock pins without one, and stop at its missing hash on the day it is released.
pip install --quiet --no-deps --require-hashes --only-binary :all: -r "${LOCK:-requirements/dev.txt}"
pip install --quiet --no-deps --no-build-isolation ${3:--e .}
pip check >/dev/null || { pip check; exit 1; }
touch "$venv/.stamp"
