#!/usr/bin/env bash
# The test command: everything that must hold, in one go.
#   scripts/test.sh            all of it
#   scripts/test.sh FILTER     only the tests whose name contains FILTER (no lints)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

scripts/install-lab.sh
# What it fetches, it fetches while the compiler works.
scripts/install-clients.sh &
clients=$!

if [ $# -eq 0 ]; then
  say "format"
  cargo fmt --all --check
  say "lints"
  cargo clippy --workspace --all-targets --locked -- -D warnings
fi

# The interop tests start the real binary and the real examples, so these are built first.
say "build"
cargo build --workspace --bins --examples --locked

wait "$clients"
say "tests"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --locked --no-fail-fast "$@"
else
  cargo test --workspace --locked --no-fail-fast --lib --bins --tests -- --test-threads=2 "$@"
fi

if [ $# -eq 0 ]; then
  say "doc tests"
  cargo test --workspace --locked --doc
fi
say "all green"
