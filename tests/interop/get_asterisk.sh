#!/usr/bin/env bash
# Puts an Asterisk of Debian into target/interop/asterisk, with all the libraries that it needs and without touching the system:
# stable Debian has none. tests/interop/get_asterisk.sh [SUITE]   (sid; bullseye has version 16)
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'get-asterisk: %s\n' "$*" >&2; exit 1; }
suite=${1:-sid}
root=$PWD/target/interop/asterisk
[ ! -x "$root/asterisk" ] || exit 0
command -v apt-get >/dev/null 2>&1 || die "needs apt-get; or install Asterisk 16 or later by hand"

# From where the system's own packages come.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | head -n 1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -n "$mirror" ] && [ -r "$keys" ] || die "the system's packages are not Debian's"
apt=$root/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root/system"
: >"$apt/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
options=(-q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
  -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o APT::Keep-Downloaded-Packages=true -o Debug::NoLocking=1)
apt-get "${options[@]}" update
# With an empty status file it comes with every library, the C library's included.
apt-get "${options[@]}" install -y -d --no-install-recommends asterisk
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$root/system"; done
rm -rf "$apt"

libraries=$(dirname "$(find "$root/system" -name 'libc.so.6' | head -n 1)")
loader=$(find "$root/system/" -name 'ld-linux*' -type f | head -n 1)
cat >"$root/asterisk" <<END
#!/bin/sh
exec "$loader" --library-path "$libraries:$root/system/lib/$(basename "$libraries")" "$root/system/usr/sbin/asterisk" "\$@"
END
chmod 755 "$root/asterisk"
"$root/asterisk" -V
