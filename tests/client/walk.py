"""The walk that v1.0.0 documents, with a client generated from /openapi.json: every call by its own method, every
answer by its own type."""

import sys

from gum_client import AuthenticatedClient
from gum_client.api.gcu_resources_and_blueprints import delete_gr, get_gr, get_workload, list_grs
from gum_client.api.upgrading import plan_upgrade, upgrade_gr
from gum_client.api.watching import get_status, get_upgrade, list_history, list_upgrades
from gum_client.models import (
    Deadlines,
    DeleteBody,
    DeleteGrAnswer,
    Failure,
    GetGrAnswer,
    GetStatusAnswer,
    GetUpgradeAnswer,
    GetWorkloadAnswer,
    Job,
    ListGrsAnswer,
    ListHistoryAnswer,
    ListUpgradesAnswer,
    Phase,
    PlanUpgradeAnswer,
    Policy,
    Status,
    Strategy,
    Upgrade,
    UpgradeBody,
    UpgradeGrAnswer,
    UpgradeSummary,
)
from gum_client.types import UNSET

GR = "enflame-gcu-resource"

# A sandbox asks nobody who they are; the generated calls take a token all the same.
client = AuthenticatedClient(base_url=sys.argv[1], token="none", timeout=None)

grs = list_grs.sync(client=client)
assert isinstance(grs, ListGrsAnswer), grs
assert [gr.metadata["name"] for gr in grs.content.items] == [GR], grs

gr = get_gr.sync(GR, client=client)
assert isinstance(gr, GetGrAnswer), gr
assert (gr.content.kind, gr.content["status"]["phase"]) == ("GcuResource", "Running"), gr

workload = get_workload.sync(GR, "driver", client=client)
assert isinstance(workload, GetWorkloadAnswer), workload
assert workload.content.kind == "DaemonSet", workload

body = UpgradeBody(file="gr.json", strategy=Strategy.RECREATE, reason="a generated client")
plan = plan_upgrade.sync(GR, client=client, body=body)
assert isinstance(plan, PlanUpgradeAnswer), plan
assert plan.content.plan.strategy is Strategy.RECREATE, plan

upgrade = upgrade_gr.sync(GR, client=client, body=body, wait="5m")
assert isinstance(upgrade, UpgradeGrAnswer), upgrade
job = upgrade.content
assert isinstance(job, Job) and job.phase is Phase.SUCCEEDED, job
assert isinstance(job.deadlines, Deadlines) and job.deadlines.gone_seconds == 600, job

status = get_status.sync(GR, client=client)
assert isinstance(status, GetStatusAnswer) and isinstance(status.content, Status), status
assert (status.content.name, status.content.phase) == (job.name, Phase.SUCCEEDED), status

record = get_upgrade.sync(job.name, client=client)
assert isinstance(record, GetUpgradeAnswer) and isinstance(record.content, Upgrade), record
assert record.content.reason == "a generated client" and record.content.timeline, record

records = list_upgrades.sync(client=client)
assert isinstance(records, ListUpgradesAnswer), records
assert [r.name for r in records.content if isinstance(r, UpgradeSummary)] == [job.name], records

history = list_history.sync(GR, client=client)
assert isinstance(history, ListHistoryAnswer), history
assert [(r.revision, r.current) for r in history.content] == [(1, True), (0, False)], history

unknown = upgrade_gr.sync_detailed(GR, client=client, body=UpgradeBody(file="nope.json"))
assert unknown.status_code == 404 and isinstance(unknown.parsed, Failure), unknown
assert "nope.json" in unknown.parsed.error, unknown

deleted = delete_gr.sync(GR, client=client, body=DeleteBody(policy=Policy.FOREGROUND), dry_run=UNSET)
assert isinstance(deleted, DeleteGrAnswer), deleted
gone = get_gr.sync(GR, client=client)
assert isinstance(gone, Failure) and "not found" in gone.error, gone
print("the walk is done")
