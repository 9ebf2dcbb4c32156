#!/usr/bin/env bash
# Builds the image from a static binary, without network or registry, and looks whether it is what it should be.
#
# Usage: tests/image/check.sh BINARY PROGRAM. PROGRAM has the sandbox, against which BINARY serves. Needs buildah,
# openssl, and root.
set -euo pipefail

binary="$(realpath "$1")"
program="$(realpath "$2")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="$(mktemp -d)"
pid=
cluster=
# shellcheck disable=SC2317 # Called when the script ends.
clean_up() {
  [ -z "$pid" ] || kill "$pid" || true
  [ -z "$cluster" ] || kill "$cluster" || true
  "${buildah[@]}" umount --all >/dev/null || true
  rm -rf "$work"
}
# A store of its own, in a form that needs nothing of the kernel.
buildah=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
trap clean_up EXIT

fail() {
  echo "image: $*" >&2
  exit 1
}
# Where the program listens that writes its log to this file.
address_of() {
  local address
  for _ in $(seq 300); do
    address="$(sed -n 's/.*listening address=\([0-9.:]*\).*/\1/p' "$1")"
    [ -z "$address" ] || break
    sleep 0.1
  done
  [ -n "$address" ] || fail "it does not listen: $(cat "$1")"
  echo "$address"
}
version="$(sed -n 's/^version = "\(.*\)"$/\1/p;T;q' Cargo.toml)"

# From elsewhere than the repository, as build-image.sh does it. The first stage is not built, so its image is not
# asked for.
mkdir "$work/context"
cp Dockerfile "$binary" "$work/context/"
"${buildah[@]}" build --isolation chroot --pull-never --target prebuilt --build-arg "BINARY=$(basename "$binary")" \
  --build-arg RUST_IMAGE=nowhere.invalid/rust --build-arg "VERSION=$version" --build-arg REVISION=abc \
  -t gum:check "$work/context" >/dev/null 2>"$work/log" || fail "not built: $(cat "$work/log")"

inspect() { "${buildah[@]}" inspect --type image --format "$1" gum:check; }
expect() {
  [ "$2" = "$3" ] || fail "$1 is $2 instead of $3"
  echo "image: $1: $2"
}
expect user "$(inspect '{{.OCIv1.Config.User}}')" 65532:65532
expect entrypoint "$(inspect '{{range .OCIv1.Config.Entrypoint}}[{{.}}]{{end}}')" "[/gcu-upgrade-manager]"
# shellcheck disable=SC2016 # A template.
expect ports "$(inspect '{{range $port, $_ := .OCIv1.Config.ExposedPorts}}[{{$port}}]{{end}}')" "[32765/tcp]"
expect "label version" "$(inspect '{{index .OCIv1.Config.Labels "org.opencontainers.image.version"}}')" "$version"
expect "label revision" "$(inspect '{{index .OCIv1.Config.Labels "org.opencontainers.image.revision"}}')" abc

"${buildah[@]}" push --quiet gum:check "docker-archive:$work/image.tar:gum:check" >/dev/null
size="$(stat -c %s "$work/image.tar")"
[ "$size" -lt 20000000 ] || fail "$size bytes are not under 20 MB"
echo "image: $size bytes"

container="$("${buildah[@]}" from gum:check)"
root="$("${buildah[@]}" mount "$container")"
expect files "$(find "$root" -type f -printf '%P %m\n')" "gcu-upgrade-manager 755"
image() { chroot --userspec 65532:65532 "$root" /gcu-upgrade-manager "$@"; }
expect program "$(image --version)" "gcu-upgrade-manager $version"
image crd | grep -q 'name: gcuupgrades.gum.enflame.com' || fail "it does not print its CRD"

! image sandbox --help >/dev/null 2>&1 || fail "it has the sandbox, which is for machines without a cluster"

# All of it at work: as nobody, with nothing beside it but the way to a cluster. A chroot is no read-only file system,
# but root owns this one.
"$program" sandbox --listen 127.0.0.1:0 --pod-start 10ms --kubeconfig-out "$work/sandbox" >"$work/cluster" 2>&1 &
cluster=$!
address_of "$work/cluster" >/dev/null
# The image has no certificates of authorities, and a client wants one even where it speaks plain HTTP. A pod has the
# cluster's own; here it is anybody's.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=it -keyout /dev/null \
  -out "$work/ca.pem" 2>/dev/null
sed "s#server: #certificate-authority-data: $(base64 -w0 "$work/ca.pem"), server: #" "$work/sandbox" >"$root/kubeconfig"
chroot --userspec 65532:65532 "$root" /gcu-upgrade-manager serve --listen 127.0.0.1:0 --blueprints / \
  --kubeconfig /kubeconfig --log-dir - >"$work/out" 2>&1 &
pid=$!
address="$(address_of "$work/out")"
curl -fsS --retry 20 --retry-all-errors "http://$address/gum/v1/gr/enflame-gcu-resource" |
  grep -q '"readyResource": "5/5"' || fail "it does not serve"
echo "image: serves"
kill "$pid"
wait "$pid" || fail "it does not end well"
pid=

# The resolver is musl's, not that of the other tests.
cat >"$work/kubeconfig" <<'EOF'
apiVersion: v1
kind: Config
current-context: it
clusters: [{ name: it, cluster: { server: "https://localhost:9" } }]
users: [{ name: it, user: { token: it } }]
contexts: [{ name: it, context: { cluster: it, user: it } }]
EOF
"$binary" serve --listen 127.0.0.1:0 --kubeconfig "$work/kubeconfig" --log-dir "$work/op-log" \
  --log debug >"$work/out" 2>&1 &
pid=$!
for _ in $(seq 50); do
  grep -q 'connecting to \(127.0.0.1\|\[::1\]\):9' "$work/out" && echo "image: finds hosts" && exit
  sleep 0.1
done
fail "it does not find localhost: $(cat "$work/out")"
