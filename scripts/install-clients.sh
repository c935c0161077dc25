#!/usr/bin/env bash
# Installs what makes clients of the OpenRPC document, for the tests that run such clients: @open-rpc/generator of npm and
# openrpcclientgenerator of PyPI, in the versions and with the hashes of the lock files in tests/clients, below the target
# folder. On a Debian or Ubuntu machine without Node.js 18 (npm) or Python 3.11 (venv) it installs these first. Safe to run
# again: it does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install-clients: %s\n' "$*"; }
die() { printf 'install-clients: %s\n' "$*" >&2; exit 1; }

target=$(cd "$(mkdir -p "${CARGO_TARGET_DIR:-target}" && echo "${CARGO_TARGET_DIR:-target}")" && pwd)/clients
node=tests/clients/typescript
python=tests/clients/python

# One at a time, when several test commands run at once.
mkdir -p "$target"
exec 9>"$target/lock"
flock 9

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1; then as_root=(sudo -n); else as_root=(false); fi
fi

has_node() { node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null; }
has_npm() { npm --version >/dev/null 2>&1; }
has_python() { python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

missing=()
has_node || missing+=(nodejs)
has_npm || missing+=(npm)
has_python || missing+=(python3 python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null 2>&1 || die "missing: ${missing[*]}. This machine has no apt-get; install their like by hand."
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
  { has_node && has_npm; } || die "Node.js 18 or later with npm is needed, and this machine's packages have none"
  has_python || die "Python 3.11 or later with venv is needed, and this machine's packages have none"
fi

# What was installed last is said by the copy of the lock file that is written when it is done.
if cmp -s "$node/package-lock.json" "$target/npm.installed"; then
  say "the packages of npm are here"
else
  rm -rf "$target/npm" "$target/npm.installed"
  mkdir -p "$target/npm"
  cp "$node/package.json" "$node/package-lock.json" "$target/npm/"
  (cd "$target/npm" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || die "npm could not install the packages"
  cp "$node/package-lock.json" "$target/npm.installed"
fi

if cmp -s "$python/requirements.txt" "$target/python.installed"; then
  say "the packages of PyPI are here"
else
  rm -rf "$target/python" "$target/python.installed"
  python3 -m venv "$target/python"
  "$target/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    -r "$python/requirements.txt" || die "pip could not install the packages"
  cp "$python/requirements.txt" "$target/python.installed"
fi
