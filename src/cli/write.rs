//! The verbs that change something. Each asks first what it would do, and returns when the service has taken it up, or
//! says that nobody has.

use std::io::Read as _;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::args::{How, Job, Run, Steer, Until};
use super::exit::{Exit, Failure};
use super::output::Form;
use super::{Session, read, say, tell};
use crate::blueprint::{Blueprint, Finding, MAX_FILE, validate};
use crate::frame::plan::{self, Plan};
use crate::frame::{Look, clean};

/// What a call would be sent.
struct Asked {
    gr: String,
    body: Value,
}

impl Session {
    /// What an upgrade would do.
    pub(super) async fn plan(&self, job: &Job, exit_code: bool, all: bool) -> Result<Exit, Failure> {
        let asked = self.asked(job).await?;
        let content = self
            .backend
            .call(Method::POST, &format!("/gum/v1/gr/{}/plan", asked.gr), Some(&asked.body))
            .await?;
        let (plan, changed) = planned(&content)?;
        self.show(&content, |_: Value, look| {
            let look = Look { all, ..look.clone() };
            let text = plan::plan(&plan, &look);
            if changed {
                text
            } else {
                format!("gr {} is at this version already: nothing to do\n{text}", plan.gr)
            }
        })?;
        Ok(match (exit_code, changed, plan.open_risks().next()) {
            (false, ..) | (true, false, _) => Exit::Done,
            (true, true, None) => Exit::Changes,
            (true, true, Some(_)) => Exit::Risks,
        })
    }

    /// Upgrades.
    pub(super) async fn upgrade(&self, job: &Job, run: Run) -> Result<Exit, Failure> {
        let mut asked = self.asked(job).await?;
        let path = format!("/gum/v1/gr/{}", asked.gr);
        self.begin(Method::PUT, &path, &mut asked.body, run, "Upgrade").await
    }

