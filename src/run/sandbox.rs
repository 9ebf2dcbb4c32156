//! The `sandbox` subcommand: an embedded cluster with simulated inhabitants, and the service in front of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Failure, listen, say, until_stopped};
use crate::app::ServiceDeps;
use crate::blueprint;
use crate::clock::Clock;
use crate::config::SandboxArgs;
use crate::metrics::Metrics;
use crate::sandbox::actors::jobs::Job;
use crate::sandbox::actors::kubelet::KubeletBehaviour;
use crate::sandbox::actors::operator::OperatorBehaviour;
use crate::sandbox::apiserver::ApiServer;
use crate::sandbox::world::{Running, World, documented_gr};
use crate::{cluster, http, lease};

/// The blueprints that come with the binary.
const SHIPPED: &[(&str, &str)] = &[
    ("gr.json", include_str!("../../blueprints/gr.json")),
    ("gr-full.yaml", include_str!("../../blueprints/gr-full.yaml")),
];
/// The first stack comes up without delays; if it does not within this time, and this for each node, something is
/// broken.
const SETTLE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(100));

/// Runs until stopped.
pub(super) async fn run(args: SandboxArgs) -> Result<(), Failure> {
    let gr = match &args.gr {
        Some(path) => own_gr(path)?,
        None => documented_gr(),
    };
    let name = gr.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (service_listener, kube_listener) = (listen(args.listen).await?, listen(args.kube_listen).await?);
    let clock = Clock::system();
    let server = ApiServer::new(clock);
    let world = World {
        nodes: usize::from(args.nodes),
        group: group(&gr),
        gr: Some(gr),
        operator: OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() },
        kubelet: KubeletBehaviour {
            pod_start: Duration::ZERO,
            pod_stop: Duration::ZERO,
            ..KubeletBehaviour::default()
        },
        ..World::default()
    };
    let world = world.start(server.client(), clock).await?;
    world.settled(SETTLE.0.saturating_add(SETTLE.1.saturating_mul(args.nodes.into()))).await?;
    world.change_operator(|o| o.component_delay = OperatorBehaviour::default().component_delay);
    world.change_kubelet(|k| {
        k.pod_start = args.pod_start;
        // Nothing is contained in every reference.
        k.bad_images = Some(args.bad_image).filter(|text| !text.is_empty()).into_iter().collect();
        k.pod_stop = KubeletBehaviour::default().pod_stop;
    });
    create_tenants(&world, args.tenants.min(args.nodes)).await?;
    start_jobs(&world, args.jobs.min(args.nodes / 2), args.nodes).await?;
    let stop = CancellationToken::new();
    let kube_address = kube_listener.local_addr()?;
    let kube = tokio::spawn(http::serve(
        kube_listener,
        server.router(),
        http::Settings::plain(Metrics::default()),
        stop.clone(),
    ));
    if let Some(path) = &args.kubeconfig_out {
        std::fs::write(path, kubeconfig(&kube_address)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let shipped = args.blueprints.is_none().then(shipped_blueprints).transpose()?;
    let blueprints = args.blueprints.or_else(|| shipped.clone()).unwrap_or_default();
    let kubectl = match &args.kubeconfig_out {
        Some(path) => format!("kubectl --kubeconfig {}", path.display()),
        None => format!("kubectl --server http://{kube_address}"),
    };
    say(&what_next(service_listener.local_addr()?, &name, &blueprints, &kubectl))?;
    let metrics = Metrics::default();
    let client = cluster::client_over(server.router(), metrics.clone());
    let mut parts = ServiceDeps::new(client, clock, blueprints, metrics.clone());
    // As in a real cluster: whoever looks there sees that somebody acts.
    parts.lease = Some(lease::Settings {
        namespace: "kube-system".to_owned(),
        name: "gcu-upgrade-manager".to_owned(),
        identity: "sandbox".to_owned(),
    });
    let result = until_stopped(parts, service_listener, http::Settings::plain(metrics), Duration::ZERO).await;
    stop.cancel();
    kube.abort();
    if let Some(dir) = shipped.as_deref().and_then(Path::parent) {
        // Ours alone, and in the directory for temporary files: what is left of it does no harm.
        let _ = std::fs::remove_dir_all(dir);
    }
    result
}

/// Deployments of one pod each, `train-1` on `node-1` and so on, that ask for a GCU.
async fn create_tenants(world: &Running, count: u16) -> Result<(), Failure> {
    let api: Api<Deployment> = Api::namespaced(world.client(), "default");
    for number in 1..=count {
        let name = format!("train-{number}");
        let tenant = json!({
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": {
                        "nodeSelector": { "kubernetes.io/hostname": format!("node-{number}") },
                        "containers": [{
                            "name": "train",
                            "image": "train:1",
                            "resources": { "limits": { "enflame.com/gcu": "1" } },
                        }],
                    },
                },
            },
        });
        api.create(&PostParams::default(), &serde_json::from_value(tenant)?).await?;
    }
    Ok(())
}

