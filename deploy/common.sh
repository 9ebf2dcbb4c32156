# shellcheck shell=sh
# What build-image.sh, deploy.sh and delete.sh share. Not to be run by itself.

NAME=gcu-upgrade-manager
here="$(cd "$(dirname "$0")" && pwd)"
chart="$here/chart/$NAME"
IMAGE="${IMAGE:-enflame/$NAME}"
TAG="${TAG:-$(sed -n 's/^appVersion: *"\(.*\)"$/\1/p' "$chart/Chart.yaml")}"
NAMESPACE="${NAMESPACE:-kube-system}"
# shellcheck disable=SC2034 # Used by the scripts.
archive="$here/images/${NAME}_$TAG.tar"
dry_run=false

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

say() { printf '%s\n' "$*"; }

# Runs a command, or says it.
run() {
  if $dry_run; then
    say "would run: $*"
  else
    "$@"
  fi
}

# Prints the comment at the head of the script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

need() { command -v "$1" >/dev/null || fail "$1 is not installed, or not in PATH"; }

# The program that builds and pushes: CONTAINER_TOOL, or the first that is there and works.
choose_tool() {
  if [ -n "${CONTAINER_TOOL:-}" ]; then
    need "$CONTAINER_TOOL"
    tool="$CONTAINER_TOOL"
    return
  fi
  for tool in docker podman nerdctl buildah; do
    command -v "$tool" >/dev/null && "$tool" info >/dev/null 2>&1 && return
  done
  fail "none of docker, podman, nerdctl and buildah is there and works; CONTAINER_TOOL names another"
}

# podman and buildah put localhost/ before a name without a registry; in an archive it has to be the plain name.
saves_by_push() { case "${tool##*/}" in podman | buildah) true ;; *) false ;; esac }

# The registry in IMAGE, empty when it names none.
registry() {
  case "$IMAGE" in
    */*)
      first="${IMAGE%%/*}"
      case "$first" in *.* | *:* | localhost) say "$first" ;; esac
      ;;
  esac
}
