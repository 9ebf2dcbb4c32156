//! The records as the API reads them. One that this version cannot read (another version's, or written while the CRD's
//! schema was off) harms no other: lists show it, and only calls about its own gr are refused, for it may be active.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Context;
use super::envelope::ApiError;
use crate::cluster::each;
use crate::explain::schema::never_null;
use crate::plan::preflight::{self, records_of};
use crate::record::{FINALIZER, GcuUpgrade, Phase, in_whole_seconds, number_of};
use crate::store::StoredRecord;

/// A record, or what is known of one that cannot be read.
///
/// kube's `DeserializeGuard` does the same, but forgets whose record it was.
#[derive(Clone, Debug)]
pub(super) struct Lenient(pub(super) Result<GcuUpgrade, Unreadable>);

/// A record that this version cannot read.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    metadata: ObjectMeta,
    /// `spec.gr`, where at least that can be read.
    gr: Option<String>,
    /// Its phase is final and nothing is left to be done for it.
    ended: bool,
    error: String,
}

/// A record that this version cannot read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct UnreadableUpgrade {
    /// The record.
    name: String,
    /// Its gr, where at least that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    gr: Option<String>,
    /// Tells it from one that can be read.
    #[schemars(extend("enum" = [true]))]
    unreadable: bool,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<Timestamp>,
    /// What of it cannot be read.
    message: String,
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        value.get_mut("status").into_iter().for_each(in_whole_seconds);
        Ok(Self(GcuUpgrade::deserialize(&value).map_err(|error| Unreadable::of(&value, error.to_string()))))
    }
}

impl Resource for Lenient {
    type DynamicType = ();
    type Scope = <GcuUpgrade as Resource>::Scope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        GcuUpgrade::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        GcuUpgrade::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        GcuUpgrade::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        GcuUpgrade::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, |record| &record.metadata)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, |record| &mut record.metadata)
    }
}

impl Lenient {
    /// What a watch has shown of a record.
    ///
    /// # Errors
    /// That it is no object, which no watch shows.
    pub(super) fn of(stored: &StoredRecord) -> Result<Self, ApiError> {
        let internal = |error| {
            let message = format!("a record cannot be read: {error}");
            ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, message)
        };
        stored.read().map_err(internal)
    }

    /// The gr that the record is about; `None` when it does not say so legibly. Its name does not count: anybody who
    /// may create records chooses it.
    pub(super) fn gr(&self) -> Option<&str> {
        match &self.0 {
            Ok(record) => Some(&record.spec.gr),
            Err(unreadable) => unreadable.gr.as_deref(),
        }
    }
}

impl Unreadable {
    fn of(value: &Value, error: String) -> Self {
        let metadata = value.get("metadata").map(ObjectMeta::deserialize);
        let metadata = metadata.and_then(Result::ok).unwrap_or_else(|| ObjectMeta {
            name: value.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned),
            ..ObjectMeta::default()
        });
        let held = metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
        let phase = value.pointer("/status/phase").and_then(|phase| Phase::deserialize(phase).ok());
        Self {
            gr: value.pointer("/spec/gr").and_then(Value::as_str).map(str::to_owned),
            ended: !held && phase.is_some_and(Phase::is_final),
            metadata,
            error,
        }
    }

    /// Its number under this gr: `None` when it is another gr's. One that does not say whose it is may be that of
    /// the gr which its name speaks of.
    fn number(&self, gr: &str) -> Option<u64> {
        if self.gr.as_deref().is_some_and(|of| of != gr) {
            return None;
        }
        let number = number_of(gr, self.name());
        if self.gr.is_some() { Some(number.unwrap_or_default()) } else { number }
    }

    /// Its UID.
    pub(super) fn uid(&self) -> Option<&String> {
        self.metadata.uid.as_ref()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// As an entry of a list.
    pub(super) fn view(&self) -> UnreadableUpgrade {
        UnreadableUpgrade {
            name: self.name().to_owned(),
            gr: self.gr.clone(),
            unreadable: true,
            requested_at: self.metadata.creation_timestamp.as_ref().map(|at| at.0),
            message: format!("this version cannot read the record: {}", self.error),
        }
    }

    /// What is answered where the record would have to be read.
    pub(super) fn refusal(&self) -> ApiError {
        let (name, version) = (self.name(), env!("CARGO_PKG_VERSION"));
        ApiError::new(
            axum::http::StatusCode::CONFLICT,
            format!(
                "the record {name} cannot be read by this version ({version}), and may be of an upgrade \
                 that is under way: {}. Look at it with: kubectl get gcuupgrade {name} -o yaml; correct it \
                 with: kubectl edit gcuupgrade {name}; or, if nothing of it is under way, take its \
                 finalizer off in the same way and delete it with: kubectl delete gcuupgrade {name}",
                self.error
            ),
        )
    }
}

