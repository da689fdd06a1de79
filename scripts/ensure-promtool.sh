#!/bin/sh
# The tests have Prometheus' own promtool check the metrics and the alert rules. Finds one, or unpacks that of Debian's
# package into .promtool (nothing is installed: no server is wanted here), or says what to do.
# PROMTOOL=/path/to/promtool names one that is somewhere else.
set -eu

folder=.promtool
for name in "${PROMTOOL:-}" promtool "$folder/promtool"; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
advise() {
    echo "error: the tests need promtool. $1" >&2
    echo "  Install 'prometheus' with your package manager, or set PROMTOOL=/path/to/promtool." >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
    advise "There is none on the PATH, and no apt-get to fetch it with."
as_root=
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null 2>&1; then as_root=sudo; fi

echo "fetching promtool for the tests of the metrics"
work=$(mktemp -d)
trap 'rm -rf "$work" || true' EXIT
fetch() { (cd "$work" && apt-get download prometheus) >"$work/log" 2>&1 </dev/null; }
if ! fetch && ! { $as_root apt-get update >"$work/log" 2>&1 </dev/null && fetch; }; then
    tail -n 20 "$work/log" >&2
    advise "apt-get could not download it (see above)."
fi
dpkg-deb -x "$work"/prometheus_*.deb "$work/unpacked"
mkdir -p "$folder"
mv "$work/unpacked/usr/bin/promtool" "$folder/promtool"
