//! Disruption budgets: which pods may not be evicted now, and because of which.

use crate::plan::fleet::Tenant;
use crate::record::rolling::Labels;

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pods that it protects.
    pub selector: Selector,
    /// So many of them may be evicted now.
    pub allowed: i64,
    /// So many are healthy.
    pub healthy: i64,
    /// So many have to be.
    pub needed: i64,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// All of these labels.
    pub labels: Labels,
    /// And all of these rules.
    pub rules: Vec<Rule>,
    /// Whether a selector that asks for nothing selects everything, as in policy/v1, or nothing, as before.
    pub empty_is_all: bool,
}

/// A rule about one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values, for the first two.
    pub values: Vec<String>,
}

impl Selector {
    /// Whether these labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        if self.labels.is_empty() && self.rules.is_empty() {
            return self.empty_is_all;
        }
        super::fleet::matches(labels, &self.labels) && self.rules.iter().all(|rule| rule.holds(labels))
    }
}

impl Rule {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|v| self.values.contains(v)),
            "NotIn" => value.is_none_or(|v| !self.values.contains(v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            // An operator that is not known selects nothing for certain.
            _ => false,
        }
    }
}

/// Why the disruption budgets do not let this pod be evicted now, if so. Its labels have to be known.
pub fn blocking(budgets: &[Budget], pod: &Tenant) -> Option<String> {
    let covers = |b: &&Budget| b.namespace == pod.namespace && b.selector.matches(&pod.labels);
    let mut covering = budgets.iter().filter(covers);
    let first = covering.next()?;
    let Budget { namespace, name, healthy, needed, .. } = first;
    if let Some(second) = covering.next() {
        return Some(format!(
            "PodDisruptionBudgets {namespace}/{name} and {namespace}/{} both cover it, and such a pod \
             cannot be evicted",
            second.name
        ));
    }
    (first.allowed <= 0).then(|| {
        format!("PodDisruptionBudget {namespace}/{name} needs {needed} healthy pods and has {healthy}")
    })
}
