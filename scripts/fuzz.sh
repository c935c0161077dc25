#!/usr/bin/env bash
# Coverage-guided fuzzing.
#
#   scripts/fuzz.sh [TARGET|all] [SECONDS]           each target for SECONDS (60), one after the other
#   scripts/fuzz.sh --hours H [--jobs J] [TARGET…]   all targets (or these) in turns for H hours on J cores (all of them)
#   scripts/fuzz.sh --executions [--hours H] …       the same, but only those that were not run as often as is wanted yet
#   scripts/fuzz.sh TARGET FILE                      one input again
#   scripts/fuzz.sh --counts                         what all runs so far add up to
#   scripts/fuzz.sh --merge [TARGET…]                leaves of each corpus only what adds coverage
#   scripts/fuzz.sh --coverage [TARGET…]             the lines of the product that the corpus reaches, file by file
#
# Builds fuzz/ with libFuzzer on the stable toolchain (the coverage is LLVM's own pass, no nightly and no cargo-fuzz are
# needed), begins with the checked-in samples, goes on with the corpus of earlier runs (fuzz/corpus/TARGET), and ends by
# itself: 0 when nothing was found. What was found lies in fuzz/artifacts/TARGET. fuzz/corpus/counts.tsv adds up all runs.
#
# The fuzzers take only time that nobody else wants. FUZZ_BUILD=no takes the programs as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'fuzz: %s\n' "$*" >&2; exit 1; }
corpus=fuzz/corpus artifacts=fuzz/artifacts counts=fuzz/corpus/counts.tsv facts=fuzz/corpus/samples/targets.tsv
triple=$(rustc -vV | sed -n 's/^host: //p')
programs=fuzz/target/$triple/release
# The longest turn of a target, seconds: what it found counts for the next turn, and a broken run costs no more.
turn=600
# An input that takes so long is a finding. Idle time may be rare, so it is generous.
patience=120

mode=turns hours='' jobs=$(nproc) wanted=no seconds=60
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --hours) hours=${2:?--hours H}; shift ;;
    --jobs) jobs=${2:?--jobs J}; shift ;;
    --executions) wanted=yes; hours=${hours:-24} ;;
    --counts) mode=counts ;;
    --merge) mode=merge ;;
    --coverage) mode=coverage ;;
    -*) die "what is $1? See the head of $0" ;;
    *) if [ -f "$1" ] && [ "${#names[@]}" -eq 1 ]; then mode=again seconds=$1
       elif [[ $1 =~ ^[0-9]+$ ]]; then seconds=$1
       else names+=("$1"); fi ;;
  esac
  shift
done
mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
[ "${names[*]:-all}" = all ] || {
  for name in "${names[@]}"; do
    [[ " ${targets[*]} " = *" $name "* ]] || die "no target $name; there are: ${targets[*]}"
  done
  targets=("${names[@]}")
}

# Idle priority where the system has it.
idle() { if command -v chrt >/dev/null 2>&1; then chrt -i 0 nice -n 19 "$@"; else nice -n 19 "$@"; fi; }

build() {
  if ! command -v c++ >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || die "libFuzzer's runtime needs a C++ compiler"
    as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    "${as_root[@]}" apt-get install -y --no-install-recommends g++
  fi
  if [ "${FUZZ_BUILD:-yes}" = yes ]; then
    # `--target` keeps the coverage out of build scripts and macros.
    local coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
      -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing'
    local bins=()
    for name in "${targets[@]}"; do bins+=(--bin "$name"); done
    # The same versions as the product's.
    cp Cargo.lock fuzz/Cargo.lock
    # shellcheck disable=SC2086
    RUSTFLAGS=$(echo $coverage) nice cargo build --manifest-path fuzz/Cargo.toml --release --target "$triple" "${bins[@]}"
    nice cargo build --quiet -p tests --bin fuzz_samples
  fi
  target/debug/fuzz_samples "$corpus/samples"
}

# Columns of targets.tsv: name, longest input, executions wanted.
fact() { awk -F'\t' -v name="$1" -v column="$2" '$1 == name { print $column }' "$facts"; }

# Columns: target, executions, seconds, edges, features, findings.
count() { # NAME EXECUTIONS SECONDS EDGES FEATURES FINDINGS
  (
    flock 9
    touch "$counts"
    awk -F'\t' -v OFS='\t' -v n="$1" -v e="$2" -v s="$3" -v c="$4" -v f="$5" -v x="$6" '
      $1 == n { e += $2; s += $3; if (!c) { c = $4; f = $5 } x += $6; next } { print } END { print n, e, s, c, f, x }
    ' "$counts" | sort >"$counts.new"
    mv "$counts.new" "$counts"
  ) 9>"$counts.lock"
}

executed() { awk -F'\t' -v name="$1" '$1 == name { print $2 }' "$counts" 2>/dev/null | grep . || echo 0; }

show() {
  [ -s "$counts" ] || return 0
  awk -F'\t' 'BEGIN { printf "%-14s %12s %9s %7s %9s %s\n", "target", "executions", "hours", "edges", "features", "findings" }
    { printf "%-14s %12d %9.2f %7d %9d %d\n", $1, $2, $3 / 3600, $4, $5, $6; e += $2; s += $3 }
    END { printf "%-14s %12d %9.2f\n", "all", e, s / 3600 }' "$counts"
}

