//! The calls that steer a job: pause, resume, cancel, promote, close; rollback and retry where one is under way; skip
//! and retry of one node. Each changes the `spec` of the active record and no more; [`crate::plan::commands`] says
//! which is legal when.

mod outside_windows;

use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use super::Context;
use super::auth::{self, Guarded, May};
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::gr::Found;
use super::nodes::no_node;
use super::query::{AgainQuery, JobQuery};
use super::repeat::Key;
use super::request::{JobBody, Name, NoBody, NodeName, SkipBody};
use super::upgrade_request::{Call, UpgradeRequest};
use super::waiting::{Awaited, Stands, location};
use crate::explain::schema::never_null;
use crate::plan::commands::nodes::{self, NodeChange, Skipping};
use crate::plan::commands::{Command, Effect};
use crate::plan::preflight::{Refusal, Wanted};
use crate::plan::{impact, preflight};
use crate::record::rolling::SKIP_LABEL;
use crate::record::size::{USER, shortened};
use crate::record::{GcuUpgrade, Goal, Intent, Operation, Phase, Revision};

/// A command is decided on the version of the record that it then changes. The controller may write in between:
/// then it is decided again, so often.
const TRIES: usize = 20;

/// `POST /gum/v1/gr/{name}/pause`, and the other commands that take no body.
pub(super) fn plain(command: Command) -> MethodRouter<Guarded> {
    post(
        move |context: May<auth::Update>,
              Name(name): Name,
              query: JobQuery,
              Json(NoBody {}): Json<NoBody>| async move { context.command(&name, command, query).await },
    )
}

/// `POST /gum/v1/gr/{name}/resume`: goes on after a pause; with `?overrideWindow=REASON` outside of maintenance
/// windows too.
pub(super) async fn resume(
    context: May<auth::Update>,
    Name(name): Name,
    AgainQuery { job: query, override_window }: AgainQuery,
    Json(NoBody {}): Json<NoBody>,
) -> Result<Reply, ApiError> {
    match override_window {
        Some(reason) => context.override_window(&name, &reason, query).await,
        None => context.command(&name, Command::Resume, query).await,
    }
}