    /// Turns a running upgrade back, or goes back to a revision.
    pub(super) async fn rollback(&self, revision: Option<u64>, how: &How, run: Run) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let mut body = how.body();
        if let (Some(revision), Some(body)) = (revision, body.as_object_mut()) {
            body.insert("revision".to_owned(), json!(revision));
        }
        self.begin(Method::POST, &format!("/gum/v1/gr/{gr}/rollback"), &mut body, run, "Roll back").await
    }

    /// A fresh deadline for what is held, or the failed upgrade once more.
    pub(super) async fn retry(&self, run: Run) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        self.begin(Method::POST, &format!("/gum/v1/gr/{gr}/retry"), &mut json!({}), run, "Retry").await
    }

    /// Asks what a call would do, then a person, then makes it.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: &mut Value,
        run: Run,
        what: &str,
    ) -> Result<Exit, Failure> {
        let dry = self.backend.call(method.clone(), &format!("{path}?dryRun=true"), Some(&*body)).await?;
        if run.dry_run {
            self.show(&dry, |dry: Value, look| match planned(&dry) {
                Ok((plan, _)) => format!("{}nothing was changed (--dry-run)\n", plan::plan(&plan, look)),
                Err(_) => format!("{}; nothing was changed (--dry-run)\n", effect(&dry)),
            })?;
            return Ok(Exit::Done);
        }
        if dry.get("plan").is_some() {
            let (plan, changed) = planned(&dry)?;
            let forced = body.get("force") == Some(&Value::Bool(true));
            if !changed && !forced {
                say(&format!(
                    "gr {} is at this version already: nothing to do; --force does it all the same\n",
                    plan.gr
                ))?;
                return Ok(Exit::Done);
            }
            self.agree_to(&plan, body, run.yes, what)?;
        } else if !run.yes && !self.terminal.agrees(&format!("{}. {what}?", effect(&dry)))? {
            return Err(not_asked_for());
        }
        let answer = self.backend.call(method, path, Some(&*body)).await?;
        self.done(&answer, run.watch).await
    }

    /// Shows a plan and asks; risks that a person has seen and agreed to are accepted. Without a question each has to
    /// be named.
    fn agree_to(&self, plan: &Plan, body: &mut Value, yes: bool, what: &str) -> Result<(), Failure> {
        let open: Vec<&str> = plan.open_risks().map(|risk| risk.name.as_str()).collect();
        if yes && !open.is_empty() {
            let mut names = open;
            names.sort_unstable();
            names.dedup();
            let risks = plan.open_risks().map(|r| format!("  {}: {}", r.name, clean(&r.message)));
            let risks: Vec<String> = risks.collect();
            let (risks, names) = (risks.join("\n"), names.join(","));
            return Err(Failure::usage(format!(
                "risks are not accepted, nothing was changed:\n{risks}\nWhoever knows them adds: --accept {names}"
            )));
        }
        if yes {
            return Ok(());
        }
        tell(plan::plan(plan, &self.look()).trim_end());
        let accepting = if open.is_empty() { "" } else { ", with these risks" };
        if !self.terminal.agrees(&format!("{what} gr {}{accepting}?", plan.gr))? {
            return Err(not_asked_for());
        }
        let accepted: Vec<&str> = plan.risks.iter().map(|risk| risk.name.as_str()).collect();
        if let Some(body) = body.as_object_mut().filter(|_| !accepted.is_empty()) {
            body.insert("accept".to_owned(), json!(accepted));
        }
        Ok(())
    }

    /// Pause, resume, promote, cancel and close.
    pub(super) async fn steer(&self, command: &str, steer: Steer) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let path = format!("/gum/v1/gr/{gr}/{command}");
        // What cannot be taken back is asked for.
        let grave = matches!(command, "cancel" | "close") && !steer.yes;
        self.ordered(&path, &json!({}), steer.dry_run, grave.then(|| format!("{command} it"))).await
    }

    /// Leaves a node out.
    pub(super) async fn skip(
        &self,
        node: &str,
        reason: Option<&str>,
        keep_cordon: bool,
        steer: Steer,
    ) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let mut body = json!({ "reason": reason });
        if let Some(body) = body.as_object_mut().filter(|_| keep_cordon) {
            body.insert("keepCordon".to_owned(), json!(true));
        }
        let path = format!("/gum/v1/gr/{gr}/nodes/{node}/skip");
        self.ordered(&path, &body, steer.dry_run, (!steer.yes).then(|| format!("skip {node}"))).await
    }

    /// Gives a node another try.
    pub(super) async fn retry_node(&self, node: &str, run: Run) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let path = format!("/gum/v1/gr/{gr}/nodes/{node}/retry");
        let exit = self.ordered(&path, &json!({}), run.dry_run, None).await?;
        if !run.watch || run.dry_run { Ok(exit) } else { self.watch(None, false).await }
    }

    /// A command to an upgrade that is under way.
    async fn ordered(
        &self,
        path: &str,
        body: &Value,
        dry_run: bool,
        ask: Option<String>,
    ) -> Result<Exit, Failure> {
        if dry_run || ask.is_some() {
            let dry = self.backend.call(Method::POST, &format!("{path}?dryRun=true"), Some(body)).await?;
            if dry_run {
                self.show(&dry, |dry: Value, _| {
                    format!("{}; nothing was changed (--dry-run)\n", effect(&dry))
                })?;
                return Ok(Exit::Done);
            }
            let name = dry.get("name").and_then(Value::as_str).unwrap_or_default();
            if let Some(what) = ask
                && !self.terminal.agrees(&format!("{name}: {}. {what}?", effect(&dry)))?
            {
                return Err(not_asked_for());
            }
        }
        let answer = self.backend.call(Method::POST, path, Some(body)).await?;
        self.done(&answer, false).await
    }

    /// Says what has been recorded, then waits for its acknowledgement, or for the end.
    async fn done(&self, answer: &Value, watch: bool) -> Result<Exit, Failure> {
        let Some(name) = answer.get("name").and_then(Value::as_str) else {
            // It was done already.
            self.show(answer, |answer: Value, _| {
                format!("{}\n", answer.get("message").and_then(Value::as_str).unwrap_or_default())
            })?;
            return Ok(Exit::Done);
        };
        if !watch || self.global.output != Form::Table {
            self.show(answer, |answer: Value, _| {
                let repeated = answer.get("repeated") == Some(&Value::Bool(true));
                let what =
                    if repeated { "this has been asked for already".to_owned() } else { effect(&answer) };
                format!("gcuupgrade.gum.enflame.com/{name}: {what}\n")
            })?;
        }
        // Whoever watches sees whether anybody acts.
        match (watch, &self.global.output) {
            (false, _) => self.acknowledged(name).await,
            (true, Form::Table | Form::Wide) => self.watch_record(name, false).await,
            // Frames are for people: a program gets the answer, and the end by its code.
            (true, _) => self.wait(Some(name), Until::Finished, None).await,
        }
    }

    /// What the command line asks for.
    async fn asked(&self, job: &Job) -> Result<Asked, Failure> {
        let mut body = job.how.body();
        let mut put = |field: &str, value: Value| {
            if let Some(body) = body.as_object_mut() {
                body.insert(field.to_owned(), value);
            }
        };
        let mut of_blueprint = None;
        if let Some(path) = &job.file {
            let blueprint = own(path)?;
            if let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|name| *name != "-") {
                put("file", json!(name));
            }
            put("manifest", blueprint.manifest().clone());
            of_blueprint = Some(blueprint.name().to_owned());
        } else if let Some(name) = &job.blueprint {
            put("file", json!(name));
            if let Some(blueprint) = self.backend.blueprint(name).await? {
                put("manifest", blueprint.manifest().clone());
                of_blueprint = Some(blueprint.name().to_owned());
            }
        } else if job.set.is_empty() {
            return Err(Failure::usage(
                "to which version? Give a blueprint with -f FILE or --blueprint NAME, or a version with \
                 --set driver.version=X",
            ));
        }
        if !job.set.is_empty() {
            let set: serde_json::Map<String, Value> =
                job.set.iter().map(|(f, v)| (f.clone(), json!(v))).collect();
            put("set", Value::Object(set));
        }
        if !job.components.is_empty() {
            put("components", json!(job.components));
        }
        let gr = match (&self.global.gr, of_blueprint) {
            (None, Some(name)) => name,
            _ => self.gr().await?,
        };
        Ok(Asked { gr, body })
    }
}

