//! Which pods leave a node before its components restart, and which cannot.

use super::impact::{Impact, impact_of};
use super::tenant::{RecreatedBy, Tenant, matches};
use crate::record::rolling::{Claim, ClaimState, Drain, RollingUpdate};

/// Whether a drain concerns this pod: it holds a GCU or is selected, and another one would be made elsewhere.
pub fn is_evicted(tenant: &Tenant, drain: &Drain) -> bool {
    let selected = !drain.pod_selector.is_empty() && matches(&tenant.labels, &drain.pod_selector);
    (tenant.gcus > 0 || selected) && tenant.recreated_by != RecreatedBy::Node
}

/// Whether a pod has to be gone before the components of a claimed node restart.
pub fn must_leave(claim: &Claim, tenant: &Tenant, drain: &Drain) -> bool {
    drains(claim, drain) && is_evicted(tenant, drain)
}

/// Whether the components of a claimed node that restart are such that pods have to be gone before.
fn drains(claim: &Claim, drain: &Drain) -> bool {
    drain.enabled && claim.components().any(|component| impact_of(component) == Impact::Evict)
}

/// Whether it matters for a claimed node which pods of users are on it. They are looked at from when the node carries
/// the claim: the scheduler binds no further pod to it then.
pub fn needs_tenants(claim: &Claim, options: &RollingUpdate) -> bool {
    let waits = options.wait_for_jobs.is_some() && claim.state == ClaimState::Emptying;
    claim.state != ClaimState::Returning && (waits || drains(claim, &options.drain))
}

/// Why evicting this pod would lose something, if so.
pub fn cannot_be_evicted(tenant: &Tenant, drain: &Drain) -> Option<String> {
    let Tenant { namespace, name, .. } = tenant;
    if tenant.recreated_by == RecreatedBy::Nobody {
        return Some(format!(
            "pod {namespace}/{name} has no controller that would make another: it is not evicted; end it, \
             or ask for drain.onTimeout Force"
        ));
    }
    (tenant.empty_dir && !drain.delete_empty_dir_data).then(|| {
        format!("pod {namespace}/{name} keeps data in an emptyDir: it is not evicted; ask for drain.deleteEmptyDirData")
    })
}