/// The records of one gr.
pub(super) struct Records {
    /// Newest first.
    pub(super) readable: Vec<GcuUpgrade>,
    /// With their numbers, newest first.
    pub(super) unreadable: Vec<(u64, Unreadable)>,
}

impl Records {
    fn of(gr: &str, all: Vec<Lenient>) -> Self {
        let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
        for record in all {
            match record.0 {
                Ok(record) => readable.push(record),
                Err(other) => unreadable.extend(other.number(gr).map(|number| (number, other))),
            }
        }
        unreadable.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        Self { readable: records_of(gr, readable), unreadable }
    }

    /// The record that cannot be read and has to be, before anything is decided: the newest, or one that may be
    /// active while no other is.
    pub(super) fn in_the_way(&self) -> Option<&Unreadable> {
        let newest = self.readable.first().map(GcuUpgrade::number);
        let active = preflight::active(&self.readable).is_some();
        let in_the_way = |(number, record): &&(u64, Unreadable)| {
            newest.is_none_or(|newest| *number > newest) || (!record.ended && !active)
        };
        self.unreadable.iter().find(in_the_way).map(|(_, record)| record)
    }

    /// Those that can be read, where none that cannot is in the way.
    fn if_none_in_the_way(self) -> Result<Vec<GcuUpgrade>, ApiError> {
        match self.in_the_way() {
            Some(unreadable) => Err(unreadable.refusal()),
            None => Ok(self.readable),
        }
    }
}

impl Context {
    /// The records of a gr that has to be decided on, newest first.
    ///
    /// # Errors
    /// The API server's; or that the newest, or one that may be active, cannot be read.
    pub(super) async fn records(&self, gr: &str) -> Result<Vec<GcuUpgrade>, ApiError> {
        self.live_records(gr).await?.if_none_in_the_way()
    }

    /// The same to be shown, from what a watch has shown of them where that is known to be in sync.
    ///
    /// # Errors
    /// Those of [`Context::records`].
    pub(super) async fn shown_records(&self, gr: &str) -> Result<Vec<GcuUpgrade>, ApiError> {
        self.legible_records(gr).await?.if_none_in_the_way()
    }

    /// The records of a gr to be shown, with those that cannot be read apart.
    pub(super) async fn legible_records(&self, gr: &str) -> Result<Records, ApiError> {
        let Some(stored) = self.known.records() else { return self.live_records(gr).await };
        let mine = stored.iter().filter(|record| record.gr().is_none_or(|of| of == gr));
        Ok(Records::of(gr, mine.map(|record| Lenient::of(record)).collect::<Result<_, _>>()?))
    }

    async fn live_records(&self, gr: &str) -> Result<Records, ApiError> {
        // What is about another gr is forgotten as it is read: a record holds two manifests.
        let mut mine = Vec::new();
        let keep = |record: Lenient| {
            if record.gr().is_none_or(|of| of == gr) {
                mine.push(record);
            }
        };
        each(self.record_api(), ListParams::default(), keep).await?;
        Ok(Records::of(gr, mine))
    }

    /// Every record, to be shown.
    pub(super) async fn each_record(&self, mut keep: impl FnMut(Lenient)) -> Result<(), ApiError> {
        let Some(stored) = self.known.records() else {
            return Ok(each(self.record_api(), ListParams::default(), keep).await?);
        };
        for record in stored {
            keep(Lenient::of(&record)?);
        }
        Ok(())
    }

    /// One record, to be shown.
    pub(super) async fn shown_record(&self, id: &str) -> Result<Lenient, ApiError> {
        match self.known.record(id) {
            Some(stored) => Lenient::of(&stored),
            None => Ok(self.record_api().get(id).await?),
        }
    }

    fn record_api(&self) -> Api<Lenient> {
        Api::all(self.client.clone())
    }
}

/// For order in a list: newest first.
pub(super) fn age(record: &Lenient) -> impl Ord + use<> {
    let number = record.0.as_ref().map(GcuUpgrade::number).unwrap_or_default();
    std::cmp::Reverse((record.creation_timestamp(), number))
}
