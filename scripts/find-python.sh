#!/bin/sh
# Prints the first Python that can carry the project: at least 3.11, with `venv` and `ensurepip`.
# usage: find-python.sh [PYTHON]      with an argument, only that one is considered
set -eu

usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

# Asked by running it: a version manager's shim may be on the PATH and still have no Python behind it.
works() { command -v "$1" >/dev/null 2>&1 && "$1" -c "$usable" >/dev/null 2>&1; }

if [ -n "${1:-}" ]; then
    works "$1" && { echo "$1"; exit 0; }
    version=$("$1" --version 2>/dev/null) || version='not there'
    echo "error: PYTHON=$1 is $version; lifepool needs Python 3.11 or newer with its venv module" >&2
    exit 1
fi
for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
    works "$candidate" && { echo "$candidate"; exit 0; }
done
cat >&2 <<'MESSAGE'
error: found no Python 3.11 or newer that has its venv module.
  Debian, Ubuntu:  apt-get install python3 python3-venv
  macOS:           brew install python@3.13
  elsewhere:       make PYTHON=/path/to/python3.11 ...
MESSAGE
exit 1
