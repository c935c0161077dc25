#!/usr/bin/env bash
# Installs what the tests need on a Debian or Ubuntu machine, and only what is missing: SIP phones (baresip, linphonec),
# a SIP load generator (SIPp), a registrar that proves the phones before the node is blamed (kamailio), a TLS client that
# isn't ours (openssl), one more loopback address, for baresip refuses 127.0.0.0/8 for its media, and into target/interop the Python
# packages of tests/interop, where there are some for this machine. Safe to run again. `--python`: these alone.
set -euo pipefail

lab_network=10.77.0.1/24

say() { printf 'install-lab: %s\n' "$*"; }
die() { printf 'install-lab: %s\n' "$*" >&2; exit 1; }

# Of the wheels alone: none is compiled here.
install_python() {
  local folder=target/interop/python wanted=tests/interop/requirements.txt
  if cmp -s "$wanted" "$folder/installed"; then say "Python packages are here"; return 0; fi
  mkdir -p target/interop
  python3 -m venv "$folder" && "$folder/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$wanted" &&
    cp "$wanted" "$folder/installed" && say "installed the Python packages of $wanted"
}
cd "$(dirname "$0")/.."
if [ "${1:-}" = --python ]; then install_python; exit; fi

# program -> Debian package
needed=(
  "baresip baresip-core"
  "linphonec linphone-cli"
  "sipp sip-tester"
  "kamailio kamailio"
  "python3 python3"
  "ip iproute2"
  "cc gcc"
  "openssl openssl"
  "script bsdutils"
)

# What root may do; empty when we are root already.
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1; then as_root=(sudo -n); else as_root=(false); fi
fi

missing=()
for pair in "${needed[@]}"; do
  read -r program package <<<"$pair"
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing+=("$package")
done
# TLS of the registrar is a package of its own.
python3 -c 'import ensurepip' 2>/dev/null || missing+=("python3-venv")
ls /usr/lib/*/kamailio/modules/tls.so >/dev/null 2>&1 || missing+=("kamailio-tls-modules")

if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null 2>&1 ||
    die "missing: ${missing[*]}. This machine has no apt-get; install their like by hand (see docs/testing.md)."
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # A daemon that a package brings must not start: the tests run their own on their own ports.
  policy=/usr/sbin/policy-rc.d
  made_policy=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    made_policy=yes
  fi
  undo() { [ "$made_policy" = no ] || "${as_root[@]}" rm -f "$policy"; }
  trap undo EXIT
  install() { "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; }
  "${as_root[@]}" apt-get update -q
  # One more try: mirrors have bad moments.
  install || { "${as_root[@]}" apt-get update -q && install; }
else
  say "all programs are here"
fi

if PATH="$PATH:/usr/sbin:/sbin" ip -o -4 addr show dev lo | grep -q "${lab_network%/*}/"; then
  say "loopback has ${lab_network%/*} already"
elif "${as_root[@]}" env PATH="$PATH:/usr/sbin:/sbin" ip addr add "$lab_network" dev lo; then
  say "gave the loopback device $lab_network"
else
  die "could not give the loopback device $lab_network; run as root: ip addr add $lab_network dev lo"
fi

install_python || say "no Python packages for this machine: pjsua, pyVoIP and aiosipua are left out"
