//! What the API server says against the pods that a DaemonSet should have: a quota, an admission webhook, an invalid
//! reference. A DaemonSet's status does not tell; its controller says so in events, and tries again and again.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

/// Selects these events alone: there are few in any cluster.
pub const SELECTOR: &str = "involvedObject.kind=DaemonSet,reason=FailedCreate";

/// A pod that could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The DaemonSet's UID.
    uid: String,
    /// The API server's words.
    message: String,
    /// When that was last so, by the cluster's clock.
    at: Timestamp,
}

/// What an event says of a pod that could not be created.
pub fn parse_refusal(event: &Event) -> Option<Refusal> {
    let at = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).map(|t| t.0);
    let at = at.or(event.event_time.as_ref().map(|t| t.0))?;
    let said = event.message.as_deref().unwrap_or_default();
    let said = said.strip_prefix("(combined from similar events): ").unwrap_or(said);
    let message = said.strip_prefix("Error creating: ").unwrap_or(said).to_owned();
    Some(Refusal { uid: event.involved_object.uid.clone()?, message, at })
}

/// What was last said against a pod of the DaemonSet with this UID, if none has been created since. `newest` is when
/// the newest of its pods was created.
pub fn newest<'r>(refusals: &'r [Refusal], uid: &str, newest: Option<Timestamp>) -> Option<&'r str> {
    let last = refusals.iter().filter(|r| r.uid == uid).max_by_key(|r| r.at)?;
    newest.is_none_or(|created| last.at >= created).then_some(last.message.as_str())
}