/// `POST /gum/v1/gr/{name}/rollback`: turns a running upgrade back, or returns to an earlier revision.
pub(super) async fn rollback(
    context: May<auth::Update>,
    Name(name): Name,
    AgainQuery { job: query, override_window }: AgainQuery,
    key: Key,
    Json(mut body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    body.merge_override(override_window)?;
    body.refuse_version()?;
    let records = context.records(&name).await?;
    let request = body.request(Operation::Rollback, json!(body.revision), key)?;
    let call = Call { gr: &name, body: &body, query, request };
    if let Some(reply) = context.repeated(&call, &records).await? {
        return Ok(reply);
    }
    if body.revision.is_none() && preflight::may(Command::Rollback, &name, &records)? != Effect::NewJob {
        body.refuse_options()?;
        return context.command(&name, Command::Rollback, query).await;
    }
    let found = context.find_if_any(&name).await?;
    let target = preflight::revision(&name, &records, body.revision, found.as_ref().map(|f| &f.live))?;
    context.again(&call, &records, found, Operation::Rollback, target).await
}

/// `POST /gum/v1/gr/{name}/retry`: a fresh deadline for a held step, or the failed upgrade once more.
pub(super) async fn retry(
    context: May<auth::Update>,
    Name(name): Name,
    AgainQuery { job: query, override_window }: AgainQuery,
    key: Key,
    Json(mut body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    body.merge_override(override_window)?;
    body.refuse_version()?;
    JobBody::refuse(body.revision.is_some(), "revision")?;
    let records = context.records(&name).await?;
    let request = body.request(Operation::Retry, Value::Null, key)?;
    let call = Call { gr: &name, body: &body, query, request };
    // What is held is meant, whichever request began it.
    let held = preflight::active(&records).is_some_and(|r| r.phase() == Phase::Held);
    if (!held || call.request.idempotency_key.is_some())
        && let Some(reply) = context.repeated(&call, &records).await?
    {
        return Ok(reply);
    }
    match (preflight::may(Command::Retry, &name, &records)?, records.first()) {
        (Effect::NewJob, Some(last)) => {
            let found = context.find_if_any(&name).await?;
            let target = preflight::again(last);
            context.again(&call, &records, found, Operation::Retry, target).await
        }
        _ => {
            body.refuse_options()?;
            context.command(&name, Command::Retry, query).await
        }
    }
}

/// `POST /gum/v1/gr/{name}/nodes/{node}/skip`: gets past a node.
pub(super) async fn skip(
    context: May<auth::Update>,
    Name(name): Name,
    NodeName(node): NodeName,
    query: JobQuery,
    Json(body): Json<SkipBody>,
) -> Result<Reply, ApiError> {
    let asked = Skipping { node: node.clone(), reason: body.reason, keep_cordon: body.keep_cordon };
    let decide = |record: &GcuUpgrade| nodes::skip(record, &asked);
    context.of_node(&name, Command::Skip, query, &node, decide).await
}

/// `POST /gum/v1/gr/{name}/nodes/{node}/retry`: takes a node that was left out, or gives one that is stuck more time.
pub(super) async fn retry_node(
    context: May<auth::Update>,
    Name(name): Name,
    NodeName(node): NodeName,
    query: JobQuery,
    Json(NoBody {}): Json<NoBody>,
) -> Result<Reply, ApiError> {
    let decide = |record: &GcuUpgrade| nodes::retry(record, &node);
    context.of_node(&name, Command::RetryNode, query, &node, decide).await
}

impl Context {
    /// Starts a job towards a revision on record, with the options of the last job unless the body says otherwise.
    async fn again(
        &self,
        call: &Call<'_>,
        records: &[GcuUpgrade],
        found: Option<Found>,
        operation: Operation,
        mut target: Revision,
    ) -> Result<Reply, ApiError> {
        let Call { gr: name, body, .. } = call;
        let found = match found {
            Some(found) => Some(self.in_version_of(found, &target.manifest).await?),
            None => None,
        };
        if !body.components.is_empty() {
            let Some(found) = &found else {
                return Err(ApiError::bad_request(format!(
                    "components: gr \"{name}\" is not there, so nothing but the whole of it can be brought back"
                )));
            };
            target.manifest = impact::only(&found.live.manifest, &target.manifest, &body.components)
                .map_err(|e| ApiError::bad_request(format!("components: {e}")))?;
        }
        // What is not there cannot be changed in place, however it was done before.
        let last = records.first().filter(|_| found.is_some());
        let mut options = body.options(last)?;
        if operation == Operation::Rollback
            && !body.says_how()
            && let Some(rolling) = &mut options.rolling_update
        {
            // The version is known: whoever goes back in the middle of the night is not asked to promote.
            rolling.without_steps();
        }
        let job = UpgradeRequest { operation, target, risks: Vec::new(), options };
        self.start(call, records, found, job).await
    }

    /// Changes the `spec` of the active record as a command asks for.
    pub(super) async fn command(
        &self,
        gr: &str,
        command: Command,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let decide = |record: &GcuUpgrade, effect: Result<Effect, Refusal>| {
            let effect = effect?;
            let wanted = match effect {
                Effect::Close => Wanted::End,
                Effect::TurnBack => Wanted::Previous,
                Effect::Pause => Wanted::Pause,
                _ => wanted(record),
            };
            Ok(change(effect).map(|change| Steering { change, says: says(effect).to_owned(), wanted }))
        };
        self.steer(gr, command, query, decide).await
    }

    /// The same for a command about one node.
    async fn of_node(
        &self,
        gr: &str,
        command: Command,
        query: JobQuery,
        node: &str,
        decide: impl Fn(&GcuUpgrade) -> Result<NodeChange, String> + Send + Sync,
    ) -> Result<Reply, ApiError> {
        let records = self.records(gr).await?;
        preflight::may(command, gr, &records)?;
        if preflight::active(&records).is_some_and(|r| !nodes::is_named(r, node)) {
            self.is_there(gr, command, node).await?;
        }
        let decide = |record: &GcuUpgrade, effect: Result<Effect, Refusal>| {
            effect?;
            let name = record.name_any();
            let change = decide(record).map_err(|why| Refusal::Nothing(format!("{name} {why}")))?;
            let says = says_of_node(command, record, node, &change);
            let change = match (change.skip, change.attempt) {
                (None, None) => Value::Null,
                (Some(skip), None) => json!({ "skip": skip }),
                (None, Some(attempt)) => json!({ "nodeAttempts": { node: attempt } }),
                (Some(skip), Some(attempt)) => json!({ "skip": skip, "nodeAttempts": { node: attempt } }),
            };
            Ok(Some(Steering { change, says, wanted: wanted(record) }))
        };
        self.steer(gr, command, query, decide).await
    }

    /// A node that the record does not name: whether it exists, and is not left out by its label.
    async fn is_there(&self, gr: &str, command: Command, node: &str) -> Result<(), ApiError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Some(found) = nodes.get_opt(node).await? else {
            return Err(no_node(gr, node));
        };
        if command == Command::RetryNode && found.labels().get(SKIP_LABEL).is_some_and(|v| v == "true") {
            let why =
                format!("node {node} is left out because of its label {SKIP_LABEL}=true: remove the label");
            return Err(Refusal::Nothing(why).into());
        }
        Ok(())
    }

    /// Changes the `spec` of the active record: `decide` says how. `None`: it ended while we looked.
    async fn steer(
        &self,
        gr: &str,
        command: Command,
        query: JobQuery,
        decide: impl Fn(&GcuUpgrade, Result<Effect, Refusal>) -> Result<Option<Steering>, Refusal> + Send + Sync,
    ) -> Result<Reply, ApiError> {
        for _ in 0..TRIES {
            let records = self.records(gr).await?;
            let effect = preflight::may(command, gr, &records);
            let Some(record) = preflight::active(&records) else {
                effect?;
                continue;
            };
            let Some(Steering { mut change, says, wanted }) = decide(record, effect)? else { continue };
            let name = record.name_any();
            let content = SteeredJob::of(&name, says);
            if query.dry_run {
                return Ok(Reply::with(SteeredJob { dry_run: Some(true), ..content }));
            }
            // Said once more, most commands mean something else.
            let awaited = Awaited { wanted, repeatable: false };
            if change.is_null() {
                return self.answer(&name, awaited, content, query).await;
            }
            // Who steered before is not who steers now, even where nobody is asked.
            let steered =
                self.asker.as_ref().map(|by| json!({ "command": command.word(), "by": shortened(by, USER) }));
            if let Some(spec) = change.as_object_mut() {
                spec.insert("steeredBy".to_owned(), json!(steered));
            }
            let patch = json!({
                "metadata": { "uid": record.uid(), "resourceVersion": record.resource_version() },
                "spec": change,
            });
            let api: Api<GcuUpgrade> = Api::all(self.client.clone());
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(steered) => {
                    self.known.at_least(&steered);
                    info!(record = %name, %change, "steered");
                    return self.answer(&name, awaited, content, query).await;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the record of gr \"{gr}\" changed with every try to {}: try again", command.verb()),
        ))
    }
}

