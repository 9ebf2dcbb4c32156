#!/bin/sh
# Uninstalls gcu-upgrade-manager. The gr and what runs of it stay, and so do the records of upgrades and their CRD.
#
# Usage: ./delete.sh [--force] [--purge] [--unlock] [--dry-run] [--help]
#
#   --force     also while an upgrade is under way: it stands still, and goes on when the service is installed again.
#               Not while the operator is changing DaemonSets that only the keeper keeps held
#   --purge     deletes the records and their CRD as well: nothing can be rolled back any more
#   --unlock    uncordons nodes that an upgrade has claimed and gives held DaemonSets their update strategies back: they
#               then replace what old pods they still have by themselves, without draining anything
#
#   NAMESPACE   default kube-system

set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

force=false purge=false unlock=false
while [ $# -gt 0 ]; do
  case "$1" in
    --force) force=true ;;
    --purge) purge=true ;;
    --unlock) unlock=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done
need kubectl
crd=gcuupgrades.gum.enflame.com
# The name of its webhook configuration and of its Secret.
keeper=gcu-upgrade-manager-keeper

remove_keeper() {
  found="$(kubectl get mutatingwebhookconfiguration "$keeper" --ignore-not-found -o name)" ||
    fail "the cluster could not be asked for the keeper"
  [ -n "$found" ] || return 0
  run kubectl delete mutatingwebhookconfiguration "$keeper" --ignore-not-found || fail "the keeper could not be removed"
}

tab="$(printf '\t')"

# The DaemonSets that are held at OnDelete: namespace, name, held=<label>, and the update strategy from before as JSON.
held_sets() {
  fields='{.metadata.namespace}{"\t"}{.metadata.name}{"\theld="}{.metadata.labels.gum\.enflame\.com/held}'
  fields="$fields"'{"\t"}{.metadata.annotations.gum\.enflame\.com/update-strategy}{"\n"}'
  all="$(kubectl get daemonsets --all-namespaces -o "jsonpath={range .items[*]}$fields{end}")" || return 1
  say "$all" | awk -F "$tab" '$3 != "" && ($3 != "held=" || $4 != "")'
}

# The nodes that an upgrade has claimed: name, and the claim as JSON.
claimed_nodes() {
  fields='{.metadata.name}{"\t"}{.metadata.annotations.gum\.enflame\.com/upgrade}{"\n"}'
  all="$(kubectl get nodes -o "jsonpath={range .items[*]}$fields{end}")" || return 1
  say "$all" | awk -F "$tab" '$2 != ""'
}

# Says what uninstalling leaves behind, by name.
say_left_behind() {
  sets="$(held_sets)" || fail "the DaemonSets could not be read"
  nodes="$(claimed_nodes)" || fail "the nodes could not be read"
  if [ -z "$sets$nodes" ]; then
    say "nothing"
    return
  fi
  [ -z "$sets" ] || say "DaemonSets held at OnDelete: $(say "$sets" | awk -F "$tab" '{ printf "%s/%s ", $1, $2 }')"
  [ -z "$nodes" ] || say "nodes cordoned or claimed: $(say "$nodes" | awk -F "$tab" '{ printf "%s ", $1 }')"
  $unlock || say "they stay so until an upgrade goes on; without one: $0 --force --unlock"
}

# Nodes first: pods that their DaemonSets then make anew find them open.
unlock_all() {
  [ -z "$nodes" ] || say "$nodes" | while IFS="$tab" read -r node claim; do
    case "$claim" in
      *'"preCordoned":true'*) spec= && say "$node was cordoned before, and stays so" ;;
      *) spec=',"spec":{"unschedulable":null}' ;;
    esac
    run kubectl patch node "$node" --type merge \
      -p '{"metadata":{"annotations":{"gum.enflame.com/upgrade":null}}'"$spec}" ||
      fail "node $node could not be released"
  done
  unmarked='{"gum.enflame.com/update-strategy":null,"gum.enflame.com/hold":null}'
  [ -z "$sets" ] || say "$sets" | while IFS="$tab" read -r namespace name _ strategy; do
    spec=
    if [ -n "$strategy" ]; then
      spec=',"spec":{"updateStrategy":'"$strategy"'}'
    else
      say "$namespace/$name does not say which update strategy it had: set it by hand"
    fi
    run kubectl patch daemonset "$name" --namespace "$namespace" --type merge \
      -p '{"metadata":{"labels":{"gum.enflame.com/held":null},"annotations":'"$unmarked}$spec}" ||
      fail "DaemonSet $namespace/$name could not be let go of"
  done
}