fn not_asked_for() -> Failure {
    Failure::new(Exit::Failed, "not done, nothing was changed")
}

/// What a command comes to, in a sentence.
fn effect(answer: &Value) -> String {
    let text = |field: &str| answer.get(field).and_then(Value::as_str).map(str::to_owned);
    text("effect").or_else(|| text("message")).unwrap_or_else(|| "recorded".to_owned())
}

/// The plan of a dry run, and whether anything would change.
fn planned(content: &Value) -> Result<(Plan, bool), Failure> {
    let plan = content.get("plan").ok_or_else(|| Failure::new(Exit::Failed, "the answer has no plan"))?;
    Ok((read(plan)?, content.get("changed") != Some(&Value::Bool(false))))
}

/// A blueprint of one's own, with every mistake by file, line and column.
fn own(path: &Path) -> Result<Blueprint, Failure> {
    let told = |findings: &[Finding]| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    if path.as_os_str() == "-" {
        let (mut bytes, limit) = (Vec::new(), u64::try_from(MAX_FILE).unwrap_or(u64::MAX));
        std::io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        return Blueprint::parse("standard input", &bytes)
            .map_err(|findings| Failure::usage(told(&findings)));
    }
    let (findings, blueprint) = validate(path);
    blueprint.map(|b| (*b).clone()).ok_or_else(|| Failure::usage(told(&findings)))
}
