#!/bin/sh
# Writes the lock file: every package with its hashes, for Python 3.11 and newer on every platform, and no address
# of where it came from, so that it installs from any index.
# usage: [INPUT=pyproject.toml] lock.sh OUTPUT CHOICE...
#                                      what of pyproject.toml: --group dev, --all-extras, --extra examples;
#                                      --constraint LOCK: the same versions as in another lock file
set -eu

output=$1
shift
tools=$(mktemp -d)
trap 'rm -rf "$tools" || true' EXIT
"$(sh scripts/find-python.sh)" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$tools/bin/uv" pip compile "${INPUT:-pyproject.toml}" "$@" --universal --python-version 3.11 \
    --upgrade --generate-hashes --no-emit-index-url --no-header --quiet --output-file "$output" >/dev/null
echo "wrote $output"
