//! The body's `rollingUpdate`: what callers write, made into the record's own type with every default filled in.

mod canary;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::{Seconds, SecondsOrNone, is_label_key};
use crate::record::rolling::{
    Amount, Asked, Breaker, Drain, Gangs, Labels, NoRestartLeft, OnTimeout, Order, RollingUpdate, TooBig,
    WaitForJobs,
};
use canary::CanaryBody;

/// How a RollingUpdate proceeds. BCS's names `rollingManually` and `upgradeDuration` are taken too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = with_aliases)]
pub(super) struct RollingBody {
    /// A number of nodes, or a percentage of those concerned (rounded down, at least 1), at once; by default 1,
    /// never more than 1000.
    max_unavailable: Option<Asked>,
    /// These nodes first, then wait for `promote`.
    canary: Option<CanaryBody>,
    /// The sizes of the steps after the canary, at most 16; the last one repeats. By default `maxUnavailable` nodes,
    /// and no steps at all without `manual` and `pauseBetween`.
    #[schemars(length(max = 16))]
    batches: Vec<Asked>,
    /// Every step waits for `promote`.
    #[serde(alias = "rollingManually")]
    manual: Option<bool>,
    /// So long between every two steps.
    #[serde(alias = "upgradeDuration")]
    pause_between: Option<Seconds>,
    /// How long a node's new pods have to be ready before the node counts as done; by default 10s, `0` for no time.
    min_ready_seconds: Option<SecondsOrNone>,
    /// Only nodes with these labels.
    node_selector: Option<Selector>,
    /// Which nodes come first; by default IdleFirst.
    order: Option<Order>,
    /// With the order Topology: the label by whose values nodes come one group after the other; by default
    /// topology.kubernetes.io/zone.
    #[schemars(length(max = 317))]
    topology_key: Option<String>,
    /// How a node is emptied before a component restarts that its users cannot live through.
    drain: DrainBody,
    /// These pods of a node may end before it is drained.
    wait_for_jobs: Option<JobsBody>,
    /// How jobs on several nodes are treated that are restarted as a whole.
    gangs: GangsBody,
    /// The rollout stops when this number or percentage of nodes has failed or is late; by default 1.
    failure_threshold: Option<Asked>,
    /// Stops the rollout earlier when several nodes fail in the same way.
    breaker: Option<BreakerBody>,
}

/// serde knows the other names, and schemars does not.
fn with_aliases(schema: &mut Schema) {
    let Some(fields) = schema.get_mut("properties").and_then(|p| p.as_object_mut()) else { return };
    for (alias, field) in [("rollingManually", "manual"), ("upgradeDuration", "pauseBetween")] {
        if let Some(mut same) = fields.get(field).cloned() {
            if let Some(same) = same.as_object_mut() {
                same.insert("description".to_owned(), format!("Another name for `{field}`.").into());
            }
            fields.insert(alias.to_owned(), same);
        }
    }
}

/// How a node is emptied.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DrainBody {
    /// Evict the pods that hold a GCU; by default true.
    enabled: Option<bool>,
    /// How long that may take; by default 30m.
    timeout: Option<Seconds>,
    /// What then; by default Hold.
    on_timeout: Option<OnTimeout>,
    /// Evict pods with these labels too.
    pod_selector: Option<Selector>,
    /// Evict pods though what they keep in emptyDir volumes on disk is lost; by default false.
    delete_empty_dir_data: Option<bool>,
}

/// Pods that may end first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobsBody {
    /// Pods with these labels.
    selector: Selector,
    /// For so long, then they are drained like others; by default 1h.
    timeout: Option<Seconds>,
}

