#!/bin/sh
# The tests of jobs start a PostgreSQL server of their own. Finds its programs, or installs Debian's package, or says
# what to do. The package's own server is neither needed nor left running.
# POSTGRESQL=/path/to/bin names a folder that is somewhere else.
set -eu

found() {
    for folder in "${POSTGRESQL:-}" /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
        if [ -n "$folder" ] && [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then return 0; fi
    done
    command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1
}
advise() {
    echo "error: the tests need the programs of a PostgreSQL server. $1" >&2
    echo "  Install 'postgresql' with your package manager, or set POSTGRESQL=/path/to/its/bin." >&2
    exit 1
}

found && exit 0
command -v apt-get >/dev/null 2>&1 || advise "There are none, and no apt-get to install them with."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || advise "Installing them takes root, and there is no sudo."
    as_root=sudo
fi
echo "installing PostgreSQL for the tests of jobs"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# No cluster of its own: the package would make one and start it.
$as_root mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
if ! { $as_root apt-get update && $as_root apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends postgresql; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    advise "apt-get could not install it (see above)."
fi
found || advise "apt-get installed the package, but its programs are not where they were expected."
