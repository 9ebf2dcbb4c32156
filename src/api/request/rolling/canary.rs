//! The nodes that come first, as callers write them: a number, a percentage, labels, or an object that says more.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::super::{Seconds, is_label_key};
use super::{Selector, labels, not_empty};
use crate::record::rolling::{Amount, Asked, Canary, Coverage, Labels, Promote};

/// So many keys tell nodes apart.
const KEYS: usize = 8;
/// So many nodes of each class are tried at most.
const PER_CLASS: u32 = 10;
/// An object with one of these is no object of labels.
const FIELDS: [&str; 5] = ["nodes", "nodeSelector", "coverage", "promote", "soak"];

/// The nodes that come first.
#[derive(Debug)]
pub(super) struct CanaryBody(CanaryObject);

/// The nodes that come first, and who lets the rollout go on after them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
struct CanaryObject {
    /// A number of nodes, or a percentage of those concerned.
    nodes: Option<Asked>,
    /// Nodes with these labels.
    node_selector: Option<Selector>,
    /// The smallest set of nodes in which every class of nodes is tried.
    coverage: Option<CoverageBody>,
    /// Who lets the rollout go on after these nodes; by default Manual.
    promote: Option<Promote>,
    /// With AfterSoak: how long their pods have to have been ready.
    soak: Option<Seconds>,
}

/// Which kinds of node are to be tried first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CoverageBody {
    /// What tells nodes apart, from 1 to 8: `kernelVersion`, `osImage`, `containerRuntimeVersion`, `kubeletVersion`,
    /// `architecture`, or the key of a label.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 317)))]
    keys: Vec<String>,
    /// So many nodes of each class, from 1 to 10; by default 1.
    #[schemars(range(min = 1, max = 10))]
    per_class: Option<u32>,
}

impl CanaryBody {
    /// As the record has it.
    ///
    /// # Errors
    /// What makes no sense, by field.
    pub(super) fn resolve(&self, manual: bool) -> Result<Canary, String> {
        let object = &self.0;
        let said = [object.nodes.is_some(), object.node_selector.is_some(), object.coverage.is_some()];
        if said.iter().filter(|said| **said).count() != 1 {
            return Err(
                "rollingUpdate.canary: say which nodes come first with one of nodes, nodeSelector and coverage"
                    .to_owned(),
            );
        }
        let promote = object.promote.unwrap_or_default();
        match (promote, object.soak) {
            (Promote::AfterSoak, None) => {
                return Err("rollingUpdate.canary.soak: AfterSoak needs a time, such as 30m".to_owned());
            }
            (Promote::Manual, Some(_)) => {
                return Err("rollingUpdate.canary.soak: it is for AfterSoak: ask for that too".to_owned());
            }
            (Promote::AfterSoak, _) if manual => {
                return Err(
                    "rollingUpdate: manual waits for a person after every step, and canary.promote AfterSoak for \
                     time: ask for one of them"
                        .to_owned(),
                );
            }
            _ => {}
        }
        Ok(Canary {
            nodes: object.nodes.map(|nodes| nodes.0),
            node_selector: object.node_selector.as_ref().map(|s| s.0.clone()).unwrap_or_default(),
            coverage: object.coverage.as_ref().map(CoverageBody::resolve).transpose()?,
            promote,
            soak_seconds: object.soak.map_or(0, |soak| soak.0),
        })
    }

    fn of(asked: Asked) -> Self {
        Self(CanaryObject { nodes: Some(asked), ..CanaryObject::default() })
    }

    fn with(labels: Labels) -> Self {
        Self(CanaryObject { node_selector: Some(Selector(labels)), ..CanaryObject::default() })
    }
}

impl CoverageBody {
    fn resolve(&self) -> Result<Coverage, String> {
        let field = "rollingUpdate.canary.coverage";
        if self.keys.is_empty() || self.keys.len() > KEYS {
            return Err(format!("{field}.keys: {} keys, and it can be from 1 to {KEYS}", self.keys.len()));
        }
        if let Some(key) = self.keys.iter().find(|key| !is_label_key(key)) {
            return Err(format!(
                "{field}.keys: {key:?} is neither a field of a node's nodeInfo, such as kernelVersion, nor a label \
                 key, such as topology.kubernetes.io/zone"
            ));
        }
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < self.keys.len() {
            return Err(format!("{field}.keys: a key is there twice"));
        }
        let per_class = self.per_class.unwrap_or(1);
        if !(1..=PER_CLASS).contains(&per_class) {
            return Err(format!("{field}.perClass: {per_class}, and it can be from 1 to {PER_CLASS}"));
        }
        Ok(Coverage { keys: self.keys.clone(), per_class })
    }
}

impl<'de> Deserialize<'de> for CanaryBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CanaryVisitor)
    }
}

impl JsonSchema for CanaryBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CanaryNodes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of nodes, a percentage of those concerned, the labels of nodes, or an object \
                that says more.",
            "anyOf": [
                generator.subschema_for::<Amount>(),
                generator.subschema_for::<CanaryObject>(),
                generator.subschema_for::<Selector>(),
            ],
            "examples": [
                1,
                "10%",
                { "pool": "canary" },
                { "coverage": { "keys": ["kernelVersion"] }, "promote": "AfterSoak", "soak": "30m" },
            ],
        })
    }
}

struct CanaryVisitor;

impl<'de> Visitor<'de> for CanaryVisitor {
    type Value = CanaryBody;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "a number of nodes such as 1, a percentage such as \"10%\", or the labels of nodes such as \
                     {\"pool\": \"canary\"}",
        )
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<CanaryBody, E> {
        Asked::deserialize(number.into_deserializer()).map(CanaryBody::of)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<CanaryBody, E> {
        Asked::deserialize(number.into_deserializer()).map(CanaryBody::of)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CanaryBody, E> {
        if Amount::parse(text).is_some() {
            return Asked::deserialize(text.into_deserializer()).map(CanaryBody::of);
        }
        match labels(text) {
            Some(labels) => Ok(CanaryBody::with(labels)),
            None => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CanaryBody, A::Error> {
        let object = Map::deserialize(MapAccessDeserializer::new(map))?;
        if object.keys().any(|key| FIELDS.contains(&key.as_str())) {
            return CanaryObject::deserialize(Value::Object(object))
                .map(CanaryBody)
                .map_err(A::Error::custom);
        }
        let labels = Labels::deserialize(Value::Object(object)).map_err(A::Error::custom)?;
        Ok(CanaryBody::with(not_empty(labels)?))
    }
}
