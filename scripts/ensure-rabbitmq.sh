#!/bin/sh
# `make test-rabbitmq` needs a RabbitMQ. Finds the program, or installs Debian's package, or says what to do. The tests
# start a broker of their own; Debian's package would start one as a service as well, which is kept from happening while
# it is installed.
set -eu

found() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1; }
advise() {
    echo "error: these tests need a rabbitmq-server. $1" >&2
    echo "  Install 'rabbitmq-server' with your package manager." >&2
    exit 1
}

found && exit 0
command -v apt-get >/dev/null 2>&1 || advise "There is none on the PATH, and no apt-get to install it with."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || advise "Installing it takes root, and there is no sudo."
    as_root=sudo
fi
echo "installing rabbitmq-server, and Erlang with it"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made=
tidy() {
    rm -f "$log"
    if [ -n "$made" ]; then $as_root rm -f "$policy"; fi
}
trap tidy EXIT
if [ ! -e "$policy" ]; then # Debian's own way to say that no service is to be started
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    made=yes
fi
if ! { $as_root apt-get update && $as_root apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends rabbitmq-server; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    advise "apt-get could not install it (see above)."
fi
found || advise "apt-get installed the package, but there is still none to be found."
