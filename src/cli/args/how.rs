//! How an upgrade is made, as options.

use clap::Args;
use serde_json::{Value, json};

use crate::explain::risk::RiskName;

/// How an upgrade is made. What is not given is as the service has it by default.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct How {
    /// Recreate or RollingUpdate; an option of a RollingUpdate means that too
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = ["Recreate", "RollingUpdate"])]
    pub strategy: Option<String>,
    /// RollingUpdate: so many nodes at once, or such a percentage
    #[arg(long, value_name = "N|%")]
    pub max_unavailable: Option<String>,
    /// RollingUpdate: these first, then wait for promote: a number, a percentage, or labels
    #[arg(long, value_name = "N|%|LABELS")]
    pub canary: Option<String>,
    /// RollingUpdate: every step waits for promote
    #[arg(long)]
    pub manual: bool,
    /// RollingUpdate: time between steps, such as 10m
    #[arg(long, value_name = "TIME")]
    pub pause_between: Option<String>,
    /// RollingUpdate: how long a node's new pods have to be ready, such as 1m; 0 for no time
    #[arg(long, value_name = "TIME")]
    pub min_ready: Option<String>,
    /// RollingUpdate: only nodes with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub node_selector: Option<String>,
    /// RollingUpdate: a file with what a request has as rollingUpdate; options beside it are added
    #[arg(long, value_name = "FILE", value_parser = crate::cli::input::object)]
    pub rolling_update: Option<Value>,
    /// RollingUpdate: do not evict pods that hold a GCU
    #[arg(long)]
    pub no_drain: bool,
    /// RollingUpdate: how long emptying a node may take
    #[arg(long, value_name = "TIME")]
    pub drain_timeout: Option<String>,
    /// RollingUpdate: what then: Hold, Skip or Force
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = ["Hold", "Skip", "Force"])]
    pub on_drain_timeout: Option<String>,
    /// Stop when so many nodes have failed
    #[arg(long, value_name = "N|%")]
    pub failure_threshold: Option<String>,
    /// When a component cannot start: Hold or Rollback
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = ["Hold", "Rollback"])]
    pub on_failure: Option<String>,
    /// A risk that is known and accepted, by the name that the plan gives it; may be given several times
    #[arg(long, value_name = "RISK", ignore_case = true, value_delimiter = ',')]
    pub accept: Vec<RiskName>,
    /// Why; kept in the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Maintenance windows: a file with what a request has as `maintenance`
    #[arg(long, value_name = "FILE", value_parser = crate::cli::input::object)]
    pub maintenance: Option<Value>,
    /// Take nodes outside of maintenance windows too, and say why
    #[arg(long, value_name = "REASON")]
    pub override_window: Option<String>,
    /// Do it though nothing would change
    #[arg(long)]
    pub force: bool,
}

impl How {
    /// As the body of a request.
    pub(in crate::cli) fn body(&self) -> Value {
        let mut body = json!({});
        let mut rolling = self.rolling_update.clone().unwrap_or_else(|| json!({}));
        let put = |object: &mut Value, field: &str, value: Value| {
            if let Some(object) = object.as_object_mut() {
                object.insert(field.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.as_ref().map(|t| json!(t));
        let amount =
            |text: &Option<String>| text.as_ref().map(|t| t.parse::<u32>().map_or(json!(t), |n| json!(n)));
        let mut drain = rolling.get("drain").cloned().unwrap_or_else(|| json!({}));
        for (field, value) in [
            ("enabled", self.no_drain.then_some(json!(false))),
            ("timeout", text(&self.drain_timeout)),
            ("onTimeout", text(&self.on_drain_timeout)),
        ] {
            value.into_iter().for_each(|value| put(&mut drain, field, value));
        }
        let is_rolling = self.strategy.as_deref() == Some("RollingUpdate") || self.says_rolling();
        for (field, value) in [
            ("maxUnavailable", amount(&self.max_unavailable)),
            ("canary", amount(&self.canary)),
            ("manual", self.manual.then_some(json!(true))),
            ("pauseBetween", text(&self.pause_between)),
            ("minReadySeconds", text(&self.min_ready)),
            ("nodeSelector", text(&self.node_selector)),
            ("drain", Some(drain.clone()).filter(|d| *d != json!({}))),
            ("failureThreshold", amount(&self.failure_threshold).filter(|_| is_rolling)),
        ] {
            value.into_iter().for_each(|value| put(&mut rolling, field, value));
        }
        let strategy =
            self.strategy.clone().or_else(|| self.says_rolling().then(|| "RollingUpdate".to_owned()));
        for (field, value) in [
            ("strategy", text(&strategy)),
            ("rollingUpdate", Some(rolling.clone()).filter(|r| *r != json!({}))),
            ("failureThreshold", amount(&self.failure_threshold).filter(|_| !is_rolling)),
            ("onFailure", text(&self.on_failure)),
            ("accept", Some(json!(self.accept)).filter(|_| !self.accept.is_empty())),
            ("reason", text(&self.reason)),
            ("maintenance", self.maintenance.clone()),
            ("overrideWindow", text(&self.override_window)),
            ("force", self.force.then_some(json!(true))),
        ] {
            value.into_iter().for_each(|value| put(&mut body, field, value));
        }
        body
    }

    fn says_rolling(&self) -> bool {
        let texts =
            [&self.max_unavailable, &self.canary, &self.pause_between, &self.min_ready, &self.node_selector];
        let drains = [&self.drain_timeout, &self.on_drain_timeout];
        self.manual
            || self.no_drain
            || self.rolling_update.is_some()
            || texts.iter().chain(&drains).any(|t| t.is_some())
    }
}
