#!/bin/sh
# Runs some of the tests on every other supported Python on this machine, each in a virtual environment of its own.
# usage: matrix.sh TEST_PATH...      the Python of .venv is left out: `make test` runs everything on it
set -eu

show='import sys; print("%d.%d" % sys.version_info[:2])'
here=$(.venv/bin/python -c "$show")

# The Python of one version: on the PATH, or the newest that pyenv holds.
locate() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c '' >/dev/null 2>&1; then found=$candidate; fi
    done
    echo "${found:-}"
}

for version in 3.11 3.12 3.13; do
    [ "$version" = "$here" ] && continue
    python=$(locate "$version")
    if [ -z "$python" ]; then
        echo "matrix: Python $version is not on this machine; left out"
        continue
    fi
    # An environment of that name may have been made with another Python, by a make that was given none.
    if [ -d ".venv-$version" ] && [ "$(".venv-$version/bin/python" -c "$show" 2>/dev/null)" != "$version" ]; then
        rm -rf ".venv-$version"
    fi
    # A make of its own: the jobs and variables of the make that called us are not meant for it.
    MAKEFLAGS='' make --no-print-directory ".venv-$version/.stamp" PYTHON="$python" >&2
    echo "matrix: Python $version"
    ".venv-$version/bin/python" -m pytest -q -n 3 --dist worksteal \
        -o "cache_dir=.venv-$version/pytest-cache" "$@"
done
