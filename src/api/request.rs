//! What callers send, parsed once into types that cannot be wrong.

mod maintenance;
mod rolling;
mod seconds;

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::envelope::ApiError;
use crate::explain::risk::RiskName;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{Amount, Asked, RollingUpdate};
use crate::record::{Deadlines, GcuUpgrade, OnFailure, Strategy};
use maintenance::MaintenanceBody;
use rolling::RollingBody;
pub(super) use seconds::duration;
use seconds::{Seconds, SecondsOrNone};

/// `reason` is for people, and is kept in the record.
pub(super) const REASON_LIMIT: usize = 1024;
/// The same for one node of many.
const NODE_REASON_LIMIT: usize = 256;
/// So many nodes decide over a Recreate: one broken machine of thousands does not.
const FAILURE_THRESHOLD: Amount = Amount::Percent(10);

/// The name of a gr or of a record in a path: a DNS-1123 subdomain, so that nothing else of the Kubernetes
/// API can be reached through it.
#[derive(Clone, Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        name_at(0, parts, state).await.map(Self)
    }
}

/// The name of a node in a path, behind that of the gr.
#[derive(Clone, Debug)]
pub(super) struct NodeName(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for NodeName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        name_at(1, parts, state).await.map(Self)
    }
}

async fn name_at<S: Send + Sync>(place: usize, parts: &mut Parts, state: &S) -> Result<String, ApiError> {
    let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(segments) = path.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let name = segments.into_iter().nth(place).map(|(_, value)| value).unwrap_or_default();
    if is_dns_subdomain(&name) {
        return Ok(name);
    }
    Err(ApiError::bad_request(format!(
        "{name:?} cannot be a name: lower-case letters, digits, `-` and `.`, starting and ending with a \
         letter or digit, at most 253 characters"
    )))
}

/// Whether this can be the key of a label.
pub(super) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let named = name.len() <= 63 && name.chars().all(inner);
    named && ends(name.chars().next()) && ends(name.chars().last()) && prefix.is_none_or(is_dns_subdomain)
}

/// Whether Kubernetes can have an object of this name.
pub(super) fn is_dns_subdomain(name: &str) -> bool {
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(inner)
    };
    name.len() <= 253 && name.split('.').all(label)
}

pub(super) fn bad(field: &str, what: &str) -> ApiError {
    ApiError::bad_request(format!("{field}: {what}"))
}

/// The body of a call that starts a job.
// Each call says which fields it has no use for. These comments are in the published description of the API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct JobBody {
    /// The blueprint to upgrade to: a file in the directory of blueprints.
    pub(super) file: Option<String>,
    /// The blueprint itself, instead of a file of the service's; `file` is then only what the record calls it.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(super) manifest: Option<Value>,
    /// Versions of components, such as `{"driver.version": "1.3.0"}`: in the blueprint, or without one in the gr as it
    /// stands. The query parameter `set` does the same.
    pub(super) set: BTreeMap<String, String>,
    /// The revision to return to; without it, what the last upgrade replaced.
    pub(super) revision: Option<u64>,
    /// How the change is made. By default Recreate; a rollback or a retry goes as the last upgrade went.
    pub(super) strategy: Option<Strategy>,
    /// What to do when a component visibly cannot start. Slowness alone never rolls back.
    pub(super) on_failure: OnFailure,
    /// Only these components, by their keys; those after them in the dependency order restart too.
    pub(super) components: Vec<String>,
    /// How a RollingUpdate proceeds.
    rolling_update: Option<RollingBody>,
    /// Recreate: the number or percentage of nodes that have to fail before the upgrade is held or rolled back; by
    /// default 10%, at least one node. A RollingUpdate has its own in `rollingUpdate`.
    failure_threshold: Option<Asked>,
    /// How long each step may take before the upgrade is held.
    deadlines: DeadlinesBody,
    /// When nodes may be taken.
    maintenance: Option<MaintenanceBody>,
    /// Why nodes are taken outside of maintenance windows too; kept in the record. At most 1024 bytes. The query
    /// parameter `overrideWindow` does the same.
    #[serde(deserialize_with = "short::<_, REASON_LIMIT>")]
    #[schemars(length(min = 1, max = REASON_LIMIT))]
    pub(super) override_window: Option<String>,
    /// Why, for people; kept in the record. At most 1024 bytes.
    #[serde(deserialize_with = "short::<_, REASON_LIMIT>")]
    #[schemars(length(max = REASON_LIMIT))]
    pub(super) reason: Option<String>,
    /// Risks that are known and accepted, by the names that the plan gives them; kept in the record.
    pub(super) accept: Vec<RiskName>,
    /// Do it though nothing would change.
    pub(super) force: bool,
}

