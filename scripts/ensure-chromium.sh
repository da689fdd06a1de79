#!/bin/sh
# The page's tests drive a real Chromium. Finds one, or installs Debian's package, or says what to do.
# CHROMIUM=/path/to/chromium names one that is somewhere else.
set -eu

mac='/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
found() {
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome "$mac"; do
        if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}
advise() {
    echo "error: the tests need a Chromium. $1" >&2
    echo "  Install 'chromium' with your package manager, or set CHROMIUM=/path/to/chromium (or Chrome)." >&2
    exit 1
}

found && exit 0
command -v apt-get >/dev/null 2>&1 || advise "There is none on the PATH, and no apt-get to install it with."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || advise "Installing it takes root, and there is no sudo."
    as_root=sudo
fi
echo "installing Chromium for the page's tests"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $as_root apt-get update && $as_root apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends chromium; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    advise "apt-get could not install it (see above)."
fi
found || advise "apt-get installed the package, but there is still none on the PATH."
