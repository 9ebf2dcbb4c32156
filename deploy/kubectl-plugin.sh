#!/bin/sh
# Installs the command line `kubectl gcu-upgrade` on this machine, or packs it for krew.
#
# Usage: ./kubectl-plugin.sh [--archive] [--dry-run] [--help]
#
#   --archive       instead of installing: write the archive and the manifest for krew to ./plugin
#   PLUGIN          the static executable; default ./kubectl-gcu_upgrade if that is there, else built from source (Rust)
#   PREFIX          where to install; default /usr/local
#   URL             with --archive: where the archive will be found; default where it is written, as file://

set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

pack=false
while [ $# -gt 0 ]; do
  case "$1" in
    --archive) pack=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done

plugin=kubectl-gcu_upgrade
source="$(dirname "$here")"
machine="$(uname -m)"
[ -z "${PLUGIN:-}" ] && [ -f "$here/$plugin" ] && PLUGIN="$here/$plugin"
if [ -z "${PLUGIN:-}" ]; then
  need cargo
  target="$machine-unknown-linux-musl"
  say "1. Build $plugin start..."
  (cd "$source" && run cargo build --locked --profile cli --no-default-features --target "$target" --bin "$plugin") ||
    fail "it could not be built: rustup target add $target, and a C compiler for musl (Debian: musl-tools), may be \
missing"
  PLUGIN="${CARGO_TARGET_DIR:-$source/target}/$target/cli/$plugin"
fi
[ -f "$PLUGIN" ] || $dry_run || fail "PLUGIN: there is no file $PLUGIN"

if $pack; then
  case "$machine" in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch="$machine" ;;
  esac
  packed="$here/plugin/${plugin}_${TAG}_linux_$arch.tar.gz"
  say "2. Pack $packed"
  if $dry_run; then
    say "would pack $PLUGIN"
    exit
  fi
  files="$(mktemp -d)"
  trap 'rm -rf "$files"' EXIT
  mkdir -p "$here/plugin"
  cp "$PLUGIN" "$files/$plugin"
  cp "$here/krew/kubectl_complete-gcu_upgrade" "$files/"
  cp "$source/LICENSE" "$files/"
  chmod 0755 "$files/$plugin" "$files/kubectl_complete-gcu_upgrade"
  tar -czf "$packed" -C "$files" .
  digest="$(sha256sum "$packed" | cut -d' ' -f1)"
  sed -e "s|@VERSION@|$TAG|" -e "s|@ARCH@|$arch|" -e "s|@SHA256@|$digest|" -e "s|@URI@|${URL:-file://$packed}|" \
    "$here/krew/gcu-upgrade.yaml" | grep -v '^#' >"$here/plugin/gcu-upgrade.yaml"
  say "install it with: kubectl krew install --manifest=$here/plugin/gcu-upgrade.yaml --archive=$packed"
  exit
fi

bin="${PREFIX:-/usr/local}/bin" man="${PREFIX:-/usr/local}/share/man/man1"
say "2. Install to $bin"
run mkdir -p "$bin" "$man"
run cp "$PLUGIN" "$bin/$plugin"
run cp "$here/krew/kubectl_complete-gcu_upgrade" "$bin/"
run chmod 0755 "$bin/$plugin" "$bin/kubectl_complete-gcu_upgrade"
if $dry_run; then
  say "would write $man/$plugin.1"
  exit
fi
"$bin/$plugin" man >"$man/$plugin.1"
case ":$PATH:" in
  *":$bin:"*) say "install success: kubectl gcu-upgrade --help" ;;
  *) say "install success; kubectl finds it when $bin is in PATH" ;;
esac
