//! The same small values, read now. Everything is read page by page: thousands of objects are never held at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use super::fleet::{
    Interest, SeenSet, Template, parse_component_pod, parse_node, parse_seen_set, parse_template,
    parse_tenant, with_hashes,
};
use super::{pod_groups, volcano};
use crate::cluster::each;
use crate::plan::fleet::{DaemonPod, Fleet, SetState, Tenant, matches};
use crate::plan::gangs::{Gang, KnownGangs, Members};
use crate::plan::rolling::node::is_evicted;
use crate::record::rolling::{Drain, RollingUpdate};

/// Pods fetched with one call for the order of nodes: next to nothing is kept of them.
const ORDER_PAGE: u32 = 500;

/// Reads the whole fleet now, in two rounds, for a plan: of the pods of users those that such a rollout may have to
/// wait for or to evict. Pods come after nodes: whatever was bound before a cordon that is seen is seen, too.
///
/// # Errors
/// The API server's, as they come.
pub async fn fleet(
    client: &Client,
    interest: &Interest,
    options: &RollingUpdate,
) -> Result<Fleet, kube::Error> {
    let nodes = async {
        let mut nodes = Vec::new();
        let api = Api::<Node>::all(client.clone());
        each(api, ListParams::default(), |n| nodes.push(parse_node(&n))).await?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    };
    let (sets, nodes) = tokio::try_join!(wanted_sets(client, interest), nodes)?;
    let mut fleet = Fleet { nodes, ..Fleet::default() };
    let interest = interest.clone().with_sets(&sets);
    let matters = |pod: &Tenant| {
        let jobs = options.wait_for_jobs.as_ref().map(|jobs| &jobs.selector);
        let mut selectors = jobs.into_iter().chain([&options.drain.pod_selector]).filter(|l| !l.is_empty());
        pod.gcus > 0 || selectors.any(|selector| matches(&pod.labels, selector))
    };
    let pods = each(Api::<Pod>::all(client.clone()), ListParams::default(), |p| {
        fleet.pods.extend(interest.daemon_pods(parse_component_pod(&p)));
        for tenant in interest.tenants(parse_tenant(&p)).into_iter().filter(|pod| matters(pod)) {
            fleet.tenants.entry(tenant.node.clone()).or_default().push(tenant);
        }
    });
    let (sets, ()) = tokio::try_join!(hashed(client, sets), pods)?;
    let busy = leaving(&fleet.tenants, &options.drain);
    Ok(Fleet { sets, busy: Some(Arc::new(busy)), ..fleet })
}

/// How many of these pods have to leave each node.
pub fn leaving(tenants: &BTreeMap<String, Vec<Arc<Tenant>>>, drain: &Drain) -> BTreeMap<String, usize> {
    let of = |tenants: &[Arc<Tenant>]| tenants.iter().filter(|t| is_evicted(t, drain)).count();
    tenants.iter().map(|(node, tenants)| (node.clone(), of(tenants))).collect()
}

/// The pods that would have to leave nodes now.
#[derive(Debug, Default)]
pub struct Leaving {
    /// How many on each node; only nodes with some are named.
    pub busy: BTreeMap<String, usize>,
    /// The gangs that they are of.
    pub gangs: KnownGangs,
}

/// Which pods would have to leave nodes now, for the order of nodes and for which of them are taken together.
///
/// # Errors
/// The API server's, as they come.
pub async fn all_leaving(client: &Client, options: &RollingUpdate) -> Result<Leaving, kube::Error> {
    let mut all = Leaving::default();
    let params = ListParams::default().limit(ORDER_PAGE);
    each(Api::<Pod>::all(client.clone()), params, |p| {
        if let Some(tenant) = parse_tenant(&p).filter(|pod| is_evicted(pod, &options.drain)) {
            let leaving: &mut usize = all.busy.entry(tenant.node.clone()).or_default();
            *leaving = leaving.saturating_add(1);
            all.gangs.see(&tenant, options);
        }
    })
    .await?;
    pod_groups::keep_gangs(client, &mut all.gangs).await?;
    Ok(all)
}

/// Where the pods of a gang are now; `None`: one of them may run without the others.
///
/// # Errors
/// The API server's, as they come.
pub async fn gang(
    client: &Client,
    gang: &Gang,
    options: &RollingUpdate,
    read_at: Timestamp,
) -> Result<Option<Members>, kube::Error> {
    if !pod_groups::is_gang(client, gang).await? {
        return Ok(None);
    }
    let mut members = Members { read_at: Some(read_at), ..Members::default() };
    let params = match gang.is_labelled() {
        true => ListParams::default().labels(&format!("{}={}", gang.key, gang.name)),
        false => ListParams::default(),
    };
    each(Api::<Pod>::namespaced(client.clone(), &gang.namespace), params, |p| {
        let pod = parse_tenant(&p).filter(|pod| Gang::of_leaving(pod, options).as_ref() == Some(gang));
        if let Some(pod) = pod {
            members.add(&pod.node, pod.created_at);
        }
    })
    .await?;
    members.restarts_left = volcano::restarts_left(client, gang).await?;
    Ok(Some(members))
}

/// Every DaemonSet of one namespace, or of all, now.
///
/// # Errors
/// The API server's, as they come.
pub async fn sets_in(api: Api<DaemonSet>) -> Result<Vec<Arc<SeenSet>>, kube::Error> {
    let mut sets = Vec::new();
    each(api, ListParams::default(), |d| sets.push(parse_seen_set(&d))).await?;
    Ok(sets)
}

/// Reads the DaemonSets of interest now, with their hashes.
///
/// # Errors
/// The API server's, as they come.
pub async fn sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    hashed(client, wanted_sets(client, interest).await?).await
}

async fn wanted_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let sets = sets_in(Api::all(client.clone())).await?.into_iter().map(|set| set.state.clone());
    Ok(sets.filter(|set| interest.wants(set)).collect())
}

/// Gives DaemonSets their hashes, as they are now.
///
/// # Errors
/// The API server's, as they come.
pub async fn hashed(client: &Client, sets: Vec<Arc<SetState>>) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let namespaces: BTreeSet<&String> = sets.iter().map(|s| &s.namespace).collect();
    let all = namespaces.into_iter().map(async |namespace| {
        let mut templates = Vec::new();
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |r| templates.extend(parse_template(&r))).await?;
        Ok::<_, kube::Error>(templates)
    });
    let templates: Vec<Template> = try_join_all(all).await?.into_iter().flatten().collect();
    Ok(with_hashes(sets, &templates))
}

/// The pods of the DaemonSets of interest now.
///
/// # Errors
/// The API server's, as they come.
pub async fn daemon_pods(client: &Client, interest: &Interest) -> Result<Vec<Arc<DaemonPod>>, kube::Error> {
    let all = interest.workloads.keys().map(async |namespace| {
        let mut pods = Vec::new();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |p| {
            pods.extend(interest.daemon_pods(parse_component_pod(&p)));
        })
        .await?;
        Ok::<_, kube::Error>(pods)
    });
    Ok(try_join_all(all).await?.into_iter().flatten().collect())
}
