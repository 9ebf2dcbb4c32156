//! Observe: the part of the cluster that an upgrade concerns, read now.

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cluster;
use crate::gr::WorkloadKind;
use crate::observe::fleet::{Interest, SeenSet};
use crate::observe::{deployment_state, gr_api, live, parse_gr, pod_state};
use crate::plan::fleet::Fleet;
use crate::plan::{PodState, Snapshot, WorkloadState};
use crate::record::{GcuUpgrade, Step, Strategy};
use crate::store::{Scope, Views, concerns_nodes, join_refusals, pods_of};

/// Reads the cluster now: the gr, its workloads and their templates. Nodes and pods are thousands, and come from the
/// views; but for a Recreate that waits for the end of pods, which is what counts then. `None` while the views are not
/// complete and are needed.
///
/// # Errors
/// The API server's, as they come.
pub(super) async fn look(
    client: &Client,
    record: &GcuUpgrade,
    views: &Views,
) -> Result<Option<Snapshot>, kube::Error> {
    let served = cluster::get(&gr_api(client, record), &record.spec.gr).await?;
    let gr = served.as_ref().and_then(parse_gr);
    let scope = Scope::of(record, gr.as_ref());
    let deployments = scope.namespaces_of(WorkloadKind::Deployment).map(|ns| list_deployments(client, ns));
    let (sets, deployments) = tokio::try_join!(list_sets(client, record, &scope), try_join_all(deployments))?;
    let mut seen = Snapshot {
        workloads: scope.workloads_among(&sets).chain(deployments.into_iter().flatten()).collect(),
        dead_nodes: views.dead_nodes(),
        ..Snapshot::default()
    };
    if record.spec.strategy == Strategy::RollingUpdate {
        let interest = Interest::of(record, gr.as_ref());
        let sets = sets.iter().map(|set| &set.state).filter(|set| interest.wants(set)).cloned().collect();
        let sets = live::hashed(client, sets).await?;
        // Until nodes are touched it is the DaemonSets alone that count.
        seen.fleet = Fleet { sets, ..Fleet::default() };
        if concerns_nodes(record) {
            views.follow(record, gr.as_ref());
            let Some(fleet) = views.fleet(seen.fleet.sets) else { return Ok(None) };
            seen.fleet = fleet;
        }
        seen.pods = pods_of(record, &seen.fleet);
    } else {
        // Pods are read after workloads: none comes from one that is seen to be gone.
        seen.pods = match record.known_status().step {
            Step::WaitingGone | Step::Creating => list_pods(client, &scope).await?,
            _ => views.pods(),
        };
    }
    seen.gr = gr;
    join_refusals(&views.refusals(), &mut seen);
    Ok(Some(seen))
}

/// A RollingUpdate concerns whatever DaemonSets the gr owns, in whichever namespace.
async fn list_sets(
    client: &Client,
    record: &GcuUpgrade,
    scope: &Scope,
) -> Result<Vec<Arc<SeenSet>>, kube::Error> {
    if record.spec.strategy == Strategy::RollingUpdate {
        return live::sets_in(Api::all(client.clone())).await;
    }
    let namespaces = scope.namespaces_of(WorkloadKind::DaemonSet);
    let all = namespaces.map(|namespace| live::sets_in(Api::namespaced(client.clone(), namespace)));
    Ok(try_join_all(all).await?.into_iter().flatten().collect())
}

async fn list_deployments(client: &Client, namespace: &str) -> Result<Vec<WorkloadState>, kube::Error> {
    let mut found = Vec::new();
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    cluster::each(api, ListParams::default(), |d| found.push(deployment_state(&d))).await?;
    Ok(found)
}

async fn list_pods(client: &Client, scope: &Scope) -> Result<Vec<PodState>, kube::Error> {
    let lists = scope.selections().into_iter().map(async |(namespace, selector)| {
        let mut pods = Vec::new();
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let params = ListParams::default().labels(&selector);
        cluster::each(api, params, |p| pods.extend(pod_state(&p))).await?;
        Ok::<_, kube::Error>(pods)
    });
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}
