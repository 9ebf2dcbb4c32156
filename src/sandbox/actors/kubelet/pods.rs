//! The life of a pod on its node.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Kubelet, KubeletBehaviour, Life, RUNS_FOR, STOPS_IN};
use crate::{
    actors::fit,
    actors::queue::{Key, delete_exactly, is_moot, lock, workload_of},
};

/// From the first failed pull to backing off.
const PULL_BACKOFF: Duration = Duration::from_secs(10);
/// How long the pods of a deleted node are left alone: it may come back.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The longest pause between two restarts of a crashing container.
const LONGEST_RESTART: Duration = Duration::from_secs(300);

/// What the containers of a pod are doing.
enum State<'a> {
    Running,
    Ended,
    Waiting { reason: &'a str, message: String },
    Crashing { restarts: i32, pause: Duration },
    NodeLost,
}

impl Kubelet {
    /// Takes the pod one step further, or says when to look again.
    pub(super) async fn sync_pod(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = lock(&self.index).pods.get(key).cloned() else { return Ok(None) };
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else {
            // An unbound pod that is being deleted has nobody to wait for but finalizers.
            return match pod.metadata.deletion_timestamp {
                Some(_) => Ok(None),
                None => self.schedule(key, &pod).await,
            };
        };
        if !lock(&self.index).nodes.contains_key(&node) {
            return self.collect(key, &pod, &node).await;
        }
        if self.is_dead(&node) {
            return match fit::ready_since(&pod) {
                Some(_) => self.report(key, &pod, &State::NodeLost).await.map(|()| None),
                None => Ok(None),
            };
        }
        let behaviour = self.behaviour.borrow().clone();
        if pod.metadata.deletion_timestamp.is_some() {
            return self.end(key, &pod, &behaviour).await;
        }
        if fit::is_over(&pod) {
            return Ok(None);
        }
        self.run(key, &pod, &behaviour).await
    }

    /// Reads or sets a pod's timers.
    fn life<T>(&self, pod: &Pod, look: impl FnOnce(&mut Life) -> T) -> T {
        let mut index = lock(&self.index);
        look(index.lives.entry(pod.uid().unwrap_or_default()).or_default())
    }

    /// Ends a pod whose node was deleted, as Kubernetes' pod collector does.
    async fn collect(&self, key: &Key, pod: &Pod, node: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(lost) = lock(&self.index).lost_nodes.get(node).copied() else { return Ok(None) };
        if let Some(left) = QUARANTINE.checked_sub(lost.elapsed()).filter(|left| !left.is_zero()) {
            return Ok(Some(left));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        let at_once = DeleteParams::default().grace_period(0);
        delete_exactly(&pods, &key.1, &pod.uid().unwrap_or_default(), at_once).await?;
        Ok(None)
    }

    async fn end(
        &self,
        key: &Key,
        pod: &Pod,
        behaviour: &KubeletBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        if behaviour.stuck_terminating.contains(workload_of(pod)) {
            return Ok(None);
        }
        let now = Instant::now();
        let slow = pod.annotations().get(STOPS_IN).and_then(|text| text.parse().ok());
        let stop = slow.map_or(behaviour.pod_stop, Duration::from_secs);
        let (at, ended) = self.life(pod, |life| (*life.stop_at.get_or_insert(now + stop), life.ended));
        if ended || now < at {
            return Ok((!ended).then(|| at - now));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        let at_once = DeleteParams::default().grace_period(0);
        delete_exactly(&pods, &key.1, &pod.uid().unwrap_or_default(), at_once).await?;
        // A finalizer may keep the object; the containers are gone all the same, and once is enough.
        self.life(pod, |life| life.ended = true);
        Ok(None)
    }

    async fn run(
        &self,
        key: &Key,
        pod: &Pod,
        behaviour: &KubeletBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        let now = Instant::now();
        let start = self.life(pod, |life| *life.start_at.get_or_insert(now + behaviour.pod_start));
        let ready = fit::ready_since(pod);
        let has = |marks: &[String]| {
            let mut images = containers(pod).iter().filter_map(|container| container.image.as_deref());
            images.any(|image| marks.iter().any(|mark| image.contains(mark.as_str())))
        };
        // An image is pulled once: what runs does not care that it could not be pulled again.
        let pulled = fit::phase(pod) == "Running";
        if !pulled && now < start {
            return Ok(Some(start - now));
        }
        let home = fit::home_of(pod).unwrap_or_default();
        if !pulled && let Some(image) = no_reference(pod) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image reference {image:?}: \
                 invalid reference format"
            );
            return match waiting_reason(pod) {
                Some("InvalidImageName") => Ok(None),
                _ => self
                    .report(key, pod, &State::Waiting { reason: "InvalidImageName", message })
                    .await
                    .map(|()| None),
            };
        }
        if !pulled && (has(&behaviour.bad_images) || behaviour.full_nodes.contains(home)) {
            return self.fail_to_pull(key, pod).await;
        }
        if has(&behaviour.crashing_images) {
            return self.crash(key, pod).await;
        }
        if let Some(since) = ready {
            let Some(seconds) = pod.annotations().get(RUNS_FOR).and_then(|text| text.parse::<i64>().ok())
            else {
                return Ok(None);
            };
            let left =
                since.as_second().saturating_add(seconds).saturating_sub(self.clock.precisely().as_second());
            if left > 0 {
                return Ok(Some(Duration::from_secs(left.unsigned_abs())));
            }
            return self.report(key, pod, &State::Ended).await.map(|()| None);
        }
        self.report(key, pod, &State::Running).await.map(|()| None)
    }