# One target for so long; what it came to is added up whatever comes. 1 when something was found.
fuzz() { # NAME SECONDS
  local name=$1 log=$artifacts/$1.log begun=$SECONDS found=0 longest runs=-1
  longest=$(fact "$name" 2)
  [ $wanted = no ] || runs=$(($(fact "$name" 3) - $(executed "$name") + 1))
  mkdir -p "$corpus/$name" "$artifacts/$name"
  idle "$programs/$name" "$corpus/$name" "$corpus/samples/$name" -dict="$corpus/samples/words.dict" \
    -runs="$runs" -max_total_time="$2" -timeout=$patience -rss_limit_mb=3000 -max_len="$longest" -print_final_stats=1 \
    -artifact_prefix="$artifacts/$name/" >"$log" 2>&1 || found=1
  local executions edges features
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  read -r edges features < <(sed -n 's/^#[0-9].* cov: \([0-9]*\) ft: \([0-9]*\).*/\1 \2/p' "$log" | tail -1 || true) || true
  count "$name" "${executions:-0}" $((SECONDS - begun)) "${edges:-0}" "${features:-0}" $found
  printf 'fuzz: %s: %s executions in %s s, %s edges, %s features%s\n' "$name" "${executions:-0}" $((SECONDS - begun)) \
    "${edges:-0}" "${features:-0}" "$([ $found -eq 0 ] || echo ', FOUND SOMETHING')"
  [ $found -eq 0 ] || grep -E 'panicked at|SUMMARY|Test unit written' "$log" | head -4 || true
  return $found
}

merge() { # NAME
  local kept=$corpus/$1.merged
  [ -d "$corpus/$1" ] || return 0
  rm -rf "$kept"; mkdir -p "$kept"
  # Only a merge that ended takes the place of what was there.
  if idle "$programs/$1" -merge=1 -timeout=$patience -rss_limit_mb=3000 -max_len="$(fact "$1" 2)" \
    "$kept" "$corpus/$1" "$corpus/samples/$1" >"$artifacts/$1.merge.log" 2>&1; then
    printf 'fuzz: %s: %s inputs, and %s of them are enough\n' "$1" "$(find "$corpus/$1" -type f | wc -l)" \
      "$(find "$kept" -type f | wc -l)"
    rm -rf "${corpus:?}/$1"; mv "$kept" "$corpus/$1"
  else
    rm -rf "$kept"
  fi
}

# Takes targets in turns, those that were run least of what is wanted first, until the time is over.
work() { # DEADLINE
  local left name
  while left=$(($1 - SECONDS)) && [ "$left" -gt 5 ]; do
    name=$(next) || return 0
    fuzz "$name" $((left < turn ? left : turn)) || echo "$name" >>"$artifacts/found"
    rm -f "$artifacts/$name.busy"
    # A corpus that has grown much is made small again.
    if [ "$(find "$corpus/$name" -type f | wc -l)" -gt 20000 ]; then merge "$name"; fi
  done
}

next() {
  (
    flock 9
    for name in "${targets[@]}"; do
      [ ! -e "$artifacts/$name.busy" ] || continue
      # One that breaks again and again is to be mended first.
      [ "$(grep -cx -- "$name" "$artifacts/found")" -lt 5 ] || continue
      share=$(($(executed "$name") * 1000 / $(fact "$name" 3)))
      [ $wanted = no ] || [ $share -lt 1000 ] || continue
      printf '%s\t%s\n' $share "$name"
    done | sort -n | head -1 | cut -f2 | { read -r name && touch "$artifacts/$name.busy" && echo "$name"; }
  ) 9>"$artifacts/turns.lock"
}

mkdir -p "$corpus" "$artifacts"
# What is in them is nobody's text.
for folder in "$corpus" "$artifacts"; do echo 'Signature: 8a477f597d28d172789f06886806bc55' >"$folder/CACHEDIR.TAG"; done
case $mode in
  counts) show; exit ;;
  again) build; exec "$programs/${targets[0]}" "$seconds" ;;
  merge) build; for name in "${targets[@]}"; do merge "$name"; done; exit ;;
  coverage) exec scripts/fuzz-coverage.sh "${targets[@]}" ;;
esac

build
rm -f "$artifacts"/*.busy
: >"$artifacts/found"
if [ -n "$hours" ]; then
  deadline=$((SECONDS + $(awk -v h="$hours" 'BEGIN { printf "%d", h * 3600 }')))
  # A shorter time has shorter turns, so that each target has its own.
  each=$(((deadline - SECONDS) * jobs / ${#targets[@]} + 1))
  [ $each -ge $turn ] || turn=$((each < 30 ? 30 : each))
  for ((job = 0; job < jobs; job++)); do work $deadline & done
  trap 'kill $(jobs -p) 2>/dev/null' INT TERM
  wait
else
  for name in "${targets[@]}"; do fuzz "$name" "$seconds" || echo "$name" >>"$artifacts/found"; done
fi
show
[ ! -s "$artifacts/found" ] || die "found something: $(sort -u "$artifacts/found" | tr '\n' ' ')($artifacts)"
