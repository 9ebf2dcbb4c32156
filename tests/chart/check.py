#!/usr/bin/env python3
"""Lints, renders, installs and uninstalls the chart without the helm program.

Needs helm-python-sdk 0.2.2 from PyPI: Helm's own Go code behind a Python interface.
"""

import argparse
import json
import sys
from pathlib import Path

import helm_python as helm
from helm_python import _native

CHART = Path(__file__).resolve().parents[2] / "deploy/chart/gcu-upgrade-manager"
NAME = "gcu-upgrade-manager"
SEVERITIES = ("unknown", "info", "warning", "error")


def values(args):
    """The values of every --set and --set-json, later ones win."""
    merged = {}
    for expression in args.set:
        merge(merged, helm.parse_set_string(expression))
    for expression in args.set_json:
        merge(merged, helm.parse_set_json(expression))
    return merged


def merge(into, other):
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def lint(args):
    """Prints what is found; a warning fails."""
    report = helm.lint(CHART, values(args), strict=True, kube_version=args.kube, namespace=args.namespace)
    for message in report["messages"]:
        print(f"{SEVERITIES[message['severity']]}: {message['path']}: {message['error']}")
    for error in report["errors"]:
        print(f"error: {error}")
    bad = any(message["severity"] > 1 for message in report["messages"])
    return 1 if bad or report["errors"] else 0


def render(args):
    """Prints every manifest, the CRDs too, as one stream of YAML documents; with --notes the notes alone."""
    chart = helm.Chart.load(CHART)
    merged = values(args)
    chart.validate_schema(merged)
    # The library can render for a Kubernetes version, but its Chart.render does not pass one on.
    options = {"name": NAME, "namespace": args.namespace, "kube_version": args.kube}
    rendered = json.loads(_native.call_string("helm_render", chart._raw(), json.dumps(merged), json.dumps(options)))
    if args.notes:
        print("".join(text for path, text in rendered.items() if path.endswith("NOTES.txt")))
        return 0
    documents = {crd["filename"]: crd["data"] for crd in chart.crds}
    documents.update(rendered)
    for path, text in sorted(documents.items()):
        if path.endswith(".txt") or not text.strip():
            continue
        print(f"---\n# {path}\n{text}")
    return 0


def install(args):
    """Installs, or upgrades what is installed. Waits for hooks alone: nobody runs the pods of a test cluster."""
    options = {"namespace": args.namespace, "wait": "hookOnly"}
    with helm.Config(kubeconfig_path=args.kubeconfig, namespace=args.namespace) as config:
        try:
            release = config.upgrade(CHART, NAME, values(args), timeout=60, **options)
        except (helm.HelmNotFoundError, helm.HelmReleaseError) as error:
            if "has no deployed releases" not in str(error) and "not found" not in str(error):
                raise
            # The library can leave CRDs alone, but its Config.install does not pass that on.
            options.update(timeout_seconds=60, skip_crds=args.skip_crds)
            texts = (NAME, json.dumps(values(args)), json.dumps(options))
            where = (config._raw(), config._context_arg(None), *config._chart_args(CHART))
            release = json.loads(_native.call_string("helm_install", *where, *texts))
        print(f"{release['name']}: {release['status']}, revision {release['revision']}")
    return 0


def uninstall(args):
    with helm.Config(kubeconfig_path=args.kubeconfig, namespace=args.namespace) as config:
        config.uninstall(NAME, timeout=60, wait="hookOnly")
        print(f"{NAME}: uninstalled")
    return 0


def main():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--namespace", default="kube-system")
    common.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    common.add_argument("--set-json", action="append", default=[], metavar="KEY=JSON")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for action in (lint, render):
        command = commands.add_parser(action.__name__, parents=[common], help=action.__doc__)
        command.add_argument("--kube", default="v1.36.0", help="version of Kubernetes, such as v1.20.0")
        command.set_defaults(action=action)
    commands.choices["render"].add_argument("--notes", action="store_true")
    for action in (install, uninstall):
        command = commands.add_parser(action.__name__, parents=[common], help=action.__doc__)
        command.add_argument("--kubeconfig", required=True)
        command.set_defaults(action=action)
    commands.choices["install"].add_argument("--skip-crds", action="store_true", help="as helm's own option")
    args = parser.parse_args()
    try:
        return args.action(args)
    except helm.HelmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
