//! The verbs that only look.

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::{Session, read, tell};
use crate::frame::view::{Nodes, Rolling, Upgrade, Why, is_final};
use crate::frame::{self, status::Status};
use crate::plan::impact;

impl Session {
    /// Upgrades, newest first, or one of them.
    pub(super) async fn list(&self, name: Option<&str>) -> Result<Exit, Failure> {
        let Some(name) = name else {
            let (all, nobody) = tokio::join!(self.backend.get("/gum/v1/upgrades"), self.nobody_acts());
            let mut all = all?;
            if let (Some(gr), Some(list)) = (&self.global.gr, all.as_array_mut()) {
                list.retain(|one| one.get("gr").and_then(Value::as_str) == Some(gr));
            }
            if all.as_array().is_some_and(Vec::is_empty) && self.global.output.is_drawn() {
                tell("No upgrades on record. To see what one would do: kubectl gcu-upgrade plan --help");
                return Ok(Exit::Done);
            }
            let is_active =
                |one: &Value| one.get("phase").and_then(Value::as_str).is_some_and(|p| !is_final(p));
            if let Some(nobody) =
                nobody.filter(|_| all.as_array().is_some_and(|all| all.iter().any(is_active)))
            {
                tell(&format!("warning: {nobody}"));
            }
            self.show(&all, |all: Vec<Upgrade>, look| frame::list::upgrades(&all, look))?;
            return Ok(Exit::Done);
        };
        let name = self.record(Some(name)).await?;
        let one = self.backend.get(&format!("/gum/v1/upgrades/{name}")).await?;
        self.show(&one, |one: Upgrade, look| frame::list::upgrades(&[one], look))?;
        Ok(Exit::Done)
    }

    /// How far an upgrade is.
    pub(super) async fn status(&self, name: Option<&str>, all: bool) -> Result<Exit, Failure> {
        let name = self.record(name).await?;
        let content = self.backend.get(&format!("/gum/v1/upgrades/{name}")).await?;
        if let Some(text) = self.global.output.of(&content)? {
            super::say(&text)?;
            return Ok(Exit::Done);
        }
        let upgrade: Upgrade = read(&content)?;
        let (status, nobody) = tokio::join!(self.looked_at(upgrade, all), self.nobody_acts());
        let mut status = status;
        status.notes.extend(nobody.filter(|_| !status.upgrade.is_final()));
        super::say(&frame::status::status(&status, &frame::Look { all, ..self.look() }))?;
        Ok(Exit::Done)
    }

    /// An upgrade with what its nodes do: looked up where that is allowed, else as the record has it.
    pub(super) async fn looked_at(&self, upgrade: Upgrade, all: bool) -> Status {
        let mut status = Status { upgrade, ..Status::default() };
        if status.upgrade.is_final() {
            return status;
        }
        let gr = status.upgrade.gr.clone();
        match self.backend.get(&format!("/gum/v1/gr/{gr}/why")).await.and_then(|why| read::<Why>(&why)) {
            // Another upgrade may have begun meanwhile.
            Ok(why) if why.name.as_deref() == Some(&status.upgrade.name) => status.why = why,
            Ok(_) => {}
            Err(failure) => {
                status.notes.push(format!("what the nodes do is as the record has it: {}", failure.message))
            }
        }
        let shown = if all { usize::MAX } else { frame::status::SHOWN };
        let swapping = status.why.nodes.iter().take(shown).any(|n| n.stage == "Swapping");
        if swapping
            && let Ok(content) = self.backend.get(&format!("/gum/v1/gr/{gr}/nodes")).await
            && let Ok(nodes) = read::<Nodes>(&content)
        {
            status.pods = nodes.nodes.into_iter().map(|node| (node.node.clone(), node)).collect();
        }
        status
    }

