//! Requests of people, made again when the process dies under them.

use super::*;

/// The path with the names of this world.
pub(super) fn filled(harness: &Harness, path: &str) -> String {
    let mut path = path.replace("{gr}", harness.gr());
    while let Some((before, name, after)) = path
        .split_once('{')
        .and_then(|(before, rest)| rest.split_once('}').map(|(name, after)| (before, name, after)))
    {
        path = format!("{before}{}{after}", named(&harness.prefix(), name));
    }
    path
}

pub(super) async fn refused(harness: &mut Harness, request: &str, body: &Value, says: &[String], at: &str) {
    let (method, path) = request.split_once(' ').unwrap();
    let path = filled(harness, path);
    let Some(answer) = harness.call(method, &path, &body.to_string()).await else {
        // Lost with the process: who asks again is told the same.
        harness.revive_if_dead().await;
        return Box::pin(refused(harness, request, body, says, at)).await;
    };
    let mut said = answer.text.clone();
    if answer.status.is_success() {
        let ended = harness.until_final(1).await;
        let status = harness.record(1).await.unwrap().status_or_default();
        assert_eq!(ended, Phase::Failed, "{at}: it was begun: {:#?}", status.timeline);
        said = status.message;
    }
    for words in says {
        assert!(said.contains(words.as_str()), "{at}: {request} is refused with {words:?}: {said}");
    }
}

/// A call that starts a job and is lost with the process is what a client retries, after a look whether it
/// was taken: the record tells.
pub(super) async fn call(
    harness: &mut Harness,
    request: &str,
    body: &Value,
    status: u16,
    says: &[String],
    at: &str,
) {
    let (method, path) = request.split_once(' ').unwrap();
    let path = filled(harness, path);
    let mut body = body.clone();
    // Real seconds are dear: what says nothing of the time that pods are watched is not about it.
    if harness.backend.is_real() && body["strategy"] == "RollingUpdate" {
        let rolling = body.as_object_mut().unwrap().entry("rollingUpdate").or_insert_with(|| json!({}));
        rolling.as_object_mut().unwrap().entry("minReadySeconds").or_insert_with(|| json!(0));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let before = harness.newest().await;
    if method == "DELETE"
        && let Ok(gr) = harness.world.gr().await
    {
        harness.oracle.forgive(&gr.uid().unwrap());
    }
    loop {
        if let Some(answer) = harness.call(method, &path, &body).await {
            assert_eq!(answer.status.as_u16(), status, "{at}: {request}: {}", answer.text);
            for words in says {
                assert!(
                    answer.text.contains(words.as_str()),
                    "{at}: {request} says {words:?}: {}",
                    answer.text
                );
            }
            return;
        }
        harness.revive_if_dead().await;
        if method != "GET" && harness.newest().await != before {
            return;
        }
        if method == "DELETE"
            && harness.world.gr().await.is_ok_and(|g| g.metadata.deletion_timestamp.is_some())
        {
            while body.contains("foreground") && harness.world.gr().await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            return;
        }
    }
}

impl Harness {
    /// The newest record's name, intent and attempt: changes with every job that is taken.
    pub(super) async fn newest(&self) -> Option<String> {
        let records = self.records().list(&Default::default()).await.ok()?.items;
        let mine = records.iter().filter(|r| r.spec.gr == self.gr());
        mine.max_by_key(|r| r.number())
            .map(|r| format!("{} {:?} {}", r.name_any(), r.spec.intent, r.spec.attempt))
    }
}
