//! What the record says of single nodes: those in work, those that were given up, those that were done last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node in work. It counts against `maxUnavailable` from here until the claim is dropped.
// A thousand of these fit into a record: what is as it usually is, is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Name of the node in work.
    pub node: String,
    /// When work on it started.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Its state.
    pub state: ClaimState,
    /// When this state is held, or the node released, if it has not ended by then.
    #[schemars(with = "String")]
    pub deadline: Timestamp,
    /// The node is cordoned for this.
    pub cordon: bool,
    /// The pods that are replaced, as versions before 2.1.0 named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<ClaimedPod>,
    /// The pods that are replaced, by component: of each the end of its name, and when it was created, in seconds since
    /// 1970 to base 36. A component with several pods has them one after the other.
    #[serde(default, skip_serializing_if = "Replaced::is_empty")]
    pub replaces: Replaced,
    /// GCUs that the node offered when it was claimed.
    pub gcus: i64,
    /// Why it is not progressing, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// For the efficiency: when it would have begun without any delay of ours, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ideal_start_ms: u64,
    /// The `spec.nodeAttempts` of this node that the claim takes into account.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// Since when its pods are watched, where the cluster's clock says that they became ready in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub soaking_since: Option<Timestamp>,
    /// GCUs were missing after its pods had been replaced: on the way back they are not waited for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost_gcus: bool,
}

impl Claim {
    /// Whether this pod of the node is one of those that are replaced.
    pub fn is_to_replace(&self, component: &str, pod: PodId<'_>) -> bool {
        self.pods.iter().any(|p| p.uid == pod.uid) || self.replaces.names(component, pod)
    }

    /// The components of which pods are replaced.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.pods.iter().map(|p| p.component.as_str()).chain(self.replaces.components())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How far a claimed node is, as far as it has to be remembered; the rest is seen in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimState {
    /// Being cordoned, waited for and drained: can still be released untouched.
    Emptying,
    /// Its pods are being replaced.
    Swapping,
    /// Being released untouched.
    Returning,
}

/// A pod that is replaced under a claim, as versions before 2.1.0 named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPod {
    /// The component's key.
    pub component: String,
    /// The pod's name.
    pub name: String,
    /// Only this very pod is deleted.
    pub uid: String,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// A pod as the cluster shows it.
#[derive(Clone, Copy, Debug)]
pub struct PodId<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The pods of one node that are replaced, by component. They only have to be told from the pods that come after them
/// on the same node: what is deleted is deleted by the UID that the cluster shows. The DaemonSet controller ends the
/// name of every pod with five characters that it makes up, and no two of a DaemonSet are of one name and one second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Replaced(BTreeMap<String, String>);

impl Replaced {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a pod.
    pub fn add(&mut self, component: &str, pod: PodId<'_>) {
        if self.names(component, pod) {
            return;
        }
        let all = self.0.entry(component.to_owned()).or_default();
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(&mark(pod));
    }

    /// Adds other pods.
    pub fn extend(&mut self, others: Self) {
        for (component, more) in others.0 {
            let all = self.0.entry(component).or_default();
            let new: Vec<&str> =
                more.split(' ').filter(|one| !all.split(' ').any(|known| known == *one)).collect();
            let known = Some(all.as_str()).filter(|all| !all.is_empty());
            *all = known.into_iter().chain(new).collect::<Vec<_>>().join(" ");
        }
    }

    /// Whether it is one of these.
    pub fn names(&self, component: &str, pod: PodId<'_>) -> bool {
        let wanted = (ending(pod.name), second(pod));
        self.0.get(component).is_some_and(|all| all.split(' ').any(|one| parse(one) == Some(wanted)))
    }

    /// Whether any is of this component.
    pub fn has(&self, component: &str) -> bool {
        self.0.contains_key(component)
    }

    /// The components that have any.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Drops the pods of `component` that are not among `there`.
    pub fn retain_of(&mut self, component: &str, there: &Self) {
        let there = there.0.get(component).map(String::as_str).unwrap_or_default();
        let Some(all) = self.0.get_mut(component) else { return };
        let left = |one: &&str| there.split(' ').any(|other| other == *one);
        *all = all.split(' ').filter(left).collect::<Vec<_>>().join(" ");
        self.0.retain(|_, all| !all.is_empty());
    }

    /// Of each pod the component, the end of its name, and when it was created.
    pub fn pods(&self) -> impl Iterator<Item = (&str, &str, Timestamp)> {
        self.0.iter().flat_map(|(component, all)| {
            all.split(' ').filter_map(move |one| {
                let (end, second) = parse(one)?;
                let at = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
                Some((component.as_str(), end, at))
            })
        })
    }
}

/// How a pod is named: the end of its name, and the second of its creation.
fn mark(pod: PodId<'_>) -> String {
    format!("{}-{}", ending(pod.name), base_36(second(pod)))
}

/// What a mark says.
fn parse(mark: &str) -> Option<(&str, u64)> {
    let (end, second) = mark.rsplit_once('-')?;
    Some((end, u64::from_str_radix(second, 36).ok()?))
}

/// The second of a pod's creation, since 1970.
fn second(pod: PodId<'_>) -> u64 {
    u64::try_from(pod.created_at.as_second()).unwrap_or_default()
}

/// The end of a pod's name.
fn ending(name: &str) -> &str {
    let start = name.char_indices().rev().nth(ENDING - 1).map_or(0, |(at, _)| at);
    name.get(start..).unwrap_or_default()
}

fn base_36(mut left: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(left % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        left /= 36;
        if left == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

/// The name of a DaemonSet's pod that ends so: as an API server makes names, which are no longer than 63 characters.
pub fn name_of_pod(set: &str, end: &str) -> String {
    let base: String = set.chars().chain(['-']).take(63 - ENDING).collect();
    format!("{base}{end}")
}

/// So many characters of a pod's name are made up.
const ENDING: usize = 5;

/// Why a claimed node is not progressing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// Failed: something visibly cannot work. Late: it only takes longer than its deadline.
    pub kind: TroubleKind,
    /// A sentence that names what stands in the way; empty where so many nodes are in trouble that the record cannot
    /// say it of each.
    pub message: String,
    /// When the trouble was first seen.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TroubleKind {
    /// A failure signal that may still pass.
    Settling,
    /// Something visibly cannot work: counts against `failureThreshold`.
    Failed,
    /// The deadline has passed: the upgrade is held.
    Late,
}

/// A node that was released untouched and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedNode {
    /// Name of the node that was left out.
    pub node: String,
    /// Why it was left out, in a sentence.
    pub reason: String,
    /// The `spec.nodeAttempts` of this node at that time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
}

/// A node that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoneNode {
    /// Name of the node that was done.
    pub node: String,
    /// When work on it started.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When it was done.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The pods that were replaced, as versions before 2.1.0 named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<ClaimedPod>,
    /// The pods that were replaced, as a claim names them.
    #[serde(default, skip_serializing_if = "Replaced::is_empty")]
    pub replaces: Replaced,
}
