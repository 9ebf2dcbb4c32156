//! Where to look for what concerns a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::gr::{LiveGr, WorkloadKind};
use crate::observe::NAME_LABEL;
use crate::observe::fleet::SeenSet;
use crate::plan::{WorkloadState, workloads_concerned};
use crate::record::GcuUpgrade;
use crate::record::rolling::Labels;

/// Where to look for a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Kinds of workload by namespace.
    workloads: BTreeSet<(WorkloadKind, String)>,
    /// The labels that select each workload's pods, by namespace.
    pods: BTreeMap<String, BTreeSet<Labels>>,
}

impl Scope {
    /// What concerns this record, given the gr as last seen.
    pub fn of(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Self {
        let mut scope = Self::default();
        for workload in workloads_concerned(record, gr) {
            scope.workloads.insert((workload.kind, workload.namespace.clone()));
            scope.add_pods(&workload.namespace, &workload.name, workload.selector);
        }
        scope
    }

    /// With the pods of these DaemonSets, whatever the gr says of them.
    pub fn with_sets<'s>(mut self, sets: impl IntoIterator<Item = &'s SeenSet>) -> Self {
        for WorkloadState { namespace, name, selector, .. } in sets.into_iter().map(|set| &set.workload) {
            self.add_pods(namespace, name, selector.clone());
        }
        self
    }

    fn add_pods(&mut self, namespace: &str, name: &str, selector: Labels) {
        let usual = || Labels::from([(NAME_LABEL.to_owned(), name.to_owned())]);
        let selector = if selector.is_empty() { usual() } else { selector };
        self.pods.entry(namespace.to_owned()).or_default().insert(selector);
    }

    /// Both.
    pub fn and(&self, other: Self) -> Self {
        let mut all = self.clone();
        all.workloads.extend(other.workloads);
        for (namespace, selectors) in other.pods {
            all.pods.entry(namespace).or_default().extend(selectors);
        }
        all
    }

    /// The namespaces and label selectors with which the pods are listed: as few as will do.
    pub fn selections(&self) -> BTreeSet<(String, String)> {
        let of = |(namespace, selectors): (&String, &BTreeSet<Labels>)| {
            let namespace = namespace.clone();
            label_selectors(selectors).into_iter().map(move |selector| (namespace.clone(), selector))
        };
        self.pods.iter().flat_map(of).collect()
    }

    /// The namespaces with workloads of this kind.
    pub fn namespaces_of(&self, wanted: WorkloadKind) -> impl Iterator<Item = &String> {
        self.workloads.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, namespace)| namespace)
    }

    /// The DaemonSets in the namespaces concerned.
    pub fn workloads_among(&self, sets: &[Arc<SeenSet>]) -> impl Iterator<Item = WorkloadState> {
        let of_scope = |set: &&Arc<SeenSet>| {
            self.workloads.contains(&(WorkloadKind::DaemonSet, set.workload.namespace.clone()))
        };
        sets.iter().filter(of_scope).map(|set| set.workload.clone())
    }
}

/// Selectors of one label are put together by its key, which for most operators makes one of all.
fn label_selectors(all: &BTreeSet<Labels>) -> Vec<String> {
    let mut by_key: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    for labels in all {
        match labels.iter().next() {
            Some((key, value)) if labels.len() == 1 => {
                by_key.entry(key).or_default().insert(value);
            }
            _ => others.push(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")),
        }
    }
    let together = by_key
        .into_iter()
        .map(|(key, values)| format!("{key} in ({})", values.into_iter().collect::<Vec<_>>().join(",")));
    together.chain(others).collect()
}
