//! How far an upgrade is, why it does not get on, and what runs on which node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tracing::debug;

use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::query::{Form, NoQuery, NodesQuery};
use super::request::Name;
use super::upgrades::waiting_on;
use super::{Context, without_nulls};
use crate::gr::LiveGr;
use crate::observe::fleet::Interest;
use crate::observe::{budgets, fleet};
use crate::plan::budget::Budget;
use crate::plan::fleet::{DaemonPod, Fleet};
use crate::plan::preflight;
use crate::plan::progress::{progress, second};
use crate::plan::why::{Why, why};
use crate::record::rolling::ClaimedPod;
use crate::record::{GcuUpgrade, Step, Strategy};

/// `GET /gum/v1/gr/{name}/status`: how far the upgrade of a gr is that is under way, or was the last.
pub(super) async fn status(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let records = context.records(&name).await?;
    let Some(record) = preflight::active(&records).or(records.first()) else {
        context.find(&name).await?;
        let message = never(&name);
        return Ok(match form {
            Form::Text => Reply::text(message),
            Form::Json => Reply::with(json!({ "gr": name, "message": message })),
        });
    };
    let progress = progress(record, context.clock.now());
    if form == Form::Text {
        return Ok(Reply::text(progress.message));
    }
    let status = record.status_or_default();
    let mut view = json!(progress);
    if let Some(object) = view.as_object_mut() {
        object.insert("startedAt".to_owned(), json!(status.started_at));
        object.insert("finishedAt".to_owned(), json!(status.finished_at));
        object.insert("waitingOn".to_owned(), json!(waiting_on(&status)));
    }
    Ok(Reply::with(without_nulls(view)))
}

fn never(gr: &str) -> String {
    format!("gr {gr} has never been upgraded")
}

/// `GET /gum/v1/gr/{name}/why`: what keeps each node, and the upgrade, from getting on.
pub(super) async fn explain(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let records = context.records(&name).await?;
    let Some(record) = preflight::active(&records) else {
        let message = match records.first() {
            Some(last) => {
                let last = progress(last, context.clock.now()).message;
                format!("no upgrade of gr {name} is under way; the last: {last}")
            }
            None => {
                context.find(&name).await?;
                never(&name)
            }
        };
        return Ok(match form {
            Form::Text => Reply::text(message),
            Form::Json => Reply::with(json!({ "message": message, "nodes": [], "skipped": [] })),
        });
    };
    let why = context.why(&name, record).await?;
    if form == Form::Text {
        return Ok(Reply::text(why_text(&why)));
    }
    let mut view = json!(why);
    if let Some(object) = view.as_object_mut() {
        object.insert("name".to_owned(), json!(record.name_any()));
        object.insert("waitingOn".to_owned(), json!(waiting_on(&record.status_or_default())));
    }
    Ok(Reply::with(without_nulls(view)))
}

impl Context {
    async fn why(&self, name: &str, record: &GcuUpgrade) -> Result<Why, ApiError> {
        let now = self.clock.now();
        let rolls = record.spec.strategy == Strategy::RollingUpdate
            && matches!(record.status_or_default().step, Step::Rolling | Step::Restoring);
        if !rolls {
            // Before a node is touched the record alone has the answer.
            return Ok(why(record, None, &Fleet::default(), None, now));
        }
        let found = self.find_if_any(name).await?;
        let live = found.as_ref().map(|f| &f.live);
        let seen = fleet::live(&self.client, &Interest::of(record, live).with_pod_labels()).await?;
        let budgets = self.budgets().await;
        Ok(why(record, live, &seen, budgets.as_deref(), now))
    }

    /// The disruption budgets; `None` when they cannot be read. What they would add is left out then.
    pub(super) async fn budgets(&self) -> Option<Vec<Budget>> {
        match budgets::live(&self.client).await {
            Ok(budgets) => Some(budgets),
            Err(error) => {
                debug!(%error, "the disruption budgets cannot be read");
                None
            }
        }
    }
}

fn why_text(why: &Why) -> String {
    let mut lines = vec![why.message.clone()];
    for stuck in &why.nodes {
        let until = stuck.until.map(|at| format!(", until {}", second(at))).unwrap_or_default();
        lines.push(format!(
            "{} ({:?} since {}{until}): {}; then {}",
            stuck.node,
            stuck.stage,
            second(stuck.since),
            stuck.message,
            stuck.then
        ));
    }
    lines.extend(why.skipped.iter().map(|s| format!("{} (left out): {}", s.node, s.reason)));
    lines.join("\n")
}

