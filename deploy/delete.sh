#!/bin/sh
# Uninstalls gcu-upgrade-manager. The gr and what runs of it stay, and so do the records of upgrades and their CRD.
#
# Usage: ./delete.sh [--force] [--purge] [--dry-run] [--help]
#
#   --force     also while an upgrade is under way: it stands still, and goes on when the service is installed again
#   --purge     deletes the records and their CRD as well: nothing can be rolled back any more
#
#   NAMESPACE   default kube-system

set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

force=false purge=false
while [ $# -gt 0 ]; do
  case "$1" in
    --force) force=true ;;
    --purge) purge=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done
need kubectl
need helm
crd=gcuupgrades.gum.enflame.com

say "1. Check that no upgrade is under way..."
installed="$(kubectl get crd "$crd" --ignore-not-found -o name)" ||
  fail "the cluster could not be asked: is kubectl set up for it?"
busy=
if [ -n "$installed" ]; then
  records="$(kubectl get "$crd" -o 'jsonpath={range .items[*]}{.metadata.name}{" "}{.status.phase}{"\n"}{end}')" ||
    fail "the records of upgrades could not be read"
  busy="$(say "$records" | awk 'NF && $2 !~ /^(Succeeded|RolledBack|Failed)$/ { print $1 }')"
fi
if [ -z "$busy" ]; then
  say "none is"
elif $force; then
  say "under way, and left standing still: $(say "$busy" | tr '\n' ' ')"
else
  fail "under way: $(say "$busy" | tr '\n' ' ')
Without gcu-upgrade-manager it stands still, perhaps with the stack down or nodes cordoned. Wait for its end, or cancel it;
--force uninstalls all the same."
fi

say "2. Uninstall gcu upgrade manager release..."
if status="$(helm status "$NAME" --namespace "$NAMESPACE" 2>&1)"; then
  run helm uninstall "$NAME" --namespace "$NAMESPACE" --wait --timeout "${TIMEOUT:-5m}" ||
    fail "the release could not be uninstalled"
else
  case "$status" in
    *"not found"*) say "it is not installed" ;;
    *) fail "helm cannot tell whether it is installed: $status" ;;
  esac
fi

say "3. Records of upgrades..."
if [ -z "$installed" ]; then
  say "there are none"
elif $purge; then
  for record in $busy; do
    # The service would take its finalizer off by itself; it is gone.
    run kubectl patch "$crd" "$record" --type merge -p '{"metadata":{"finalizers":null}}' || fail "$record could not be released"
  done
  run kubectl delete crd "$crd" --ignore-not-found --timeout 60s || fail "the CRD $crd could not be deleted"
else
  say "kept, with their CRD $crd; --purge deletes them"
fi
$dry_run || say "delete gcu upgrade manager success"