/// How long each step may take before the upgrade is held.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DeadlinesBody {
    /// From the delete until the gr and all its pods are gone; by default 10m.
    gone: Option<Seconds>,
    /// From then until the API server has accepted the new gr; by default 5m.
    create: Option<Seconds>,
    /// From the create until every component runs; by default 30m.
    running: Option<Seconds>,
    /// RollingUpdate: until the operator has put the change into its DaemonSets; by default 10m.
    propagate: Option<Seconds>,
    /// RollingUpdate: from the first pod that is replaced on a node until all are ready; by default 30m.
    node: Option<Seconds>,
}

/// A text of bounded length.
fn short<'de, D: Deserializer<'de>, const LIMIT: usize>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        Some(text) if text.len() > LIMIT => Err(D::Error::custom(format!("at most {LIMIT} bytes"))),
        text => Ok(text),
    }
}

impl JobBody {
    /// The deadlines asked for, the others as by default.
    pub(super) fn deadlines(&self) -> Deadlines {
        let usual = Deadlines::default();
        let asked = &self.deadlines;
        Deadlines {
            gone_seconds: asked.gone.map_or(usual.gone_seconds, |s| s.0),
            create_seconds: asked.create.map_or(usual.create_seconds, |s| s.0),
            running_seconds: asked.running.map_or(usual.running_seconds, |s| s.0),
            propagate_seconds: asked.propagate.map_or(usual.propagate_seconds, |s| s.0),
            node_seconds: asked.node.map_or(usual.node_seconds, |s| s.0),
        }
    }

    /// How the change is made. What the body does not say is as in `last`, or else as by default.
    pub(super) fn options(&self, last: Option<&GcuUpgrade>) -> Result<StrategyOptions, ApiError> {
        let strategy = self.strategy.or(last.map(|l| l.spec.strategy)).unwrap_or_default();
        let before = last.filter(|_| self.strategy.is_none());
        let rolling_update = match (strategy, &self.rolling_update) {
            (Strategy::Recreate, Some(asked)) if asked.has_failure_threshold() => {
                return Err(bad(
                    "rollingUpdate.failureThreshold",
                    "has no meaning for strategy Recreate; use failureThreshold, beside strategy",
                ));
            }
            (Strategy::Recreate, Some(_)) => {
                return Err(bad(
                    "rollingUpdate",
                    "has no meaning for strategy Recreate; add \"strategy\": \"RollingUpdate\"",
                ));
            }
            (Strategy::Recreate, None) => None,
            (Strategy::RollingUpdate, Some(asked)) => Some(asked.resolve().map_err(ApiError::bad_request)?),
            (Strategy::RollingUpdate, None) => {
                Some(before.and_then(|l| l.spec.rolling_update.clone()).unwrap_or_default())
            }
        };
        let failure_threshold = match strategy {
            Strategy::RollingUpdate if self.failure_threshold.is_some() => {
                return Err(bad(
                    "failureThreshold",
                    "has no meaning for strategy RollingUpdate; use rollingUpdate.failureThreshold",
                ));
            }
            Strategy::RollingUpdate => None,
            Strategy::Recreate => {
                let before = before.and_then(|l| l.spec.failure_threshold);
                self.failure_threshold.map(|a| a.0).or(before).or(Some(FAILURE_THRESHOLD))
            }
        };
        Ok(StrategyOptions { strategy, rolling_update, failure_threshold })
    }

