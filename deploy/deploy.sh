#!/bin/sh
# Installs gcu-upgrade-manager with Helm, or upgrades it: pushes the image that build-image.sh made, or loads it to
# every node, then installs the chart and waits. May be run again at any time.
#
# Usage: ./deploy.sh [--no-push] [--no-load] [--no-wait] [--dry-run] [--help] [-f VALUES] [-- OPTIONS OF helm upgrade]
#
#   IMAGE, TAG      as for build-image.sh; without a registry in IMAGE nothing is pushed
#   NAMESPACE       default kube-system
#   TIMEOUT         how long to wait for the pods; default 5m
#   CONTAINER_TOOL  docker, podman, nerdctl or buildah; default the first that works
#   SSH_USER        user on the nodes, root or one that may sudo without a password; default as ssh has it
#   SSH_OPTIONS     more options for ssh, for example "-i KEY -p 2222"
#
# Values of an earlier run are not kept: keep them in a file and give it with -f every time.

set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

push=true load=true wait=true values=
while [ $# -gt 0 ]; do
  case "$1" in
    --no-push) push=false ;;
    --no-load) load=false ;;
    --no-wait) wait=false ;;
    --dry-run) dry_run=true ;;
    -f | --values)
      [ $# -gt 1 ] || fail "$1 needs a file"
      [ -f "$2" ] || fail "there is no file $2"
      values="$2"
      shift
      ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done
need kubectl
need helm

# Prints what loads the archive from its standard input, on a node with the given container runtime.
# shellcheck disable=SC2016 # Expanded on the node.
load_command() {
  case "$1" in
    docker*) programs="docker load" ;;
    cri-o*) programs="podman load" ;;
    *) programs="ctr -n k8s.io images import -|nerdctl -n k8s.io load" ;;
  esac
  printf 'as_root=; [ "$(id -u)" -eq 0 ] || as_root="sudo -n"; '
  printf '%s\n' "$programs" | tr '|' '\n' | while read -r program; do
    printf 'if command -v %s >/dev/null; then exec $as_root %s; fi; ' "${program%% *}" "$program"
  done
  printf 'echo "no program to load images with is there (%s)" >&2; exit 1' "$programs"
}

load_to_node() {
  command="$(load_command "$3")"
  case " $(hostname) $(hostname -I 2>/dev/null || true) " in
    *" $1 "* | *" $2 "*) if $dry_run; then say "would load it here"; else sh -c "$command" <"$archive"; fi ;;
    *)
      if $dry_run; then
        say "would load it over ssh to ${SSH_USER:+$SSH_USER@}$2"
        return
      fi
      # shellcheck disable=SC2086
      ssh -o BatchMode=yes -o ConnectTimeout=10 ${SSH_OPTIONS:-} "${SSH_USER:+$SSH_USER@}$2" "$command" <"$archive"
      ;;
  esac
}

say "1. Try to push component image to the registry..."
if ! $push; then
  say "not asked for"
elif [ -z "$(registry)" ]; then
  say "IMAGE names no registry ($IMAGE), will load image to all nodes"
else
  choose_tool
  if run "$tool" push "$IMAGE:$TAG"; then
    $dry_run || say "push image success"
    load=false
  else
    say "Push image to $(registry) failed, will load image to all nodes"
  fi
fi

say "2. Load images to cluster nodes start..."
if ! $load; then
  say "not needed"
else
  [ -f "$archive" ] || $dry_run ||
    fail "there is no $archive; make it with ./build-image.sh, or give --no-load if the nodes have the image"
  nodes="$(mktemp)"
  trap 'rm -f "$nodes"' EXIT
  fields='{.metadata.name}{"|"}{.status.addresses[?(@.type=="InternalIP")].address}{"|"}'
  fields="$fields"'{.status.nodeInfo.containerRuntimeVersion}{"\n"}'
  kubectl get nodes -o "jsonpath={range .items[*]}$fields{end}" >"$nodes" ||
    fail "the nodes could not be listed: is kubectl set up for the cluster?"
  [ -s "$nodes" ] || fail "the cluster has no nodes"
  say "cluster node name list:"
  cut -d'|' -f1 "$nodes"
  failed=
  # The list is read from another descriptor than 0: ssh takes the archive from that.
  while IFS='|' read -r name addresses runtime <&3; do
    # A node may have one address of each family.
    address="${addresses%% *}"
    load_to_node "$name" "${address:-$name}" "$runtime" || failed="$failed $name"
  done 3<"$nodes"
  [ -z "$failed" ] || fail "could not load the image to:$failed
Copy $archive there and load it by hand, then run this again with --no-push --no-load. For containerd:
  ctr -n k8s.io images import ${archive##*/}"
  $dry_run || say "load image to cluster nodes success"
fi

say "3. Deploy gcu upgrade manager release start..."
operator="$(kubectl get crd gcuresources.topsops.enflame.com gcuresources.topscloud.enflame.com \
  --ignore-not-found -o name)" ||
  fail "the cluster could not be asked for gcu-operator: is kubectl set up for it?"
if [ -z "$operator" ]; then
  say "gcu-operator is not installed: the pods of gcu-upgrade-manager will not be ready before it is"
  wait=false
fi
# Helm 4 applies the CRD of the record as a manager of its own, and fails where it is there in another version. Helm
# installs it once and never updates it in any case: the service does.
record="$(kubectl get crd gcuupgrades.gum.enflame.com --ignore-not-found -o name)" ||
  fail "the cluster could not be asked for the CRD of the record: is kubectl set up for it?"
if [ -n "$record" ]; then
  say "the CRD of the record is there already and is left to the service, which brings it up to date (value crd.manage)"
  set -- --skip-crds "$@"
fi
host="$(registry)"
set -- --set-string "image.registry=$host,image.repository=${IMAGE#"${host:+$host/}"},image.tag=$TAG" "$@"
[ -z "$values" ] || set -- -f "$values" "$@"
! $wait || set -- --wait --timeout "${TIMEOUT:-5m}" "$@"
if ! run helm upgrade --install "$NAME" "$chart" --namespace "$NAMESPACE" --create-namespace "$@"; then
  fail "the chart could not be installed. What the pods say:
  kubectl -n $NAMESPACE describe pods -l app.kubernetes.io/instance=$NAME
If a release of v1.0.0 is in the way (\"field is immutable\"), wait until no upgrade is under way, run ./delete.sh,
and run this again."
fi
run kubectl -n "$NAMESPACE" get pods -l "app.kubernetes.io/instance=$NAME" -o wide
$dry_run || say "deploy gcu upgrade manager success"
$dry_run || say "the command line for people, kubectl gcu-upgrade: install it on this machine with $here/kubectl-plugin.sh"
$dry_run || say "the page for people is at /ui/ of the service; the notes of the release, which say where that is:" \
  "helm -n $NAMESPACE get notes $NAME"
