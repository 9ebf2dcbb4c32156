//! Users' pods are evicted as it was asked for, and jobs on several nodes are restarted once for all of them.

use gcu_upgrade_manager::plan::gangs::KEYS;
use gcu_upgrade_manager::record::rolling::{RollingStatus, RollingUpdate};

use super::*;

impl Replay {
    pub(super) fn tenant_is_evicted(&mut self, pod: &Value, uid: &str, node: &str) {
        let name = name(pod);
        if !self.nodes.contains_key(node) {
            // It went with its node.
            return;
        }
        let controller = text(pod, "/metadata/labels/app").map_or_else(|| name.clone(), str::to_owned);
        self.seen.evicted.insert(controller);
        self.seen.evictions += 1;
        let record = self.active.as_ref().expect("evictions belong to an upgrade");
        let options = record.spec.rolling_options().clone();
        let labels = &pod["metadata"]["labels"];
        let selector = &options.drain.pod_selector;
        let selected = !selector.is_empty() && selector.iter().all(|(k, v)| labels[k] == v.as_str());
        assert!(gcus(pod) > 0 || selected, "{name} holds no GCU and was not asked for");
        assert!(options.drain.enabled, "{name} was evicted, and drain is not enabled");
        assert_ne!(owner(pod, "kind"), "DaemonSet", "{name} would only come back");
        assert!(!self.is_paused(), "I9: {name} was evicted after the pause");
        let claim = self.claim(node).unwrap_or_else(|| panic!("{name} was evicted, {node} is not claimed"));
        // What comes while the node is swapped leaves before the next pod is replaced.
        let created: Option<jiff::Timestamp> =
            text(pod, "/metadata/creationTimestamp").and_then(|at| at.parse().ok());
        let came = created.is_some_and(|at| at.as_second() >= claim.since.as_second());
        assert!(came || claim.state == ClaimState::Emptying, "{name} was evicted: {:?}", claim.state);
        assert!(
            annotation(&self.nodes[node], NODE_ANNOTATION).is_some(),
            "{name} was evicted before the cordon"
        );
        self.gang_is_together(pod, node, claim.since, &options);
        if self.asked.deleted.contains_key(uid) {
            assert_eq!(options.drain.on_timeout, OnTimeout::Force, "{name} was deleted, not evicted");
        }
    }

    /// Where else the job of an evicted pod is: those nodes are not taken later, or it would be restarted again.
    fn gang_is_together(&mut self, pod: &Value, node: &str, since: jiff::Timestamp, options: &RollingUpdate) {
        let job = |pod: &Value| {
            KEYS.iter().find_map(|key| pod["metadata"]["labels"][*key].as_str().map(str::to_owned))
        };
        let Some(name) = job(pod).filter(|_| options.gangs.enabled && options.gangs.too_big != TooBig::Split)
        else {
            return;
        };
        let before = |pod: &Value| {
            let at: Option<jiff::Timestamp> =
                text(pod, "/metadata/creationTimestamp").and_then(|at| at.parse().ok());
            at.is_some_and(|at| at < since)
        };
        let same =
            self.pods.values().filter(|p| job(p).as_deref() == Some(&name) && gcus(p) > 0 && before(p));
        let elsewhere = same.filter_map(|p| text(p, "/spec/nodeName")).filter(|other| *other != node);
        let free = elsewhere.filter(|other| {
            self.nodes.get(*other).is_some_and(|node| annotation(node, NODE_ANNOTATION).is_none())
        });
        let free: Vec<String> = free.map(str::to_owned).collect();
        self.left_behind.extend(free.into_iter().map(|other| (other, name.clone())));
    }

    /// No node is taken whose job was restarted for another node when it could have been for both.
    pub(super) fn jobs_are_not_split(&self, rolling: &RollingStatus) {
        let known = |node: &str| self.rolling().is_some_and(|r| r.active.iter().any(|c| c.node == node));
        for claim in rolling.active.iter().filter(|claim| !known(&claim.node)) {
            let job = self.left_behind.get(&claim.node);
            assert_eq!(job, None, "{} is taken after its job was restarted for another node", claim.node);
        }
    }
}
