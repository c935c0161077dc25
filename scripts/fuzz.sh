#!/usr/bin/env bash
# Coverage-guided fuzzing: scripts/fuzz.sh [TARGET|all] [SECONDS]
#
# Builds fuzz/ with libFuzzer on the stable toolchain (the coverage is LLVM's own pass, no nightly and no cargo-fuzz are
# needed), begins with the checked-in samples, runs each target for SECONDS (60) and ends by itself: 0 when nothing was
# found. What was found lies in fuzz/artifacts/TARGET, and is tried again by `scripts/fuzz.sh TARGET FILE`.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'fuzz: %s\n' "$*" >&2; exit 1; }
target=${1:-all}
seconds=${2:-60}
triple=$(rustc -vV | sed -n 's/^host: //p')

if ! command -v c++ >/dev/null 2>&1; then
  command -v apt-get >/dev/null 2>&1 || die "libFuzzer's runtime needs a C++ compiler"
  as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  "${as_root[@]}" apt-get install -y --no-install-recommends g++
fi

mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
if [ "$target" != all ]; then
  printf '%s\n' "${targets[@]}" | grep -qx "$target" || die "no target $target; there are: ${targets[*]}"
  targets=("$target")
fi

# `--target` keeps the coverage out of build scripts and macros.
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing'
programs=$(printf -- '--bin %s ' "${targets[@]}")
# The same versions as the product's.
cp Cargo.lock fuzz/Cargo.lock
# shellcheck disable=SC2086
RUSTFLAGS=$(echo $coverage) nice cargo build --manifest-path fuzz/Cargo.toml --release --target "$triple" $programs
cargo run --quiet -p tests --bin fuzz_samples -- fuzz/corpus/samples
programs=fuzz/target/$triple/release

if [ -e "$seconds" ]; then
  exec "$programs/$target" "$seconds"
fi

failed=()
for name in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$name" "fuzz/artifacts/$name"
  printf 'fuzz: %s for %s s\n' "$name" "$seconds"
  log=fuzz/artifacts/$name.log
  nice "$programs/$name" "fuzz/corpus/$name" "fuzz/corpus/samples/$name" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -max_len=8192 -print_final_stats=1 \
    -artifact_prefix="fuzz/artifacts/$name/" >"$log" 2>&1 || failed+=("$name")
  grep -E '^#[0-9]+.*DONE|stat::number_of_executed_units|stat::average_exec|panicked at|SUMMARY|Test unit written' "$log" || true
done
[ "${#failed[@]}" -eq 0 ] || die "found something: ${failed[*]} (fuzz/artifacts)"
