#!/bin/sh
# `make test-cluster` and Celery's part of `make bench-distributed` need a Redis. Finds the program, or installs Debian's package, or says what
# to do. Debian's redis-tools has it too, under another name, and starts no service: both start their own.
set -eu

found() { command -v redis-server >/dev/null 2>&1 || command -v redis-check-rdb >/dev/null 2>&1; }
advise() {
    echo "error: Celery needs a redis-server. $1" >&2
    echo "  Install 'redis' with your package manager; a benchmark can leave Celery out: ARGS=\"--contender lifepool ...\"." >&2
    exit 1
}

found && exit 0
command -v apt-get >/dev/null 2>&1 || advise "There is none on the PATH, and no apt-get to install it with."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || advise "Installing it takes root, and there is no sudo."
    as_root=sudo
fi
echo "installing redis-tools, which has the server"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $as_root apt-get update && $as_root apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends redis-tools; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    advise "apt-get could not install it (see above)."
fi
found || advise "apt-get installed the package, but there is still none on the PATH."