/// How jobs on several nodes are treated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GangsBody {
    /// Take all nodes of a gang together; by default true.
    enabled: Option<bool>,
    /// What happens to a gang on more nodes than `maxUnavailable`; by default Wait.
    too_big: Option<TooBig>,
    /// What happens to a gang that would not survive another restart; by default Wait.
    no_restart_left: Option<NoRestartLeft>,
    /// Further label keys whose value names a gang, at most 16.
    #[schemars(length(max = 16), inner(length(min = 1, max = 317)))]
    keys: Vec<String>,
}

/// When nodes that fail in the same way stop a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BreakerBody {
    /// When so many do, from 2 to 10.
    #[schemars(range(min = 2, max = 10))]
    same_cause: u32,
}

impl BreakerBody {
    fn resolve(&self, threshold: Amount) -> Result<Breaker, String> {
        match self.same_cause {
            number if matches!(threshold, Amount::Number(limit) if limit < number) => Err(format!(
                "rollingUpdate.breaker.sameCause: {number}, and failureThreshold {threshold} stops the rollout before \
                 so many nodes fail: raise failureThreshold"
            )),
            2..=10 => Ok(Breaker { same_cause: self.same_cause }),
            number => Err(format!(
                "rollingUpdate.breaker.sameCause: {number}, and it can be from 2 to 10: failureThreshold is for other \
                 numbers"
            )),
        }
    }
}

impl GangsBody {
    fn resolve(&self) -> Result<Gangs, String> {
        let usual = Gangs::default();
        let enabled = self.enabled.unwrap_or(usual.enabled);
        if !enabled && (self.too_big.is_some() || self.no_restart_left.is_some() || !self.keys.is_empty()) {
            return Err(
                "rollingUpdate.gangs: enabled is false, and the other fields say how gangs are treated: \
                        leave out one or the other"
                    .to_owned(),
            );
        }
        if self.keys.len() > GANG_KEYS {
            return Err(format!(
                "rollingUpdate.gangs.keys: {} keys, and at most {GANG_KEYS} are looked for",
                self.keys.len()
            ));
        }
        if let Some(key) = self.keys.iter().find(|key| !is_label_key(key)) {
            return Err(format!(
                "rollingUpdate.gangs.keys: {key:?} is no label key: write it as it stands on the pods, such as \
                 ray.io/cluster"
            ));
        }
        Ok(Gangs {
            enabled,
            too_big: self.too_big.unwrap_or_default(),
            no_restart_left: self.no_restart_left.unwrap_or_default(),
            keys: self.keys.clone(),
        })
    }
}

/// So many sizes of steps are kept.
const BATCHES: usize = 16;

/// So many further keys may name gangs.
const GANG_KEYS: usize = 16;

/// How long jobs are waited for unless the caller says otherwise: an hour.
const JOBS_TIMEOUT: u32 = 3600;

/// Labels: `{"pool": "a"}` or `"pool=a,zone=b"`.
#[derive(Debug)]
pub(super) struct Selector(pub(super) Labels);

impl RollingBody {
    /// Whether it says how many nodes may fail.
    pub(super) fn has_failure_threshold(&self) -> bool {
        self.failure_threshold.is_some()
    }