uninstall() {
  if ! command -v helm >/dev/null; then
    deployed="$(kubectl get deployment "$NAME" --namespace "$NAMESPACE" --ignore-not-found -o name)" ||
      fail "the cluster could not be asked whether it is installed"
    [ -z "$deployed" ] || fail "helm is not installed, or not in PATH"
    say "it is not installed"
    return
  fi
  if status="$(helm status "$NAME" --namespace "$NAMESPACE" 2>&1)"; then
    run helm uninstall "$NAME" --namespace "$NAMESPACE" --wait --timeout "${TIMEOUT:-5m}" ||
      fail "the release could not be uninstalled"
  else
    case "$status" in
      *"not found"*) say "it is not installed" ;;
      *) fail "helm cannot tell whether it is installed: $status" ;;
    esac
  fi
}

say "1. Check that no upgrade is under way..."
installed="$(kubectl get crd "$crd" --ignore-not-found -o name)" ||
  fail "the cluster could not be asked: is kubectl set up for it?"
busy='' exposed=''
if [ -n "$installed" ]; then
  fields='{.metadata.name}{" "}{.status.phase}{" "}{.status.step}{" guarded="}{.status.rolling.guarded}'
  fields="$fields"'{" goal="}{.status.goal}{"\n"}'
  records="$(kubectl get "$crd" -o "jsonpath={range .items[*]}$fields{end}")" ||
    fail "the records of upgrades could not be read"
  busy="$(say "$records" | awk 'NF && $2 !~ /^(Succeeded|RolledBack|Failed)$/ { print $1 }')"
  # Until the operator has written all that it is asked for, it may write its own update strategy with it.
  exposed="$(say "$records" | awk '$2 !~ /^(Succeeded|RolledBack|Failed)$/ && $4 == "guarded=true" &&
    ($3 ~ /^(Locking|Probing|Patching|Propagating)$/ || $3 == "Rolling" && $5 == "goal=Previous") { print $1 }')"
fi
if [ -n "$exposed" ] && $force && ! $unlock; then
  fail "under way: $(say "$exposed" | tr '\n' ' ')
The operator is changing its DaemonSets. Without the keeper it would let go of them, and their pods would be replaced on
nodes that are in use. Try again when nodes are in work (mostly within a minute), or close the upgrade first; --unlock
uninstalls all the same."
fi
if [ -z "$busy" ]; then
  say "none is"
elif $force; then
  say "under way, and left standing still: $(say "$busy" | tr '\n' ' ')"
else
  fail "under way: $(say "$busy" | tr '\n' ' ')
Without gcu-upgrade-manager it stands still, perhaps with the stack down or nodes cordoned. Wait for its end, or
cancel it; --force uninstalls all the same."
fi

say "2. Remove the keeper: without the service it would refuse changes of held DaemonSets..."
remove_keeper
[ -n "$found" ] || say "it is not installed"

say "3. Uninstall gcu upgrade manager release..."
uninstall

# A service that still held something may have put it back.
remove_keeper
secret="$(kubectl -n "$NAMESPACE" get secret "$keeper" --ignore-not-found -o name)" ||
  fail "the cluster could not be asked for the certificate of the keeper"
[ -z "$secret" ] || run kubectl -n "$NAMESPACE" delete secret "$keeper" --ignore-not-found ||
  fail "the certificate of the keeper could not be deleted"

say "4. What upgrades have left on nodes and DaemonSets..."
say_left_behind
! $unlock || unlock_all

say "5. Records of upgrades..."
if [ -z "$installed" ]; then
  say "there are none"
elif $purge; then
  for record in $busy; do
    # The service would take its finalizer off by itself; it is gone.
    run kubectl patch "$crd" "$record" --type merge -p '{"metadata":{"finalizers":null}}' ||
      fail "$record could not be released"
  done
  run kubectl delete crd "$crd" --ignore-not-found --timeout 60s || fail "the CRD $crd could not be deleted"
else
  say "kept, with their CRD $crd; --purge deletes them"
fi
$dry_run || say "delete gcu upgrade manager success"