    /// Why an upgrade, or one node, is not getting on.
    pub(super) async fn why(&self, node: Option<&str>) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let path = format!("/gum/v1/gr/{gr}/why");
        let (content, nobody) = tokio::join!(self.backend.get(&path), self.nobody_acts());
        let content = match content {
            Ok(content) => content,
            Err(failure) if failure.exit == Exit::NotAllowed => self.why_of_record(failure).await?,
            Err(failure) => return Err(failure),
        };
        let why: Why = read(&content)?;
        if let Some(node) = node.filter(|node| !frame::why::names(&why, node)) {
            // Perhaps there is no such node; else nobody works on it.
            self.backend.get(&format!("/gum/v1/gr/{gr}/nodes?node={node}")).await?;
            let message = format!("node {node} is neither in work nor left out: {}", why.message);
            tell(&message);
        }
        self.show(&content, |why: Why, look| frame::why::why(&why, node, look))?;
        if let Some(nobody) = nobody.filter(|_| why.name.is_some()) {
            tell(&format!("warning: {nobody}"));
        }
        Ok(Exit::Done)
    }

    /// What the record alone tells, for whoever may not look at nodes and pods.
    async fn why_of_record(&self, forbidden: Failure) -> Result<Value, Failure> {
        let name = self.record(None).await?;
        let record = self.backend.get(&format!("/gum/v1/upgrades/{name}")).await?;
        tell(&format!("warning: what the nodes do is as the record has it: {}", forbidden.message));
        let upgrade: Upgrade = read(&record)?;
        let rolling: Rolling = upgrade.rolling.unwrap_or_default();
        let nodes: Vec<Value> = Why::of_record(&rolling)
            .nodes
            .iter()
            .map(|n| {
                json!({
                    "node": n.node, "stage": n.stage, "message": n.message,
                    "since": n.since, "until": n.until, "trouble": n.trouble,
                })
            })
            .collect();
        let waiting = upgrade.waiting_on.map(|w| w.message).unwrap_or(upgrade.message);
        let message = format!("{name} is {}: {waiting}", upgrade.phase);
        Ok(json!({ "name": name, "message": message, "nodes": nodes, "skipped": [] }))
    }

    /// What runs on every node.
    pub(super) async fn nodes(&self, node: Option<&str>) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let path = match node {
            Some(node) => format!("/gum/v1/gr/{gr}/nodes?node={node}&all=true"),
            None => format!("/gum/v1/gr/{gr}/nodes"),
        };
        let why = format!("/gum/v1/gr/{gr}/why");
        let (nodes, why) = tokio::join!(self.backend.get(&path), self.backend.get(&why));
        let why: Why = why.and_then(|why| read(&why)).unwrap_or_default();
        self.show(&nodes?, |nodes: Nodes, look| {
            let mut text = frame::nodes::nodes(&nodes, &why, look);
            if let (Some(_), [one]) = (node, nodes.nodes.as_slice()) {
                text.push_str(&frame::nodes::pods(one, look));
            }
            text
        })?;
        Ok(Exit::Done)
    }

    /// The revisions, one of them, or how two differ.
    pub(super) async fn history(&self, revision: Option<u64>, diff: Option<u64>) -> Result<Exit, Failure> {
        let gr = self.gr().await?;
        let Some(number) = revision else {
            let all = self.backend.get(&format!("/gum/v1/gr/{gr}/history")).await?;
            self.show(&all, |all: Vec<Upgrade>, look| frame::history::revisions(&all, look))?;
            return Ok(Exit::Done);
        };
        let path = |number| format!("/gum/v1/gr/{gr}/history/{number}");
        let one = self.backend.get(&path(number)).await?;
        let Some(other) = diff else {
            self.show(&one, |one: Upgrade, look| frame::history::revision(&one, look))?;
            return Ok(Exit::Done);
        };
        let other = self.backend.get(&path(other)).await?;
        let manifest = |of: &Value| of.get("target").cloned().unwrap_or_default();
        let changes = impact::changes(&manifest(&other), &manifest(&one));
        self.show(&json!(changes), |_: Value, look| frame::history::differences(&changes, look))?;
        Ok(Exit::Done)
    }
}
