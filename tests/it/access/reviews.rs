//! A cluster whose reviews of tokens and rights are made up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use gcu_upgrade_manager::api::auth::Mode;
use gcu_upgrade_manager::app::ServiceDeps;
use gcu_upgrade_manager::blueprint::catalog::Watching;
use gcu_upgrade_manager::cluster;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::world::World;
use http::Response;
use kube::Client;
use tower::service_fn;

use super::*;
use crate::faults::Faults;
use crate::harness::{Backend, Harness};

/// What a made-up API server says of tokens and rights, and how often it was asked.
#[derive(Default)]
pub(crate) struct Reviews {
    pub(crate) users: BTreeMap<String, String>,
    /// User and verb; of one gr alone, its name behind a slash: `get/gr`.
    pub(crate) rights: Vec<(String, String)>,
    pub(super) away: bool,
    pub(super) asked: usize,
    pub(super) last: Value,
}

pub(crate) type Shared = Arc<Mutex<Reviews>>;

pub(super) fn review(reviews: &Shared, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut reviews = reviews.lock().unwrap();
    if !path.ends_with("reviews") {
        return None;
    }
    reviews.asked += 1;
    reviews.last = body.clone();
    if reviews.away {
        return Some((503, json!({ "kind": "Status", "message": "etcd is away", "code": 503 })));
    }
    let mut answer = body.clone();
    answer["status"] = if path.contains("tokenreviews") {
        match reviews.users.get(body["spec"]["token"].as_str().unwrap()) {
            Some(user) => {
                json!({ "authenticated": true, "user": { "username": user, "groups": ["people"] } })
            }
            None => json!({ "authenticated": false, "error": "not one of ours" }),
        }
    } else {
        let spec = &body["spec"];
        let resource = spec.get("resourceAttributes").or(spec.get("nonResourceAttributes")).unwrap();
        let (user, verb) = (spec["user"].as_str().unwrap(), resource["verb"].as_str().unwrap());
        let name = resource.get("name").and_then(Value::as_str).unwrap_or_default();
        let may = |right: String| reviews.rights.contains(&(user.to_owned(), right));
        let allowed = may(verb.to_owned()) || may(format!("{verb}/{name}"));
        json!({ "allowed": allowed, "reason": format!("it is about {name:?}") })
    };
    Some((201, answer))
}

pub(crate) async fn before_reviews(reviews: Shared) -> (Harness, Service) {
    let world = World { nodes: 1, ..World::default() };
    let harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("gr.json", BLUEPRINT);
    let cluster = harness.client.clone();
    let send = service_fn(move |request: Request<kube::client::Body>| {
        let (cluster, reviews) = (cluster.clone(), reviews.clone());
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some((status, answer)) = review(&reviews, head.uri.path(), &value) {
                let body = kube::client::Body::from(answer.to_string().into_bytes());
                return Ok(Response::builder().status(status).body(body).unwrap());
            }
            cluster.send(Request::from_parts(head, kube::client::Body::from(bytes))).await
        }
    });
    let service = start(&harness, cluster::client_over(send, Metrics::default())).await;
    (harness, service)
}

pub(super) async fn start(harness: &Harness, client: Client) -> Service {
    let mut parts = ServiceDeps::new(client, harness.clock, harness.blueprints.path(), Metrics::default());
    parts.watching = Watching::Polling;
    parts.auth = Mode::Kubernetes;
    let service = Service::start(parts).await;
    timeout(Duration::from_secs(60), service.ready()).await.unwrap();
    service
}
