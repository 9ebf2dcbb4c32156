//! How the service introduces itself to the API server, on the wire.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use gcu_upgrade_manager::cluster::connect;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Config};

use super::*;

#[tokio::test]
async fn every_call_and_every_watch_says_who_is_asking() {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let log = seen.clone();
    let router = Router::new().fallback(move |request: axum::extract::Request| {
        let agents = request.headers().get_all("user-agent");
        let agents: Vec<&str> = agents.iter().map(|a| a.to_str().unwrap()).collect();
        log.lock().unwrap().push((format!("{} {}", request.method(), request.uri()), agents.join(",")));
        async { (http::StatusCode::NOT_FOUND, "nothing here") }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, Settings::plain(Metrics::default()), CancellationToken::new()));
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let client = connect(config, Metrics::default()).unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let nothing = Patch::Merge(serde_json::json!({}));
    assert!(maps.get("x").await.is_err());
    assert!(maps.list(&ListParams::default()).await.is_err());
    assert!(maps.create(&PostParams::default(), &ConfigMap::default()).await.is_err());
    assert!(maps.patch("x", &PatchParams::default(), &nothing).await.is_err());
    assert!(maps.delete("x", &DeleteParams::default()).await.is_err());
    if let Ok(stream) = maps.watch(&WatchParams::default(), "0").await {
        let _ = stream.boxed().next().await;
    }
    assert!(client.list_api_groups().await.is_err());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 7, "{seen:#?}");
    assert!(seen.iter().any(|(call, _)| call.contains("watch=true")), "{seen:#?}");
    let ours = format!("gcu-upgrade-manager/{}", env!("CARGO_PKG_VERSION"));
    assert!(seen.iter().all(|(_, agent)| *agent == ours), "{seen:#?}");
}
