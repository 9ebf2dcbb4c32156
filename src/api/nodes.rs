//! `/gum/v1/gr/{name}/nodes`: the components' pods on every node, old and new.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::Api;
use schemars::JsonSchema;
use serde::Serialize;

use super::Context;
use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::query::NodesQuery;
use super::request::{Name, is_dns_subdomain};
use crate::explain::schema::never_null;
use crate::frame::{self, view};
use crate::gr::Workload;
use crate::observe::fleet::Interest;
use crate::observe::live;
use crate::plan::fleet::{DaemonPod, Fleet};
use crate::plan::preflight;
use crate::record::rolling::{RollingStatus, name_of_pod};

/// `GET /gum/v1/gr/{name}/nodes`
pub(super) async fn nodes(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    query: NodesQuery,
) -> Result<Reply, ApiError> {
    let looks = &context.shares.looks;
    let rendered = Box::pin(async {
        let seen = looks.nodes(&name, Box::pin(context.look_at_nodes(&name))).await?;
        if let Some(node) = query.node.as_ref().filter(|node| !seen.names(node)) {
            // Perhaps the stack has no pod there.
            let api: Api<Node> = Api::all(context.client.clone());
            if !is_dns_subdomain(node) || api.get_opt(node).await?.is_none() {
                return Err(no_node(&name, node));
            }
        }
        let _turn = looks.turn_to_write().await?;
        match form {
            Form::Json => Ok(Reply::rendered(&seen.view(&query))),
            Form::Text => form.reply(&seen.view(&query), context.clock.now(), |nodes: view::Nodes, look| {
                frame::nodes::nodes_plain(&nodes, &seen.in_work(), look)
            }),
        }
    });
    looks.reply("nodes", &format!("{name} {form:?} {query:?}"), rendered).await
}

/// That there is no such node.
pub(super) fn no_node(gr: &str, node: &str) -> ApiError {
    let names = format!("GET /gum/v1/gr/{gr}/nodes names those with the stack's pods");
    ApiError::new(StatusCode::NOT_FOUND, format!("the cluster has no node {node:?}; {names}"))
}

/// What was seen of a gr's pods.
#[derive(Debug)]
pub(super) struct Nodes {
    record: Option<String>,
    rolling: Option<RollingStatus>,
    /// The workloads of its components.
    workloads: Vec<Workload>,
    fleet: Fleet,
}

impl Context {
    /// Whether the gr's DaemonSets have pods of another template than theirs, or that cannot be told.
    pub(super) async fn has_outdated_pods(&self, gr: &str) -> Result<bool, ApiError> {
        let seen = self.shares.looks.nodes(gr, Box::pin(self.look_at_nodes(gr))).await?;
        Ok(seen.fleet.pods.iter().any(|pod| {
            let set = seen.fleet.set(&pod.namespace, &pod.workload);
            !pod.is_deleting() && !set.and_then(|set| set.hash.as_ref()).is_some_and(|hash| pod.is_from(hash))
        }))
    }

    async fn look_at_nodes(&self, name: &str) -> Result<Nodes, ApiError> {
        let _turn = self.shares.looks.turn().await?;
        let (found, records) = tokio::join!(self.find(name), self.shown_records(name));
        let (live, records) = (found?.live, records?);
        let record = preflight::active(&records).or(records.first());
        let workloads = crate::gr::workloads(&live.manifest, &live.status);
        let interest = Interest::default().with_workloads(workloads.clone());
        let watched = preflight::active(&records).and_then(|record| self.known.fleet(record));
        let fleet = match watched {
            Some(fleet) => fleet,
            None => {
                let (sets, pods) = tokio::try_join!(
                    live::sets(&self.client, &interest),
                    live::daemon_pods(&self.client, &interest)
                )?;
                Fleet { sets, pods: pods.into_iter().collect(), ..Fleet::default() }
            }
        };
        Ok(Nodes {
            record: record.map(ResourceExt::name_any),
            rolling: record.and_then(|r| r.status.as_ref()?.rolling.clone()),
            workloads,
            fleet,
        })
    }
}

/// The nodes with the components' pods. The fields of all these types stand in the order in which they are answered.
#[derive(Serialize, JsonSchema)]
pub(super) struct NodeList<'a> {
    /// The record under way, or the last; null without one.
    name: Option<&'a str>,
    nodes: Vec<NodePods<'a>>,
}

/// A node with the components' pods on it.
#[derive(Serialize, JsonSchema)]
struct NodePods<'a> {
    components: Vec<ComponentPods<'a>>,
    /// Its name.
    node: &'a str,
}

/// The pods of a component on a node.
#[derive(Serialize, JsonSchema)]
struct ComponentPods<'a> {
    /// Its key.
    component: &'a str,
    pods: Vec<ComponentPod<'a>>,
}

/// A pod of a component.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
struct ComponentPod<'a> {
    /// When it was created.
    created_at: Timestamp,
    /// When it was deleted; of one that is gone, when its successor was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    /// Why it cannot start.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a str>,
    phase: PodPhase,
    /// Its name.
    pod: Cow<'a, str>,
    version: PodTemplate,
}