/// Jobs of two nodes each, `job-1` on `node-1` and `node-2` and so on, on nodes that differ.
async fn start_jobs(world: &Running, count: u16, nodes: u16) -> Result<(), Failure> {
    if count == 0 {
        return Ok(());
    }
    let api: Api<Node> = Api::all(world.client());
    for number in 1..=nodes {
        let name = format!("node-{number}");
        let zone = ["zone-a", "zone-b", "zone-c"].into_iter().cycle().nth(usize::from(number - 1));
        let labels = json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } });
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&labels)).await?;
        let kernel = if number % 5 == 0 { "4.19.0-91" } else { "5.15.0-105" };
        let info = json!({ "status": { "nodeInfo": { "kernelVersion": kernel } } });
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&info)).await?;
    }
    for number in 1..=count {
        let job = Job {
            namespace: "default".to_owned(),
            name: format!("job-{number}"),
            key: "volcano.sh/job-name".to_owned(),
            annotated: false,
            nodes: [number * 2 - 1, number * 2].map(|node| format!("node-{node}")).to_vec(),
            gcus: 4,
        };
        tokio::spawn(job.start(world.client()).await?.run());
    }
    Ok(())
}

/// Reads a gr from a file, with the same checks as a blueprint.
fn own_gr(path: &Path) -> Result<Value, Failure> {
    let (findings, blueprint) = blueprint::validate(path);
    match blueprint {
        Some(blueprint) => Ok(blueprint.manifest().clone()),
        None => Err(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into()),
    }
}

fn group(gr: &Value) -> String {
    let api_version = gr.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    api_version.split('/').next().unwrap_or_default().to_owned()
}

fn shipped_blueprints() -> Result<PathBuf, Failure> {
    let dir =
        std::env::temp_dir().join(format!("gcu-upgrade-manager-{}", std::process::id())).join("blueprints");
    std::fs::create_dir_all(&dir)?;
    for (name, content) in SHIPPED {
        std::fs::write(dir.join(name), content)?;
    }
    Ok(dir)
}

fn kubeconfig(address: &std::net::SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: sandbox\n\
         clusters: [{{name: sandbox, cluster: {{server: \"http://{address}\"}}}}]\n\
         users: [{{name: sandbox, user: {{}}}}]\n\
         contexts: [{{name: sandbox, context: {{cluster: sandbox, user: sandbox}}}}]\n"
    )
}

fn what_next(address: std::net::SocketAddr, gr: &str, blueprints: &Path, kubectl: &str) -> String {
    let url = format!("http://{address}/gum/v1");
    let lines = [
        (format!("curl {url}/gr/{gr}"), "the gr"),
        (format!("curl {url}/gr/{gr}/resource/driver"), "one of its workloads"),
        (format!("curl {url}/blueprints"), "what it can be upgraded to"),
        (format!("curl {url}/gr/{gr} -X PUT -d '{{\"file\": \"gr.json\"}}'"), "upgrade it"),
        (format!("curl {url}/upgrades/{gr}-1"), "how far that is"),
        (format!("curl {url}/gr/{gr}/rollback -X POST"), "and back"),
        (format!("curl {url}/gr/{gr} -X DELETE"), "delete it"),
        (format!("{kubectl} get gr,gcuupgrades,pods -A"), "the cluster"),
    ];
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let shown: String =
        lines.iter().map(|(command, what)| format!("  {command:width$}  # {what}\n")).collect();
    let blueprints = blueprints.display();
    format!(
        "A simulated cluster is up; its blueprints are in {blueprints}.\nIn another terminal:\n\n{shown}\n"
    )
}
