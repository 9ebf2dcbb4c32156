//! Versions that do not fit each other: of the cluster, of gcu-operator, and of what serves the gr. Warnings alone:
//! who runs such a mixture may know why.

/// Older clusters are not tried.
const OLDEST: (u32, u32) = (1, 20);
/// The operator's releases that are known, by their lines, and the API group that each serves.
const LINES: [((u32, u32), &str); 3] =
    [((2, 0), "topsops.enflame.com"), ((2, 1), "topsops.enflame.com"), ((2, 4), "topscloud.enflame.com")];
/// Images of the operator named in a warning.
const NAMED: usize = 3;

/// The Kubernetes release that the whole service is tested against.
pub const TESTED: &str = "1.20";

/// What is known of the versions around us; what could not be read is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The API server's `gitVersion`, such as `v1.20.2`.
    pub kubernetes: Option<String>,
    /// The Deployments of the operator: one, unless somebody has installed it twice.
    pub operators: Vec<Operator>,
    /// The `group/version`s that serve GcuResources.
    pub served: Vec<String>,
}

/// A Deployment of gcu-operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Where it runs.
    pub namespace: String,
    /// Its image.
    pub image: String,
}

impl Operator {
    /// The version that the image's tag tells; `None` for `latest`, for a digest alone and for other words.
    pub fn version(&self) -> Option<&str> {
        let tag = tag(&self.image)?;
        let version = tag.strip_prefix('v').unwrap_or(tag);
        line(version).map(|_| version)
    }
}

/// The tag of an image's reference. The colon of a registry's port is none, nor is that of a digest.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag).filter(|tag| !tag.is_empty())
}

/// Major and minor of `2.4.6`, `v1.20.2-sandbox`, `1.20+`.
fn line(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).map_or(minor, |end| minor.split_at(end).0);
    Some((major, digits.parse().ok()?))
}

/// What to think of before an upgrade begins.
pub fn warnings(versions: &Versions) -> Vec<String> {
    let mut all = Vec::new();
    if let Some((major, minor)) = versions.kubernetes.as_deref().and_then(line).filter(|v| *v < OLDEST) {
        let (oldest_major, oldest_minor) = OLDEST;
        all.push(format!(
            "the cluster is Kubernetes {major}.{minor}, older than {oldest_major}.{oldest_minor}: not tried"
        ));
    }
    if versions.served.len() > 1 {
        all.push(format!(
            "GcuResources are served by {} at once: is an update of gcu-operator half done?",
            versions.served.join(" and ")
        ));
    }
    match versions.operators.as_slice() {
        [] => {}
        [one] => all.extend(of_operator(one, &versions.served)),
        several => {
            let names = several.iter().take(NAMED).map(|o| format!("{} in {}", o.image, o.namespace));
            all.push(format!(
                "gcu-operator is installed {} times: {}",
                several.len(),
                names.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    all
}

fn of_operator(operator: &Operator, served: &[String]) -> Option<String> {
    let version = operator.version()?;
    let Some((_, group)) = LINES.iter().find(|(known, _)| Some(*known) == line(version)) else {
        return Some(format!(
            "gcu-operator {version} is not known here: its lines 2.0, 2.1 and 2.4 are; try a plan and one node first"
        ));
    };
    // Nothing served at all is no matter of versions, and refused elsewhere.
    let fits = served.is_empty() || served.iter().any(|api| api.split('/').next() == Some(*group));
    (!fits).then(|| {
        format!(
            "gcu-operator {version} is known to serve {group}, and the cluster serves {}: does the operator run?",
            served.join(" and ")
        )
    })
}
