#!/usr/bin/env bash
# The calls of foreign stacks against the node that is built: tests/interop/run.sh NAME|all
#   aiosipua asterisk kamailio linphone pjsua pyvoip twinkle
# Installs what the named stack needs (packages of the system, the rest into target/interop), and says each step: `ok`, `fails: why`
# or `not there`. The exit status is 0 when all went as the table in docs/sip.md says.
set -euo pipefail
cd "$(dirname "$0")/../.."

all=(linphone kamailio pjsua pyvoip aiosipua twinkle asterisk)
die() { printf 'interop: %s\n' "$*" >&2; exit 1; }
[ $# -eq 1 ] || die "which: ${all[*]} or all"
[ -x "${CTIMANAGER:-target/debug/ctimanager}" ] || die "cargo build --bins -p ctimanager first"

python=python3
as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)

has_python() {
  scripts/install-lab.sh --python || die "its packages can't be installed"
  python=target/interop/python/bin/python
}

run() {
  python=python3
  case $1 in
    linphone | kamailio) scripts/install-lab.sh >/dev/null ;;
    pjsua | pyvoip | aiosipua) has_python ;;
    asterisk) [ -n "${ASTERISK:-}" ] || tests/interop/get_asterisk.sh ;;
    twinkle)
      command -v twinkle-console >/dev/null 2>&1 ||
        "${as_root[@]}" apt-get install -y -q --no-install-recommends twinkle-console ;;
    *) die "no stack $1; there are: ${all[*]}" ;;
  esac
  "$python" "tests/interop/$1_calls.py"
}

[ "$1" = all ] || { run "$1"; exit; }
failed=()
for name in "${all[@]}"; do run "$name" || failed+=("$name"); done
[ "${#failed[@]}" -eq 0 ] || die "not as the table says: ${failed[*]}"
