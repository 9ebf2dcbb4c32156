//! What stands behind a `?`, and which form of answer is asked for. Every parameter that a call does not know is
//! refused by name.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use jiff::SignedDuration;

use super::envelope::ApiError;
use super::form::Form;
use super::request::{REASON_LIMIT, bad, duration, is_label_key};
use super::words::unknown;
use crate::explain::fleet::NodeRolloutState;
use crate::explain::fleet::{MODEL_LABEL, ZONE_LABEL};
use crate::record::Strategy;
use crate::ui::{PlanForm, Sort, TableQuery};

/// The longest wait for a job's end that one request may ask for.
const WAIT_LIMIT: SignedDuration = SignedDuration::from_hours(24);

/// `?wait=10m&dryRun=true`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JobQuery {
    /// How long to wait for the end; `None`: answer at once.
    pub(super) wait: Option<Duration>,
    /// Check everything, change nothing, and show the plan.
    pub(super) dry_run: bool,
    /// In which form.
    pub(super) form: Form,
}

impl<S: Send + Sync> FromRequestParts<S> for JobQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["wait", "dryRun"]).await?;
        Self::of(&given, parts)
    }
}

impl JobQuery {
    fn of(given: &Given, parts: &Parts) -> Result<Self, ApiError> {
        Ok(Self { wait: given.wait()?, dry_run: given.flag("dryRun")?, form: Form::of(&parts.headers) })
    }
}

/// The same, and `?set=driver.version=1.3.0`.
#[derive(Clone, Debug, Default)]
pub(super) struct UpgradeQuery {
    pub(super) job: JobQuery,
    /// As the body's `set`.
    pub(super) set: BTreeMap<String, String>,
    /// As the body's `overrideWindow`.
    pub(super) override_window: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for UpgradeQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["wait", "dryRun", "set", "overrideWindow"]).await?;
        let job = JobQuery::of(&given, parts)?;
        Ok(Self { job, set: given.versions()?, override_window: given.why("overrideWindow")? })
    }
}

/// `?wait=10m&dryRun=true&overrideWindow=REASON`, of a call that may start a job or steer one.
#[derive(Clone, Debug, Default)]
pub(super) struct AgainQuery {
    pub(super) job: JobQuery,
    /// As the body's `overrideWindow`.
    pub(super) override_window: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for AgainQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["wait", "dryRun", "overrideWindow"]).await?;
        Ok(Self { job: JobQuery::of(&given, parts)?, override_window: given.why("overrideWindow")? })
    }
}

/// `?set=driver.version=1.3.0&overrideWindow=REASON`, of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanQuery {
    /// As the body's `set`.
    pub(super) set: BTreeMap<String, String>,
    /// As the body's `overrideWindow`.
    pub(super) override_window: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for PlanQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["set", "overrideWindow"]).await?;
        Ok(Self { set: given.versions()?, override_window: given.why("overrideWindow")? })
    }
}

/// `?wait=10m`, of a call that changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WaitQuery(pub(super) Option<Duration>);

impl<S: Send + Sync> FromRequestParts<S> for WaitQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(Given::of(parts, state, &["wait"]).await?.wait()?))
    }
}

/// `?wait=10m&manifests=true`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordQuery {
    /// How long to wait for the end; `None`: answer at once.
    pub(super) wait: Option<Duration>,
    /// With both manifests.
    pub(super) manifests: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for RecordQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["wait", "manifests"]).await?;
        Ok(Self { wait: given.wait()?, manifests: given.flag("manifests")? })
    }
}

/// No parameter at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Given::of(parts, state, &[]).await.map(|_| Self)
    }
}

/// `?all=true&node=node-1`.
#[derive(Clone, Debug, Default)]
pub(super) struct NodesQuery {
    /// The pods that were replaced too.
    pub(super) all: bool,
    /// This node alone.
    pub(super) node: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for NodesQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["all", "node"]).await?;
        Ok(Self { all: given.flag("all")?, node: given.text("node").map(str::to_owned) })
    }
}