    /// How the change is made as far as the body itself says so.
    pub(super) fn own_options(&self) -> Result<Value, ApiError> {
        let rolling = self.rolling_update.as_ref().map(RollingBody::resolve).transpose();
        let rolling = rolling.map_err(ApiError::bad_request)?;
        Ok(json!([self.strategy, rolling, self.failure_threshold.map(|a| a.0)]))
    }

    /// The windows asked for.
    pub(super) fn maintenance(&self) -> Result<Option<Maintenance>, ApiError> {
        self.maintenance.as_ref().map(MaintenanceBody::resolve).transpose()
    }

    /// Takes what the query says as said in the body.
    pub(super) fn merge_override(&mut self, reason: Option<String>) -> Result<(), ApiError> {
        if self.override_window.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(bad("overrideWindow", "say why nodes are to be taken outside of their windows"));
        }
        match (reason, &self.override_window) {
            (Some(_), Some(_)) => Err(bad("overrideWindow", "is given in the query and in the body")),
            (Some(reason), None) => {
                self.override_window = Some(reason);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Whether the body says how nodes are rolled.
    pub(super) fn says_how(&self) -> bool {
        self.rolling_update.is_some()
    }

    /// Refuses what says how a job is done, where none is started.
    pub(super) fn refuse_options(&self) -> Result<(), ApiError> {
        let why = "has no meaning here: an upgrade is under way and only steered";
        let asked = [
            (self.strategy.is_some(), "strategy"),
            (self.rolling_update.is_some(), "rollingUpdate"),
            (self.failure_threshold.is_some(), "failureThreshold"),
            (!self.components.is_empty(), "components"),
            (self.force, "force"),
            (!self.accept.is_empty(), "accept"),
            (self.maintenance.is_some(), "maintenance"),
            (self.override_window.is_some(), "overrideWindow"),
        ];
        match asked.iter().find(|(present, _)| *present) {
            Some((_, field)) => Err(bad(field, why)),
            None => Ok(()),
        }
    }

    /// Refuses what names a version, where the call itself says which.
    pub(super) fn refuse_version(&self) -> Result<(), ApiError> {
        Self::refuse(self.file.is_some(), "file")?;
        Self::refuse(self.manifest.is_some(), "manifest")?;
        Self::refuse(!self.set.is_empty(), "set")
    }

    /// Refuses a field that this call has no use for.
    pub(super) fn refuse(present: bool, field: &str) -> Result<(), ApiError> {
        if present {
            Err(ApiError::bad_request(format!("{field} has no meaning in this call")))
        } else {
            Ok(())
        }
    }
}

/// How a change is made.
#[derive(Clone, Debug)]
pub(super) struct StrategyOptions {
    pub(super) strategy: Strategy,
    /// The options of a RollingUpdate, with every default; `None` for another strategy.
    pub(super) rolling_update: Option<RollingUpdate>,
    /// How many nodes decide over a Recreate; `None` for another strategy.
    pub(super) failure_threshold: Option<Amount>,
}

/// The body of `POST /gum/v1/gr/{name}/nodes/{node}/skip`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct SkipBody {
    /// Why, for people; kept in the record. At most 256 bytes.
    #[serde(deserialize_with = "short::<_, NODE_REASON_LIMIT>")]
    #[schemars(length(max = NODE_REASON_LIMIT))]
    pub(super) reason: Option<String>,
    /// The node stays cordoned when it is released: whoever repairs it uncordons it. By default false.
    pub(super) keep_cordon: Option<bool>,
}

/// The body of a call that needs none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoBody {}

/// The body of `DELETE /gum/v1/gr/{name}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteBody {
    /// When the delete is answered; by default `background`.
    #[serde(default)]
    pub(super) policy: Policy,
}

/// When a delete is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    /// At once.
    #[default]
    Background,
    /// When the gr is gone.
    Foreground,
}

/// Parses the windows that the service is started with.
///
/// # Errors
/// What is wrong, by field.
pub(super) fn maintenance(text: &str) -> Result<Maintenance, String> {
    maintenance::parse(text)
}
