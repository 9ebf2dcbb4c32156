//! Which pods leave a node before its components restart, and which cannot.

use crate::plan::fleet::{RecreatedBy, Tenant, matches};
use crate::plan::impact::{Impact, impact_of};
use crate::record::rolling::{Claim, Drain};

/// Whether a drain concerns this pod: it holds a GCU or is selected, and another one would be made elsewhere.
pub fn is_evicted(tenant: &Tenant, drain: &Drain) -> bool {
    let selected = !drain.pod_selector.is_empty() && matches(&tenant.labels, &drain.pod_selector);
    (tenant.gcus > 0 || selected) && tenant.keeper != RecreatedBy::Node
}

/// Whether a pod has to be gone before the components of a claimed node restart.
pub fn must_leave(claim: &Claim, tenant: &Tenant, drain: &Drain) -> bool {
    let evicts = claim.pods.iter().any(|p| impact_of(&p.component) == Impact::Evict);
    drain.enabled && evicts && is_evicted(tenant, drain)
}

/// Why evicting this pod would lose something, if so.
pub fn cannot_be_evicted(tenant: &Tenant, drain: &Drain) -> Option<String> {
    let Tenant { namespace, name, .. } = tenant;
    if tenant.keeper == RecreatedBy::Nobody {
        return Some(format!(
            "pod {namespace}/{name} has no controller that would make another: it is not evicted; end it, or ask for drain.onTimeout Force"
        ));
    }
    (tenant.empty_dir && !drain.delete_empty_dir_data).then(|| {
        format!("pod {namespace}/{name} keeps data in an emptyDir: it is not evicted; ask for drain.deleteEmptyDirData")
    })
}