    /// With every default filled in.
    ///
    /// # Errors
    /// The first combination that makes no sense, by field.
    pub(super) fn resolve(&self) -> Result<RollingUpdate, String> {
        let usual = RollingUpdate::default();
        let drain = Drain {
            enabled: self.drain.enabled.unwrap_or(usual.drain.enabled),
            timeout_seconds: self.drain.timeout.map_or(usual.drain.timeout_seconds, |s| s.0),
            on_timeout: self.drain.on_timeout.unwrap_or_default(),
            pod_selector: self.drain.pod_selector.as_ref().map(|s| s.0.clone()).unwrap_or_default(),
            delete_empty_dir_data: self.drain.delete_empty_dir_data.unwrap_or_default(),
        };
        let asks = self.drain.timeout.is_some()
            || self.drain.on_timeout.is_some()
            || self.drain.pod_selector.is_some()
            || self.drain.delete_empty_dir_data.is_some();
        if !drain.enabled && asks {
            return Err(
                "rollingUpdate.drain: enabled is false, and the other fields say how to drain: leave \
                        out one or the other"
                    .to_owned(),
            );
        }
        let manual = self.manual.unwrap_or_default();
        if manual && self.pause_between.is_some() {
            return Err(
                "rollingUpdate: manual waits for a person and pauseBetween for time: ask for one of them"
                    .to_owned(),
            );
        }
        if self.batches.len() > BATCHES {
            return Err(format!(
                "rollingUpdate.batches: {} sizes, and at most {BATCHES} are kept",
                self.batches.len()
            ));
        }
        let order = self.order.unwrap_or_default();
        let threshold = self.failure_threshold.map_or(usual.failure_threshold, |a| a.0);
        Ok(RollingUpdate {
            max_unavailable: self.max_unavailable.map_or(usual.max_unavailable, |a| a.0),
            canary: self.canary.as_ref().map(|canary| canary.resolve(manual)).transpose()?,
            batches: self.batches.iter().map(|size| size.0).collect(),
            manual,
            pause_between_seconds: self.pause_between.map_or(0, |s| s.0),
            min_ready_seconds: self.min_ready_seconds.map_or(usual.min_ready_seconds, |s| s.0.0),
            node_selector: self.node_selector.as_ref().map(|s| s.0.clone()).unwrap_or_default(),
            order,
            topology_key: self.topology_key(order)?,
            drain,
            wait_for_jobs: self.wait_for_jobs.as_ref().map(|jobs| WaitForJobs {
                selector: jobs.selector.0.clone(),
                timeout_seconds: jobs.timeout.map_or(JOBS_TIMEOUT, |s| s.0),
            }),
            gangs: self.gangs.resolve()?,
            failure_threshold: threshold,
            breaker: self.breaker.as_ref().map(|b| b.resolve(threshold)).transpose()?,
        })
    }

    fn topology_key(&self, order: Order) -> Result<Option<String>, String> {
        let Some(key) = &self.topology_key else { return Ok(None) };
        if order != Order::Topology {
            return Err(
                "rollingUpdate.topologyKey: it is for the order Topology: ask for that too".to_owned()
            );
        }
        if !is_label_key(key) {
            return Err(format!(
                "rollingUpdate.topologyKey: {key:?} is no label key: write it as it stands on the nodes, such as \
                 topology.kubernetes.io/zone"
            ));
        }
        Ok(Some(key.clone()))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SelectorVisitor)
    }
}

impl JsonSchema for Selector {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pair = r"[^=,!(]*[^=,!(\s][^=,!(]*=[^,]*";
        json_schema!({
            "description": "Labels that all have to be there, as an object or as text.",
            "anyOf": [
                { "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1 },
                { "type": "string", "pattern": format!("^{pair}(,{pair})*$") },
            ],
            "examples": [{ "pool": "a" }, "pool=a,zone=b"],
        })
    }
}

struct SelectorVisitor;

impl<'de> Visitor<'de> for SelectorVisitor {
    type Value = Selector;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("labels such as {\"app\": \"x\"} or \"app=x,tier=y\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Selector, E> {
        labels(text).map(Selector).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selector, A::Error> {
        not_empty(Labels::deserialize(MapAccessDeserializer::new(map))?).map(Selector)
    }
}

fn not_empty<E: Error>(labels: Labels) -> Result<Labels, E> {
    if labels.is_empty() {
        Err(E::custom("a selector without labels would select everything"))
    } else {
        Ok(labels)
    }
}

/// Parses `a=b,c=d`.
fn labels(text: &str) -> Option<Labels> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let (key, value) = (key.trim(), value.trim_start_matches('=').trim());
        (!key.is_empty() && !key.contains(['!', '('])).then(|| (key.to_owned(), value.to_owned()))
    };
    text.split(',').map(pair).collect::<Option<Labels>>().filter(|l| !l.is_empty())
}
