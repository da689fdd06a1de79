#!/bin/sh
# Builds the wheel with its compiled modules outside of the checkout, and runs tests on it in the environment of .venv.
# usage: compiled.sh [pytest's arguments]
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work" || true' EXIT
python=$PWD/.venv/bin/python
tar -cf - --exclude='*.so' --exclude=__pycache__ pyproject.toml README.md LICENSE scripts src | tar -xf - -C "$work"
echo "compiling"
(cd "$work" && HATCH_BUILD_HOOK_ENABLE_MYPYC=1 "$python" -m build --no-isolation --wheel --outdir dist . >build.log 2>&1) ||
    { cat "$work/build.log"; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/site" "$work"/dist/*.whl
# In front of the checkout, for this Python and every process that it starts.
PYTHONPATH=$work/site
export PYTHONPATH
"$python" -c '
import lifepool._core.scheduler as compiled
assert compiled.__file__.endswith(".so"), f"{compiled.__file__} is not compiled"
'
"$python" -m pytest -q -p no:cacheprovider "$@"
