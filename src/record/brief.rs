//! A record as those read it who only have to know whose it is and whether it has ended: without manifests and nodes,
//! and legible whatever else stands in it.

use kube::api::ApiResource;
use kube::core::{DeserializeGuard, Object};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::Value;

use super::{FINALIZER, GcuUpgrade, Phase, number_of};

/// A record without what it is about.
#[derive(Clone, Debug)]
pub struct Brief {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Option<String>,
    /// The gr; `None` when that cannot be read.
    pub gr: Option<String>,
    /// It has ended, and nothing is left to be done for it. What cannot be read may be a newer version's, and active.
    pub ended: bool,
    /// Its phase is final.
    pub is_final: bool,
}

/// What is decoded of it.
pub type Glimpse = DeserializeGuard<Object<Spec, Status>>;

/// What is read of `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Spec {
    #[serde(default)]
    gr: Value,
}

/// What is read of `status`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    #[serde(default)]
    phase: Value,
}

/// Lists them.
pub fn api(client: &Client) -> Api<Glimpse> {
    Api::all_with(client.clone(), &ApiResource::erase::<GcuUpgrade>(&()))
}

impl From<Glimpse> for Brief {
    fn from(seen: Glimpse) -> Self {
        let (name, uid) = (seen.name_any(), seen.uid());
        let held = seen.finalizers().iter().any(|f| f == FINALIZER);
        let (gr, phase) = match seen.0 {
            Ok(Object { spec, status, .. }) => (spec.gr, status.map(|s| s.phase).unwrap_or_default()),
            Err(_) => (Value::Null, Value::Null),
        };
        let is_final = Phase::deserialize(phase).is_ok_and(Phase::is_final);
        Self { name, uid, gr: gr.as_str().map(str::to_owned), ended: is_final && !held, is_final }
    }
}

impl Brief {
    /// The number `n` of a record named `<gr>-<n>`; 0 for one named otherwise by hand.
    pub fn number(&self) -> u64 {
        number_of(self.gr.as_deref().unwrap_or_default(), &self.name).unwrap_or_default()
    }
}