/// How far a pod is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum PodPhase {
    /// It is not ready yet, or not any more.
    Starting,
    /// It is ready.
    Ready,
    /// It is being deleted.
    Terminating,
    /// It is gone.
    Deleted,
}

/// Of which template a pod is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum PodTemplate {
    /// Of its DaemonSet's newest.
    New,
    /// Of an earlier one.
    Old,
    /// That is not known.
    #[serde(rename = "—")]
    Unknown,
}

impl<'a> ComponentPods<'a> {
    fn of((component, mut pods): (&'a str, Vec<ComponentPod<'a>>)) -> Self {
        pods.sort_by_key(|pod| pod.created_at);
        Self { component, pods }
    }
}

/// Component by component on each node.
type ByNode<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<ComponentPod<'a>>>>;

impl Nodes {
    /// What the record says of the nodes in work.
    fn in_work(&self) -> view::Why {
        let rolling = serde_json::to_value(&self.rolling).ok().and_then(|r| view::read(&r).ok());
        view::Why::of_record(&rolling.unwrap_or_default())
    }

    /// Whether a pod is, or was, on this node.
    fn names(&self, node: &str) -> bool {
        let rolling = self.rolling.as_ref();
        !self.fleet.pods.on(node).is_empty()
            || rolling.is_some_and(|r| {
                r.active.iter().any(|c| c.node == node) || r.recent.iter().any(|d| d.node == node)
            })
    }

    fn view(&self, query: &NodesQuery) -> NodeList<'_> {
        let is_asked_for = |node: &str| query.node.as_ref().is_none_or(|wanted| wanted == node);
        let mut all: ByNode<'_> = BTreeMap::new();
        for pod in self.fleet.pods.iter().filter(|pod| is_asked_for(&pod.node)) {
            let shown = all.entry(&pod.node).or_default().entry(self.component_of(pod)).or_default();
            shown.push(self.shown(pod));
        }
        if query.all {
            self.add_replaced(&mut all);
            all.retain(|node, _| is_asked_for(node));
        }
        let nodes = all.into_iter().map(|(node, components)| NodePods {
            components: components.into_iter().map(ComponentPods::of).collect(),
            node,
        });
        NodeList { name: self.record.as_deref(), nodes: nodes.collect() }
    }

    fn component_of<'a>(&'a self, pod: &'a DaemonPod) -> &'a str {
        let its = self.workloads.iter().find(|w| *w.namespace == *pod.namespace && *w.name == *pod.workload);
        its.map_or(&pod.workload, |workload| &workload.component)
    }

    fn shown<'a>(&'a self, pod: &'a DaemonPod) -> ComponentPod<'a> {
        let hash = self.fleet.set(&pod.namespace, &pod.workload).and_then(|s| s.hash.as_ref());
        let version = match hash {
            Some(hash) if pod.is_from(hash) => PodTemplate::New,
            Some(_) => PodTemplate::Old,
            None => PodTemplate::Unknown,
        };
        let phase = match (pod.is_deleting(), pod.ready_since) {
            (true, _) => PodPhase::Terminating,
            (false, Some(_)) => PodPhase::Ready,
            (false, None) => PodPhase::Starting,
        };
        ComponentPod {
            created_at: pod.created_at,
            deleted_at: pod.deleted_at,
            failure: pod.failure.as_deref(),
            phase,
            pod: Cow::from(&pod.name),
            version,
        }
    }

    /// The pods that the record has seen replaced. Each went at the latest when its successor was made.
    fn add_replaced<'a>(&'a self, all: &mut ByNode<'a>) {
        let Some(rolling) = &self.rolling else { return };
        let there: BTreeSet<&str> = self.fleet.pods.iter().map(|pod| pod.uid.as_str()).collect();
        let active = rolling.active.iter().map(|c| (&c.node, &c.pods, &c.replaces, None));
        let done = rolling.recent.iter().map(|d| (&d.node, &d.pods, &d.replaces, Some(d.at)));
        for (node, pods, replaces, done_at) in active.chain(done) {
            for pod in pods.iter().filter(|p| !there.contains(p.uid.as_str())) {
                let shown = all.entry(node).or_default().entry(&pod.component).or_default();
                shown.push(replaced(shown, Cow::from(&pod.name), pod.created_at, done_at));
            }
            for (component, end, at) in replaces.pods() {
                let shown = all.entry(node).or_default().entry(component).or_default();
                if !shown.iter().any(|pod| pod.created_at == at && pod.pod.ends_with(end)) {
                    let set = rolling.locked.iter().find(|set| set.component == component);
                    let name = name_of_pod(set.map_or(component, |set| &set.name), end);
                    shown.push(replaced(shown, Cow::from(name), at, done_at));
                }
            }
        }
    }
}

fn replaced<'a>(
    shown: &[ComponentPod<'a>],
    pod: Cow<'a, str>,
    created_at: Timestamp,
    done_at: Option<Timestamp>,
) -> ComponentPod<'a> {
    let later = shown.iter().map(|other| other.created_at).filter(|at| *at > created_at);
    let deleted_at = later.min().or(done_at);
    ComponentPod {
        created_at,
        deleted_at,
        failure: None,
        phase: PodPhase::Deleted,
        pod,
        version: PodTemplate::Old,
    }
}
