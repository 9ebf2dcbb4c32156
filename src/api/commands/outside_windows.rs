//! Resume with a reason: an upgrade that waits for a maintenance window goes on outside of it.

use kube::ResourceExt;
use serde_json::json;

use super::{Steering, change, wanted};
use crate::api::Context;
use crate::api::body::insert;
use crate::api::envelope::{ApiError, Reply};
use crate::api::query::JobQuery;
use crate::plan::commands::{Command, Effect};
use crate::plan::maintenance::windows;
use crate::plan::preflight::Refusal;
use crate::record::GcuUpgrade;

impl Context {
    /// Lets the active record go on outside of its maintenance windows, and out of a pause if it is in one.
    pub(super) async fn override_window(
        &self,
        gr: &str,
        reason: &str,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let now = self.clock.now();
        let decide = |record: &GcuUpgrade, effect: Result<Effect, Refusal>| {
            if windows(record, now).is_none() {
                let name = record.name_any();
                return Err(Refusal::Nothing(format!(
                    "{name} minds no maintenance window: nothing to override"
                )));
            }
            let mut change = effect.ok().and_then(change).unwrap_or_else(|| json!({}));
            insert(&mut change, "overrideWindow", json!(reason));
            let says = "the upgrade goes on, outside of maintenance windows too".to_owned();
            Ok(Some(Steering { change, says, wanted: wanted(record) }))
        };
        self.steer(gr, Command::Resume, query, decide).await
    }
}
