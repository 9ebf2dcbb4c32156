//! Any request: the first line is the method, the second the path, then headers up to an empty line, then the body.
//! The answer is one of ours, and never an error of the service's own.
#![no_main]

use std::cell::OnceCell;

use axum::body::Body;
use gcu_upgrade_manager::app::{ServiceDeps, Service};
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::{Running, World};
use http::Request;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

struct Stage {
    runtime: Runtime,
    service: Service,
    _world: Running,
    _blueprints: TempDir,
}

fn stage() -> Stage {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let blueprints = TempDir::new().unwrap();
    std::fs::write(blueprints.path().join("full.yaml"), include_str!("../../../blueprints/gr-full.yaml"))
        .unwrap();
    let (service, world) = runtime.block_on(async {
        let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
        let api = ApiServer::new(clock);
        let world = World { nodes: 1, ..World::default() }.start(api.client(), clock).await.unwrap();
        let mut parts = ServiceDeps::new(api.client(), clock, blueprints.path(), Metrics::default());
        parts.limits.per_second = 0;
        let service = Service::start(parts).await;
        service.ready().await;
        (service, world)
    });
    Stage { runtime, service, _world: world, _blueprints: blueprints }
}

fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let mut lines = bytes.splitn(3, |b| *b == b'\n');
    let (method, path, rest) = (lines.next()?, lines.next()?, lines.next()?);
    let end = rest.windows(2).position(|w| w == b"\n\n").unwrap_or(0);
    let (head, body) = rest.split_at(end);
    let mut request = Request::builder().method(method).uri(path);
    for line in head.split(|b| *b == b'\n') {
        let at = line.iter().position(|b| *b == b':')?;
        request = request.header(&line[..at], &line[at + 1..]);
    }
    request.body(Body::from(body.to_vec())).ok()
}

thread_local! {
    static STAGE: OnceCell<Stage> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = request(bytes) else { return };
    STAGE.with(|cell| {
        let stage = cell.get_or_init(stage);
        stage.runtime.block_on(async {
            let answer = stage.service.router().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            assert!(status != 500 && status != 502, "{status}");
            let is_json = answer
                .headers()
                .get("content-type")
                .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
            if is_json {
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(body.is_empty() || serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            }
        });
    });
});