/// `?by=zone`
#[derive(Clone, Debug)]
pub(super) struct FleetQuery {
    /// The label by which nodes are grouped.
    pub(super) by: String,
}

impl<S: Send + Sync> FromRequestParts<S> for FleetQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = Given::of(parts, state, &["by"]).await?;
        Ok(Self { by: label_key(&given)? })
    }
}

/// What the page of a gr is asked for. Beside the table and the plan, a link may carry a language and a message.
#[derive(Clone, Debug)]
pub(super) struct PageQuery {
    /// Which part of the table of nodes.
    pub(super) table: TableQuery,
    /// What was filled in to plan an upgrade.
    pub(super) form: Option<PlanForm>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let known =
            ["by", "sort", "state", "find", "page", "file", "strategy", "atOnce", "canary", "lang", "asked"];
        let given = Given::of(parts, state, &known).await?;
        let text = |name: &str| given.text(name).unwrap_or_default().to_owned();
        let sort = Sort::ALL.into_iter().find(|sort| given.text("sort") == Some(sort.word()));
        let only = NodeRolloutState::ALL.into_iter().find(|c| given.text("state") == Some(&format!("{c:?}")));
        let table = TableQuery {
            by: label_key(&given)?,
            sort: sort.unwrap_or_default(),
            only,
            find: text("find").trim().to_owned(),
            page: text("page").parse().unwrap_or(1),
        };
        let form = given.text("file").map(|file| PlanForm {
            file: file.to_owned(),
            strategy: match given.text("strategy") {
                Some("Recreate") => Strategy::Recreate,
                _ => Strategy::RollingUpdate,
            },
            at_once: text("atOnce"),
            canary: text("canary"),
        });
        Ok(Self { table, form })
    }
}

/// The label that `by` stands for.
fn label_key(given: &Given) -> Result<String, ApiError> {
    let by = label_of(given.text("by").unwrap_or_default());
    if !is_label_key(by) {
        let what = "must be zone, model or the key of a label, such as topology.kubernetes.io/zone";
        return Err(bad("by", what));
    }
    Ok(by.to_owned())
}

/// The parameters of a request: each is known to the call, and is given once.
struct Given(Vec<(String, String)>);

impl Given {
    async fn of<S: Send + Sync>(parts: &mut Parts, state: &S, known: &[&str]) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
        for (place, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(bad(key, &unknown("query parameter", key, known)));
            }
            if key != "set" && pairs.iter().take(place).any(|(other, _)| other == key) {
                return Err(bad(key, "given twice"));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A reason for people: short, and not nothing.
    fn why(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.text(name).map(str::trim) {
            Some("") => Err(bad(name, "say why")),
            Some(text) if text.len() > REASON_LIMIT => {
                Err(bad(name, &format!("at most {REASON_LIMIT} bytes")))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let wait = self.text("wait").map(|text| duration(text, WAIT_LIMIT)).transpose();
        wait.map(|wait| wait.map(|d| d.unsigned_abs())).map_err(|e| bad("wait", &e))
    }

    /// Each `set=component.version=X`; several may stand in one, with commas.
    fn versions(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let all = self.0.iter().filter(|(key, _)| key == "set").flat_map(|(_, text)| text.split(','));
        let mut set = BTreeMap::new();
        for text in all {
            let Some((field, value)) = text.split_once('=') else {
                return Err(bad("set", &format!("{text:?} is not of the form driver.version=1.3.0")));
            };
            if set.insert(field.to_owned(), value.to_owned()).is_some() {
                return Err(bad("set", &format!("{field} is given twice")));
            }
        }
        Ok(set)
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(bad(name, &format!("must be true or false, not {other:?}"))),
        }
    }
}

/// The label that a word stands for; any other is a label itself.
fn label_of(word: &str) -> &str {
    match word {
        "" | "zone" => ZONE_LABEL,
        "model" => MODEL_LABEL,
        label => label,
    }
}