/// `GET /gum/v1/gr/{name}/nodes`: the components' pods on every node, old and new.
pub(super) async fn nodes(
    context: May<auth::Get>,
    Name(name): Name,
    query: NodesQuery,
) -> Result<Reply, ApiError> {
    let live = context.find(&name).await?.live;
    let records = context.records(&name).await?;
    let record = preflight::active(&records).or(records.first());
    let workloads = crate::gr::workloads(&live.manifest, &live.status);
    let interest = Interest::default().with_workloads(workloads);
    let sets = fleet::live_sets(&context.client, &interest).await?;
    let fleet = Fleet { sets, ..Fleet::default() };
    let pods = fleet::live_pods(&context.client, &interest).await?;
    let components = components_by_workload(&live);
    let mut all: Nodes = BTreeMap::new();
    for (pod, deleted_at) in &pods {
        let component = components.get(&(pod.namespace.clone(), pod.workload.clone()));
        let of_node = all.entry(pod.node.clone()).or_default();
        let shown = of_node.entry(component.cloned().unwrap_or_else(|| pod.workload.clone())).or_default();
        shown.push((pod.created_at, shown_pod(pod, *deleted_at, &fleet)));
    }
    if query.all {
        add_replaced(&mut all, record, &pods);
    }
    all.retain(|node, _| query.node.as_ref().is_none_or(|wanted| wanted == node));
    Ok(Reply::with(json!({ "name": record.map(|r| r.name_any()), "nodes": view(all) })))
}

/// Component by component on each node, with when each pod was created.
type Nodes = BTreeMap<String, BTreeMap<String, Vec<(Timestamp, Value)>>>;

fn components_by_workload(gr: &LiveGr) -> BTreeMap<(String, String), String> {
    let all = crate::gr::workloads(&gr.manifest, &gr.status);
    all.into_iter().map(|w| ((w.namespace, w.name), w.component)).collect()
}

fn shown_pod(pod: &DaemonPod, deleted_at: Option<Timestamp>, fleet: &Fleet) -> Value {
    let hash = fleet.set(&pod.namespace, &pod.workload).and_then(|s| s.hash.as_ref());
    let version = match hash {
        Some(hash) if *hash == pod.hash => "new",
        Some(_) => "old",
        None => "—",
    };
    let phase = match (pod.deleting, pod.ready_since) {
        (true, _) => "terminating",
        (false, Some(_)) => "ready",
        (false, None) => "starting",
    };
    without_nulls(json!({
        "pod": pod.name,
        "version": version,
        "phase": phase,
        "createdAt": pod.created_at,
        "deletedAt": deleted_at,
        "failure": pod.failure,
    }))
}

/// The pods that the record has seen replaced. Each went at the latest when its successor was made.
fn add_replaced(all: &mut Nodes, record: Option<&GcuUpgrade>, live: &[(Arc<DaemonPod>, Option<Timestamp>)]) {
    let Some(rolling) = record.and_then(|r| r.status_or_default().rolling) else { return };
    let there: BTreeSet<&str> = live.iter().map(|(pod, _)| pod.uid.as_str()).collect();
    let active = rolling.active.iter().map(|c| (&c.node, &c.pods, None));
    let done = rolling.recent.iter().map(|d| (&d.node, &d.pods, Some(d.at)));
    for (node, pods, done_at) in active.chain(done) {
        for pod in pods.iter().filter(|p| !there.contains(p.uid.as_str())) {
            let shown = all.entry(node.clone()).or_default().entry(pod.component.clone()).or_default();
            let successor = shown.iter().map(|(at, _)| *at).filter(|at| *at > pod.created_at).min();
            shown.push((pod.created_at, replaced(pod, successor.or(done_at))));
        }
    }
}

fn replaced(pod: &ClaimedPod, deleted_at: Option<Timestamp>) -> Value {
    without_nulls(json!({
        "pod": pod.name, "version": "old", "phase": "deleted", "createdAt": pod.created_at, "deletedAt": deleted_at,
    }))
}

fn view(all: Nodes) -> Vec<Value> {
    let component = |(component, mut pods): (String, Vec<(Timestamp, Value)>)| {
        pods.sort_by_key(|(created, _)| *created);
        json!({ "component": component, "pods": pods.into_iter().map(|(_, pod)| pod).collect::<Vec<_>>() })
    };
    all.into_iter()
        .map(|(node, components)| {
            json!({ "node": node, "components": components.into_iter().map(component).collect::<Vec<_>>() })
        })
        .collect()
}