    async fn fail_to_pull(&self, key: &Key, pod: &Pod) -> Result<Option<Duration>, kube::Error> {
        let image = containers(pod).iter().find_map(|container| container.image.clone()).unwrap_or_default();
        match waiting_reason(pod) {
            Some("ImagePullBackOff") => return Ok(None),
            Some("ErrImagePull") => {
                let due =
                    self.life(pod, |life| *life.next_crash.get_or_insert(Instant::now() + PULL_BACKOFF));
                if Instant::now() < due {
                    return Ok(Some(due - Instant::now()));
                }
                let message = format!("Back-off pulling image \"{image}\"");
                self.report(key, pod, &State::Waiting { reason: "ImagePullBackOff", message }).await?;
            }
            _ => {
                let message = format!("failed to pull and unpack image \"{image}\": not found");
                self.report(key, pod, &State::Waiting { reason: "ErrImagePull", message }).await?;
                self.life(pod, |life| life.next_crash = Some(Instant::now() + PULL_BACKOFF));
                return Ok(Some(PULL_BACKOFF));
            }
        }
        Ok(None)
    }

    async fn crash(&self, key: &Key, pod: &Pod) -> Result<Option<Duration>, kube::Error> {
        let restarts = restarts(pod);
        let now = Instant::now();
        let next = self.life(pod, |life| life.next_crash);
        if let Some(at) = next
            && waiting_reason(pod) == Some("CrashLoopBackOff")
            && now < at
        {
            return Ok(Some(at - now));
        }
        let pause = Duration::from_secs(10).saturating_mul(1 << restarts.clamp(0, 8)).min(LONGEST_RESTART);
        self.report(key, pod, &State::Crashing { restarts: restarts.saturating_add(1), pause }).await?;
        self.life(pod, |life| life.next_crash = Some(now + pause));
        Ok(Some(pause))
    }

    async fn report(&self, key: &Key, pod: &Pod, state: &State<'_>) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        // With the UID, a pod that took the name meanwhile does not get this one's status.
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": self.status(pod, state) });
        match pods.patch_status(&key.1, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn status(&self, pod: &Pod, state: &State<'_>) -> Value {
        let now = self.clock.precisely();
        let (phase, ready, reason) = match state {
            State::Running => ("Running", true, None),
            State::Ended => ("Succeeded", false, Some("PodCompleted")),
            State::Waiting { .. } => ("Pending", false, Some("ContainersNotReady")),
            State::Crashing { .. } => ("Running", false, Some("ContainersNotReady")),
            State::NodeLost => (fit::phase(pod), false, None),
        };
        let condition = |name: &str, holds: bool, reason: Option<&str>| {
            let status = if holds { "True" } else { "False" };
            let known = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let same = known.into_iter().find(|known| known.type_ == name && known.status == status);
            let since = same.and_then(|known| known.last_transition_time.as_ref()).map_or(now, |time| time.0);
            let mut said = json!({ "type": name, "status": status, "lastTransitionTime": whole(since) });
            if let (Some(reason), Some(fields)) = (reason, said.as_object_mut()) {
                fields.insert("reason".to_owned(), json!(reason));
            }
            said
        };
        let mut status = json!({
            "phase": phase,
            "conditions": [
                condition("Initialized", true, None),
                condition("Ready", ready, reason),
                condition("ContainersReady", ready, reason),
                condition("PodScheduled", true, None),
            ],
        });
        // Of a node that is lost nobody knows what its containers do.
        if !matches!(state, State::NodeLost)
            && let Some(fields) = status.as_object_mut()
        {
            let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
            fields.insert("startTime".to_owned(), json!(whole(started.map_or(now, |time| time.0))));
            let containers =
                containers(pod).iter().map(|container| self.container_status(pod, container, state));
            fields.insert("containerStatuses".to_owned(), containers.collect());
        }
        status
    }

    fn container_status(&self, pod: &Pod, container: &Container, state: &State<'_>) -> Value {
        let now = whole(self.clock.precisely());
        let (ready, restarts, current, last) = match state {
            State::Running | State::NodeLost => {
                (true, restarts(pod), json!({ "running": { "startedAt": now } }), json!({}))
            }
            State::Ended => {
                let over = json!({ "exitCode": 0, "reason": "Completed", "finishedAt": now });
                (false, restarts(pod), json!({ "terminated": over }), json!({}))
            }
            State::Waiting { reason, message } => {
                (false, 0, json!({ "waiting": { "reason": reason, "message": message } }), json!({}))
            }
            State::Crashing { restarts, pause } => {
                let message =
                    format!("back-off {}s restarting failed container={}", pause.as_secs(), container.name);
                let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } });
                let over = json!({ "exitCode": 1, "reason": "Error", "finishedAt": now });
                (false, *restarts, waiting, json!({ "terminated": over }))
            }
        };
        let pulled = !matches!(state, State::Waiting { .. });
        json!({
            "name": container.name,
            "image": container.image.clone().unwrap_or_default(),
            "imageID": if pulled { container.image.clone().unwrap_or_default() } else { String::new() },
            "ready": ready,
            "started": ready,
            "restartCount": restarts,
            "state": current,
            "lastState": last,
        })
    }
}

/// Kubernetes' own times have no fractions of a second.
fn whole(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map_or(&[], |spec| spec.containers.as_slice())
}

/// An image that is no reference: a second tag, a character that no name has. Rougher than the real grammar.
fn no_reference(pod: &Pod) -> Option<&str> {
    let strange = |image: &&str| {
        let last = image.rsplit('/').next().unwrap_or_default();
        let tags = last.split('@').next().unwrap_or_default().matches(':').count();
        tags > 1
            || image.contains("//")
            || !image.chars().all(|c| c.is_ascii_alphanumeric() || ":/.-_@".contains(c))
    };
    containers(pod).iter().filter_map(|container| container.image.as_deref()).find(strange)
}

fn waiting_reason(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref())
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}
