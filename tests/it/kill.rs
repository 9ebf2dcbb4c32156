//! The real process against a real API server, killed with SIGKILL again and again in the middle of an upgrade.

use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::world::World;
use kube::Api;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::cli::{Running, curl};
use crate::kube::{ALONE, real};
use crate::oracle::{Oracle, the_end_keeps_its_promise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_again_and_again_finishes_its_upgrade() {
    let Some(cluster) = real().await else { return };
    let _alone = ALONE.lock().await;
    let client = cluster.client().await;
    let mut world = World {
        nodes: 2,
        prefix: Some("k9".to_owned()),
        with_real_controllers: cluster.has_controllers(),
        ..World::default()
    };
    world.kubelet.pod_start = Duration::from_millis(100);
    world.kubelet.pod_stop = Duration::from_millis(100);
    world.operator.component_delay = Duration::from_millis(100);
    let mut target = world.manifest().unwrap();
    target["spec"]["gfd"]["version"] = json!("2.1.0");
    let world = world.start(client.clone(), Clock::system()).await.unwrap();
    world.settled(Duration::from_secs(120)).await.unwrap();
    let oracle = Oracle::start(client.clone(), world.grs(), "k9".to_owned()).await;
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("gr.json"), target.to_string()).unwrap();
    let serve = || {
        let kubeconfig = cluster.kubeconfig().to_str().unwrap().to_owned();
        let (blueprints, logs) = (dir.path().to_str().unwrap().to_owned(), dir.path().join("log"));
        let logs = logs.to_str().unwrap().to_owned();
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--kubeconfig",
            &kubeconfig,
            "--blueprints",
            &blueprints,
            "--log-dir",
            &logs,
            // As in a pod: the container that is started again has the name of the one that died, and its Lease.
            "--pod-name",
            "k9",
        ];
        let mut process = Running::start(&args, &[]);
        let address = process.word_after("address=");
        (process, address)
    };
    let (mut process, mut address) = serve();
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let accepted = timeout(Duration::from_secs(60), async {
        // Not ready at once: the CRD is installed first.
        while curl(&address, "GET", "/readyz", "").0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
        oracle.is_watching().await;
        curl(&address, "PUT", &path, r#"{"file": "gr.json"}"#)
    });
    let (status, text) = accepted.await.unwrap();
    assert_eq!(status, 200, "{text}");
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    let name = format!("{}-1", world.gr_name());
    let mut kills = 0;
    let ended = timeout(Duration::from_secs(180), async {
        loop {
            let record = records.get(&name).await.unwrap();
            if record.phase().is_final() && record.metadata.finalizers.is_none() {
                return record;
            }
            // Lives a little longer each time, so that every step is cut and the end is reached.
            sleep(Duration::from_millis(40 + 25 * kills)).await;
            // Dropping it is SIGKILL.
            drop(process);
            (process, address) = serve();
            kills += 1;
        }
    });
    let ended = ended.await.unwrap_or_else(|_| panic!("no end after {kills} kills at {address}"));
    println!("killed {kills} times");
    assert!(kills >= 3, "killed only {kills} times");
    assert_eq!(ended.phase(), Phase::Succeeded);
    the_end_keeps_its_promise(&ended, Some(&world.gr().await.unwrap()));
    oracle.check();
    assert_eq!(oracle.effects(), (1, 1), "one create, one delete");
}
