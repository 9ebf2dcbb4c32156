//! A real Kubernetes control plane, when `KUBEBUILDER_ASSETS` names a directory that holds one.
//!
//! One control plane serves the whole test process; the scenarios, which take most of the time, have several of their
//! own. Each is started by the first test that asks, and dies with the process however that ends: each server runs
//! under a shell that kills it when our end of a pipe closes.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::skip::skipped;

/// A bearer token with every right.
pub(crate) const TOKEN: &str = "conformance";

/// Signs the service account tokens of a control plane that lives for one test run. Protects nothing.
const TEST_KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIJwij3HFXYPAR3DJardGBu39JUh02T3hJQEoZkBIYxD2oAoGCCqGSM49
AwEHoUQDQgAEsyllIhY4ojVMewVBpxn/R+F/SMch7OpgB6vYX19wcVkoDd9DAFgN
4PnFMFz/gQQXtptzghvyAKq18JIuPE1Paw==
-----END EC PRIVATE KEY-----
";

/// A running control plane.
pub(crate) struct RealCluster {
    url: String,
    kubeconfig: PathBuf,
    audit: PathBuf,
    has_controllers: bool,
    /// Their standard inputs are the pipes that keep the servers alive.
    _servers: Vec<Child>,
}

/// Held by whoever runs a service on the shared control plane: two services there would share the work.
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Which control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane(usize);

/// The one of all tests but those of the scenarios.
pub(crate) const SHARED: Plane = Plane(0);
/// Scenarios wait more than they compute: so many run beside one another.
pub(crate) const OF_SCENARIOS: [Plane; 3] = [Plane(1), Plane(2), Plane(3)];

/// The shared control plane, or `None` when no assets are given.
pub(crate) async fn real() -> Option<&'static RealCluster> {
    SHARED.cluster().await
}

impl Plane {
    /// This control plane of the process, or `None` when no assets are given.
    pub(crate) async fn cluster(self) -> Option<&'static RealCluster> {
        static CLUSTERS: [OnceLock<Option<RealCluster>>; 1 + OF_SCENARIOS.len()] =
            [const { OnceLock::new() }; 1 + OF_SCENARIOS.len()];
        let start = move || CLUSTERS[self.0].get_or_init(|| start(self)).as_ref();
        tokio::task::spawn_blocking(start).await.unwrap()
    }
}

impl RealCluster {
    /// A new client with every right. Each test has its own runtime, so each needs its own client.
    pub(crate) async fn client(&self) -> kube::Client {
        let text = fs::read_to_string(&self.kubeconfig).unwrap();
        let parsed = Kubeconfig::from_yaml(&text).unwrap();
        let mut config =
            kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        // Else the client itself repeats what is answered 429, for minutes.
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    /// A kubeconfig file for kubectl.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the API is served.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Every call that a service account has made, one event a line.
    pub(crate) fn audit(&self) -> &Path {
        &self.audit
    }

    /// Whether DaemonSets, owner references and namespaces are looked after.
    pub(crate) fn has_controllers(&self) -> bool {
        self.has_controllers
    }
}

/// A token of a service account, for the API server itself or for another audience.
pub(crate) async fn token_of(accounts: &Api<ServiceAccount>, name: &str, audience: Option<&str>) -> String {
    let spec = TokenRequestSpec {
        audiences: audience.map(|audience| vec![audience.to_owned()]),
        expiration_seconds: Some(3600),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let granted = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    granted.status.unwrap().token.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn assets() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
}

fn start(plane: Plane) -> Option<RealCluster> {
    let Some(assets) = assets() else {
        skipped("set KUBEBUILDER_ASSETS to run the tests on a real API server too");
        return None;
    };
    let home = std::env::temp_dir().join(format!("control-plane-{}-{}", std::process::id(), plane.0));
    fs::create_dir_all(&home).unwrap();
    let [etcd, peer, api] = free_ports();
    let url = format!("https://127.0.0.1:{api}");
    let kubeconfig = write_credentials(&home, &url);
    let in_home = |name: &str| home.join(name).display().to_string();
    let run = |program: &str, arguments: Vec<String>| supervised(&home, &assets.join(program), &arguments);
    let etcd_url = format!("http://127.0.0.1:{etcd}");
    let mut servers = vec![run(
        "etcd",
        vec![
            format!("--data-dir={}", in_home("etcd")),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            "--unsafe-no-fsync".to_owned(),
        ],
    )];
    servers.push(run(
        "kube-apiserver",
        vec![
            format!("--etcd-servers={etcd_url}"),
            format!("--cert-dir={}", in_home("certs")),
            format!("--secure-port={api}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--service-account-issuer=https://localhost".to_owned(),
            format!("--service-account-key-file={}", in_home("sa.key")),
            format!("--service-account-signing-key-file={}", in_home("sa.key")),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", in_home("tokens.csv")),
            format!("--audit-policy-file={}", in_home("audit-policy")),
            format!("--audit-log-path={}", in_home("audit.log")),
        ],
    ));
    let audit = home.join("audit.log");
    let mut cluster = RealCluster { url, kubeconfig, audit, has_controllers: false, _servers: Vec::new() };
    wait_until_ready(&cluster, &home);
    // Other distributions of these assets come without it.
    if assets.join("kube-controller-manager").exists() {
        servers.push(run(
            "kube-controller-manager",
            vec![
                format!("--kubeconfig={}", cluster.kubeconfig.display()),
                "--controllers=daemonset,garbagecollector,namespace".to_owned(),
                "--leader-elect=false".to_owned(),
                "--use-service-account-credentials=false".to_owned(),
                "--port=0".to_owned(),
                "--secure-port=0".to_owned(),
            ],
        ));
        cluster.has_controllers = true;
    }
    cluster._servers = servers;
    Some(cluster)
}

fn free_ports() -> [u16; 3] {
    // All are held until all are known, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn write_credentials(home: &Path, url: &str) -> PathBuf {
    fs::write(home.join("sa.key"), TEST_KEY).unwrap();
    fs::write(home.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n")).unwrap();
    let policy = serde_json::json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
    });
    fs::write(home.join("audit-policy"), policy.to_string()).unwrap();
    let kubeconfig = home.join("kubeconfig");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    kubeconfig
}

/// Runs a server until our end of its shell's standard input closes.
fn supervised(home: &Path, program: &Path, arguments: &[String]) -> Child {
    let log = fs::File::create(home.join(program.file_name().unwrap()).with_extension("log")).unwrap();
    Command::new("sh")
        .args([
            "-c",
            r#""$@" </dev/null & p=$!; cat >/dev/null; kill $p; wait $p; rm -rf "$LEFTOVERS""#,
            "sh",
        ])
        .arg(program)
        .args(arguments)
        // etcd's data is of no use afterwards, and large; the logs stay.
        .env("LEFTOVERS", home.join(program.file_name().unwrap()))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn wait_until_ready(cluster: &RealCluster, home: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..600 {
            if is_ready(cluster).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the control plane is not ready; its logs are in {}", home.display());
    });
}

async fn is_ready(cluster: &RealCluster) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    cluster.client().await.request_text(request).await.is_ok()
}
