//! Who may do what: with the cluster's own access control on a real API server, and what is believed for how long, in
//! virtual time, before an API server that only answers reviews.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::api::auth::Mode;
use gcu_upgrade_manager::app::{Service, ServiceDeps};
use gcu_upgrade_manager::blueprint::catalog::Watching;
use gcu_upgrade_manager::cluster;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::world::World;
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::service_fn;

use crate::faults::Faults;
use crate::harness::{Answer, Backend, Harness};
use crate::kube::token_of;

const BLUEPRINT: &str = include_str!("../../blueprints/gr.json");

async fn ask(service: &Service, method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if method == "PUT" { r#"{"file": "gr.json"}"# } else { "" };
    Answer::of(service.router(), request.body(Body::from(body)).unwrap()).await
}

/// What a made-up API server says of tokens and rights, and how often it was asked.
#[derive(Default)]
pub(crate) struct Reviews {
    pub(crate) users: BTreeMap<String, String>,
    /// User and verb; of one gr alone, its name behind a slash: `get/gr`.
    pub(crate) rights: Vec<(String, String)>,
    away: bool,
    asked: usize,
    last: Value,
}

pub(crate) type Shared = Arc<Mutex<Reviews>>;

fn review(reviews: &Shared, path: &str, body: &Value) -> Option<(u16, Value)> {
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

async fn start(harness: &Harness, client: Client) -> Service {
    let mut parts = ServiceDeps::new(client, harness.clock, harness.blueprints.path(), Metrics::default());
    parts.watching = Watching::Polling;
    parts.auth = Mode::Kubernetes;
    let service = Service::start(parts).await;
    timeout(Duration::from_secs(60), service.ready()).await.unwrap();
    service
}

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";
/// Each call with the verb that it needs.
const CALLS: [(&str, &str, &str); 27] = [
    ("GET", "/gum/v1/gr", "list"),
    ("GET", "{gr}", "get"),
    ("PUT", "{gr}", "update"),
    ("DELETE", "{gr}", "delete"),
    ("GET", "{gr}/resource/driver", "get"),
    ("POST", "{gr}/plan", "get"),
    ("POST", "{gr}/pause", "update"),
    ("POST", "{gr}/resume", "update"),
    ("POST", "{gr}/cancel", "update"),
    ("POST", "{gr}/promote", "update"),
    ("POST", "{gr}/rollback", "update"),
    ("POST", "{gr}/retry", "update"),
    ("POST", "{gr}/close", "update"),
    ("POST", "{gr}/nodes/node-1/skip", "update"),
    ("POST", "{gr}/nodes/node-1/retry", "update"),
    ("GET", "{gr}/status", "get"),
    ("GET", "{gr}/why", "get"),
    ("GET", "{gr}/nodes", "get"),
    ("GET", "{gr}/fleet", "get"),
    ("GET", "{gr}/history", "get"),
    ("GET", "{gr}/history/1", "get"),
    ("GET", "/gum/v1/upgrades", "list"),
    ("GET", "/gum/v1/upgrades/enflame-gcu-resource-1", "get"),
    ("GET", "/gum/v1/upgrades/enflame-gcu-resource-1/events", "get"),
    ("GET", "/gum/v1/blueprints", "list"),
    ("GET", "/gum/v1/blueprints/gr.json", "list"),
    ("GET", "/metrics", "get"),
];

#[tokio::test(start_paused = true)]
async fn every_call_is_refused_without_a_token_with_a_wrong_one_and_without_its_right() {
    let reviews = Shared::default();
    reviews.lock().unwrap().users.insert("t-nobody".to_owned(), "nobody".to_owned());
    let (harness, service) = before_reviews(reviews.clone()).await;
    for (method, path, verb) in CALLS {
        let path = path.replace("{gr}", GR);
        for token in [None, Some("garbage"), Some("")] {
            let said = ask(&service, method, &path, token).await;
            assert_eq!(said.status, 401, "{method} {path}");
            assert_eq!(said.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            assert!(said.text.contains("\"result\": \"Failed\""), "{}", said.text);
        }
        let said = ask(&service, method, &path, Some("t-nobody")).await;
        assert_eq!(said.status, 403, "{method} {path}: {}", said.text);
        let words = format!("user \\\"nobody\\\" may not {verb} ");
        assert!(said.text.contains(&words), "{method} {path} says {words}: {}", said.text);
        let asked = reviews.lock().unwrap().last.clone();
        assert_eq!(asked["spec"]["groups"], json!(["people"]));
        if let Some(attributes) = asked["spec"].get("resourceAttributes") {
            assert_eq!(attributes["group"], "topsops.enflame.com");
            assert_eq!(attributes["resource"], "gcuresources");
            // There is no such record: as much is needed as to see it whosever it were.
            let about_one = path.contains("/gr/enflame-gcu-resource");
            assert_eq!(attributes["name"].as_str(), about_one.then_some("enflame-gcu-resource"), "{path}");
        }
    }
    for path in ["/livez", "/readyz", "/version"] {
        assert_eq!(ask(&service, "GET", path, None).await.status, 200, "{path} needs no token");
    }
    assert!(harness.record(1).await.is_none(), "nothing was done");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_is_of_no_use_after_30_seconds_and_one_that_is_given_works_at_once() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-reader".to_owned(), "reader".to_owned());
        reviews.rights.push(("reader".to_owned(), "get".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    let asked = reviews.lock().unwrap().asked;
    for _ in 0..50 {
        assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    }
    assert_eq!(reviews.lock().unwrap().asked, asked, "what was answered is believed for a while");
    let read_only = ask(&service, "PUT", GR, Some("t-reader")).await;
    assert_eq!(read_only.status, 403, "{}", read_only.text);
    reviews.lock().unwrap().rights.clear();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 403);
    reviews.lock().unwrap().rights.push(("reader".to_owned(), "get".to_owned()));
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    reviews.lock().unwrap().users.clear();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 401, "a revoked token");
    drop(harness);
}

#[tokio::test(start_paused = true)]
async fn whoever_hammers_with_bad_tokens_is_no_burden_and_drives_no_good_one_out() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-reader".to_owned(), "reader".to_owned());
        reviews.rights.push(("reader".to_owned(), "get".to_owned()));
    }
    let (_stage, service) = before_reviews(reviews.clone()).await;
    let asked = || reviews.lock().unwrap().asked;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    let before = asked();
    for _ in 0..100 {
        assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 401);
    }
    assert_eq!(asked() - before, 1, "asked once");
    for number in 0..3000 {
        assert_eq!(ask(&service, "GET", GR, Some(&format!("t-{number}"))).await.status, 401);
    }
    let before = asked();
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    assert_eq!(asked(), before, "the good one is still known");
    // One that becomes valid works within seconds.
    assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 401);
    reviews.lock().unwrap().users.insert("t-late".to_owned(), "reader".to_owned());
    sleep(Duration::from_millis(5100)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_wait_and_a_stream_end_when_their_token_or_their_right_is_taken_away_but_not_while_that_cannot_be_asked()
 {
    let reviews = Shared::default();
    let give = |reviews: &Shared| {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-writer".to_owned(), "writer".to_owned());
        reviews.rights =
            ["get", "update"].map(|verb| ("writer".to_owned(), verb.to_owned())).into_iter().collect();
    };
    give(&reviews);
    let (harness, service) = before_reviews(reviews.clone()).await;
    // One that never ends by itself.
    let record = json!({
        "metadata": { "name": "other-1", "labels": { "by-hand": "" } },
        "spec": { "gr": "enflame-gcu-resource", "operation": "Upgrade", "target": { "manifest": {} }, "intent": "Pause" },
        "status": { "phase": "Held" },
    });
    let events = "/gum/v1/upgrades/other-1/events";
    harness.records().create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    for (revoke, status, says) in [
        (true, 401, "the token is not valid"),
        (false, 403, "user \"writer\" may not get the gr of the record \"other-1\""),
    ] {
        give(&reviews);
        sleep(Duration::from_secs(40)).await;
        let begun = tokio::time::Instant::now();
        let taken = async {
            // While nobody can be asked, nothing is said to have been taken away.
            sleep(Duration::from_secs(10)).await;
            reviews.lock().unwrap().away = true;
            sleep(Duration::from_secs(120)).await;
            assert!(begun.elapsed() >= Duration::from_secs(130));
            let mut reviews = reviews.lock().unwrap();
            reviews.away = false;
            if revoke { reviews.users.clear() } else { reviews.rights.clear() }
        };
        let stream = timeout(Duration::from_secs(600), ask(&service, "GET", events, Some("t-writer")));
        let (told, ()) = tokio::join!(stream, taken);
        let told = told.expect("the stream ends");
        let took = begun.elapsed();
        assert!((130..=161).contains(&took.as_secs()), "{took:?}");
        let last = told.text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.contains("event: closing"), "{}", told.text);
        let data: Value = serde_json::from_str(last.split("data: ").nth(1).unwrap()).unwrap();
        assert_eq!(data["status"], status, "{data}");
        assert!(data["message"].as_str().unwrap().starts_with(says), "{data}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_its_token_is_taken_away_and_the_upgrade_goes_on() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-writer".to_owned(), "writer".to_owned());
        reviews.rights.push(("writer".to_owned(), "update".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    // The old pods never go: the upgrade waits.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(harness.client.clone(), "kube-system");
    let all = pods.list(&Default::default()).await.unwrap().items;
    let stays = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/stays"] } }));
    for pod in &all {
        let name = pod.metadata.name.as_deref().unwrap();
        pods.patch(name, &PatchParams::default(), &stays).await.unwrap();
    }
    let taken = async {
        sleep(Duration::from_secs(45)).await;
        reviews.lock().unwrap().users.clear();
    };
    let (begun, put) = (tokio::time::Instant::now(), format!("{GR}?wait=1h"));
    let (waited, ()) = tokio::join!(ask(&service, "PUT", &put, Some("t-writer")), taken);
    assert_eq!(waited.status, 401, "{}", waited.text);
    assert!((45..=76).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(
        waited.error().contains("enflame-gcu-resource-1 goes on, see /gum/v1/upgrades/"),
        "{}",
        waited.text
    );
    assert!(!harness.record(1).await.unwrap().phase().is_final());
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_be_asked_nothing_is_allowed() {
    let reviews = Shared::default();
    let (harness, service) = before_reviews(reviews.clone()).await;
    reviews.lock().unwrap().away = true;
    for (method, path, _) in CALLS {
        let said = ask(&service, method, &path.replace("{gr}", GR), Some("t-reader")).await;
        assert_eq!(said.status, 503, "{method} {path}");
        assert_eq!(said.header("retry-after"), Some("5"), "{method} {path}");
        let words = "authorization check failed: etcd is away";
        assert!(said.text.contains(words), "{}", said.text);
    }
    assert!(harness.record(1).await.is_none(), "nothing was done");
}

#[tokio::test(start_paused = true)]
async fn a_record_is_its_grs_whatever_it_is_called_and_one_that_is_not_there_looks_like_a_foreign_one() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        for user in ["one", "all", "none"] {
            reviews.users.insert(format!("t-{user}"), user.to_owned());
        }
        reviews.rights.push(("one".to_owned(), "get/mine".to_owned()));
        reviews.rights.push(("all".to_owned(), "get".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    for (name, gr) in [("mine-1", "theirs"), ("theirs-1", "mine"), ("mine-2", "mine")] {
        let record = json!({
            "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": name },
            "spec": { "gr": gr, "operation": "Upgrade", "target": { "manifest": {} } },
        });
        let record = serde_json::from_value(record).unwrap();
        harness.records().create(&PostParams::default(), &record).await.unwrap();
        let mut ended = harness.records().get(name).await.unwrap().status_or_default();
        ended.phase = gcu_upgrade_manager::record::Phase::Failed;
        let ended = Patch::Merge(json!({ "status": ended }));
        harness.records().patch_status(name, &PatchParams::default(), &ended).await.unwrap();
    }
    for (user, name, status) in [
        ("one", "mine-1", 403),
        ("one", "theirs-1", 200),
        ("one", "mine-2", 200),
        ("one", "mine-3", 403),
        ("one", "No-Name", 403),
        ("all", "mine-1", 200),
        ("all", "theirs-1", 200),
        ("all", "mine-3", 404),
        ("all", "No-Name", 400),
        ("none", "mine-1", 403),
        ("none", "mine-3", 403),
    ] {
        for view in ["", "/events"] {
            let path = format!("/gum/v1/upgrades/{name}{view}");
            let said = ask(&service, "GET", &path, Some(&format!("t-{user}"))).await;
            assert_eq!(said.status, status, "{user} {path}: {}", said.text);
            if status == 403 && name != "No-Name" {
                let missing =
                    ask(&service, "GET", "/gum/v1/upgrades/mine-9", Some(&format!("t-{user}"))).await;
                let (said, missing) =
                    (said.error().replace(name, "X"), missing.error().replace("mine-9", "X"));
                assert_eq!(said, missing, "{user} {path}");
                assert!(said.ends_with("may not get the gr of the record \"X\", or there is no such record"));
            }
        }
    }
}

/// Whatever ran on this cluster before may have left either served, and a caller needs the right in each.
const GR_GROUPS: [&str; 2] = ["topsops.enflame.com", "topscloud.enflame.com"];

/// A service account in `default`, with the verbs that it has on grs, and a token of it.
async fn account(client: &Client, name: &str, verbs: &[&str], audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    let _ = accounts.create(&PostParams::default(), &account).await;
    if !verbs.is_empty() {
        let role = json!({
            "metadata": { "name": name },
            "rules": [{ "apiGroups": GR_GROUPS, "resources": ["gcuresources"], "verbs": verbs }],
        });
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let apply = PatchParams::apply("test");
        let mut role_object = role.clone();
        role_object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        role_object["kind"] = json!("ClusterRole");
        roles.patch(name, &apply, &Patch::Apply(&role_object)).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
        });
        bindings.patch(name, &apply, &Patch::Apply(&binding)).await.unwrap();
    }
    token_of(&accounts, name, audience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_api_server_its_own_roles_decide_and_the_record_says_who_asked() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    let world = World { nodes: 1, prefix: Some("auth".to_owned()), ..World::default() };
    let harness =
        Harness::set_without_service(Backend::Real(crate::kube::SHARED), world, Faults::new(Vec::new()))
            .await
            .unwrap();
    let mut target = serde_json::from_str::<Value>(BLUEPRINT).unwrap();
    target["metadata"]["name"] = json!(harness.gr());
    harness.write("gr.json", &target.to_string());
    let client = harness.client.clone();
    let nobody = account(&client, "auth-nobody", &[], None).await;
    let reader = account(&client, "auth-reader", &["get", "list"], None).await;
    let writer = account(&client, "auth-writer", &["get", "list", "update"], None).await;
    let elsewhere = account(&client, "auth-writer", &[], Some("https://elsewhere")).await;
    let service = start(&harness, client.clone()).await;
    let gr = format!("/gum/v1/gr/{}", harness.gr());
    for (token, get, put, delete) in [
        (None, 401, 401, 401),
        (Some("garbage"), 401, 401, 401),
        (Some(elsewhere.as_str()), 401, 401, 401),
        (Some(nobody.as_str()), 403, 403, 403),
        (Some(reader.as_str()), 200, 403, 403),
        (Some(writer.as_str()), 200, 200, 403),
    ] {
        for (method, path, expected) in [
            ("GET", gr.clone(), get),
            ("GET", "/gum/v1/gr".to_owned(), get),
            ("PUT", format!("{gr}?dryRun=true"), put),
            ("DELETE", format!("{gr}?dryRun=true"), delete),
        ] {
            let said = ask(&service, method, &path, token).await;
            assert_eq!(said.status, expected, "{method} {path} with {token:?}: {}", said.text);
        }
    }
    let said = ask(&service, "PUT", &format!("{gr}?dryRun=true"), Some(&reader)).await;
    let words = "user \\\"system:serviceaccount:default:auth-reader\\\" may not update gcuresources.";
    assert!(said.text.contains(words), "{}", said.text);
    assert!(!said.text.contains(&reader), "the token itself is nowhere");
    // The real thing, and who did it.
    let said = ask(&service, "PUT", &gr, Some(&writer)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.spec.requested_by.as_deref(), Some("system:serviceaccount:default:auth-writer"));
    let said = ask(&service, "POST", &format!("{gr}/cancel"), Some(&writer)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    let steered = harness.record(1).await.unwrap().spec.steered_by.unwrap();
    assert_eq!((steered.command.as_str(), steered.by.ends_with("auth-writer")), ("cancel", true));
    // Nothing is left under way for those who use this cluster next.
    let over = timeout(Duration::from_secs(120), async {
        while harness.record(1).await.is_some_and(|r| r.metadata.finalizers.is_some()) {
            sleep(Duration::from_millis(100)).await;
        }
    });
    over.await.expect("the cancelled upgrade does not end");
    // A right that is taken away.
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.delete("auth-reader", &DeleteParams::default()).await.unwrap();
    let refused = timeout(Duration::from_secs(45), async {
        while ask(&service, "GET", &gr, Some(&reader)).await.status == 200 {
            sleep(Duration::from_millis(250)).await;
        }
    });
    refused.await.expect("a right that was taken away is of no use after 30 s");
}