/// The record that is steered.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct SteeredJob {
    /// The record: `<gr>-<n>`.
    name: String,
    /// Where the record is to be seen.
    upgrade: String,
    /// What the command comes to.
    effect: String,
    /// After a wait: the upgrade as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// After a wait: the last thing worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// True when nothing was changed, because only the effect was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true]))]
    dry_run: Option<bool>,
}

impl SteeredJob {
    fn of(name: &str, effect: String) -> Self {
        Self { name: name.to_owned(), upgrade: location(name), effect, ..Self::default() }
    }
}

impl Stands for SteeredJob {
    fn stands(&mut self, phase: Phase, message: String) {
        self.phase = Some(phase);
        self.message = Some(message);
    }
}

/// What a call comes to for the active record.
struct Steering {
    /// What becomes of its `spec`; null: it is so already.
    change: Value,
    /// In a sentence.
    says: String,
    /// What a caller with `?wait` waits for.
    wanted: Wanted,
}

/// What the record is on its way to.
fn wanted(record: &GcuUpgrade) -> Wanted {
    let turned_back = record.known_status().goal == Goal::Previous || record.spec.intent == Intent::Rollback;
    if turned_back { Wanted::Previous } else { Wanted::Target }
}

fn change(effect: Effect) -> Option<Value> {
    match effect {
        Effect::Pause => Some(json!({ "intent": Intent::Pause })),
        Effect::Resume(intent) => Some(json!({ "intent": intent })),
        Effect::TurnBack => Some(json!({ "intent": Intent::Rollback })),
        Effect::Grant(steps) => Some(json!({ "granted": steps })),
        Effect::FreshDeadline(attempt) => Some(json!({ "attempt": attempt })),
        Effect::Close => Some(json!({ "intent": Intent::Close })),
        Effect::OfNode | Effect::NewJob => None,
    }
}

fn says(effect: Effect) -> &'static str {
    match effect {
        Effect::Pause => {
            "no further node is taken; nodes whose pods are being replaced are finished, others are released"
        }
        Effect::Resume(_) => "the upgrade goes on",
        Effect::TurnBack => "the previous version is put back wherever it was replaced",
        Effect::Grant(_) => "the next step begins",
        Effect::FreshDeadline(_) => "the step goes on with a fresh deadline",
        Effect::Close => {
            "the upgrade ends with the present state: nodes in work are released as they are, the gr stays \
             as it is, and DaemonSets stay held while they have outdated pods"
        }
        Effect::OfNode | Effect::NewJob => "",
    }
}

fn says_of_node(command: Command, record: &GcuUpgrade, node: &str, change: &NodeChange) -> String {
    let in_work = nodes::is_in_work(record, node);
    match command {
        Command::Skip if change.is_empty() => format!("node {node} is skipped already"),
        Command::Skip if in_work => format!("node {node} is released as it is, and left out"),
        Command::Skip => format!("node {node} is left out"),
        _ if in_work && change.skip.is_none() => format!("node {node} goes on with a fresh deadline"),
        _ => format!("node {node} is no longer left out"),
    }
}
