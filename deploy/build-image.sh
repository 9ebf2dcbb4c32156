#!/bin/sh
# Builds the image of gcu-upgrade-manager and saves it to ./images.
#
# Usage: ./build-image.sh [--dry-run] [--help] [-- OPTIONS OF THE BUILD]
#
#   IMAGE           name of the image, with a registry if it is to be pushed; default enflame/gcu-upgrade-manager
#   TAG             its tag; default the version of the chart
#   BINARY          a static executable to put in, instead of building from source; default ./gcu-upgrade-manager
#                   if that is there
#   CONTAINER_TOOL  docker, podman, nerdctl or buildah; default the first that works
#   RUST_IMAGE      image to build from source in, for example from your own mirror

set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done

source="$(dirname "$here")"
[ -z "${BINARY:-}" ] && [ -f "$here/$NAME" ] && BINARY="$here/$NAME"
[ -z "${BINARY:-}" ] || [ -f "$BINARY" ] || fail "BINARY: there is no file $BINARY"
[ -f "$source/Dockerfile" ] || fail "there is no Dockerfile in $source"
choose_tool

say "1. Clear old image if exist"
if "$tool" inspect "$IMAGE:$TAG" >/dev/null 2>&1; then
  # In use by a container perhaps: the new one takes its name all the same.
  run "$tool" rmi "$IMAGE:$TAG" || say "the old image stays, without its name"
fi
run rm -f "$archive"

say "2. Build image start..."
say "image name: $IMAGE, image version: $TAG, built with: $tool"
revision="$(git -C "$source" rev-parse HEAD 2>/dev/null || say unknown)"
set -- -t "$IMAGE:$TAG" --build-arg "VERSION=$TAG" --build-arg "REVISION=$revision" \
  --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$@"
if [ -n "${BINARY:-}" ]; then
  context="$(mktemp -d)"
  trap 'rm -rf "$context"' EXIT
  cp "$source/Dockerfile" "$context/"
  cp "$BINARY" "$context/$NAME"
  chmod 0755 "$context/$NAME"
  set -- --target prebuilt --build-arg "BINARY=$NAME" "$@" "$context"
else
  [ -z "${RUST_IMAGE:-}" ] || set -- --build-arg "RUST_IMAGE=$RUST_IMAGE" "$@"
  set -- "$@" "$source"
fi
run "$tool" build "$@" || fail "the image could not be built"
$dry_run || say "build image success"

say "3. save image to ./images"
run mkdir -p "$(dirname "$archive")"
if saves_by_push; then
  run "$tool" push "$IMAGE:$TAG" "docker-archive:$archive:$IMAGE:$TAG" || fail "the image could not be saved"
else
  run "$tool" save -o "$archive" "$IMAGE:$TAG" || fail "the image could not be saved to $archive"
fi
$dry_run || say "build success, you can deploy gcu upgrade manager use ./deploy.sh"
