//! What the API server itself has said against a call: the routes turn it into the service's words, and whoever types
//! commands wants to know what it means for them.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use tower::{BoxError, service_fn};

use crate::cluster::{client_over, is_absent};
use crate::metrics::Metrics;

/// What was said since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The credentials are not accepted.
    pub(super) unauthorized: bool,
    /// The first thing that is forbidden, in Kubernetes' words.
    pub(super) forbidden: Option<String>,
    /// The records' API is not served.
    pub(super) no_records: bool,
}

/// Notes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Said>>);

impl Notes {
    /// What was said since the last look.
    pub(super) fn take(&self) -> Said {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The same client, with notes taken.
    pub(super) fn of(&self, client: Client) -> Client {
        let notes = self.clone();
        let send = service_fn(move |request: Request<Body>| {
            let (client, notes) = (client.clone(), notes.clone());
            async move {
                let is_of_records = request.uri().path().starts_with("/apis/gum.enflame.com/");
                let answer = client.send(request).await.map_err(BoxError::from)?;
                match answer.status() {
                    StatusCode::UNAUTHORIZED => notes.note(|said| said.unauthorized = true),
                    StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                        return notes.read(answer, is_of_records).await;
                    }
                    _ => {}
                }
                Ok(answer)
            }
        });
        client_over(send, Metrics::default())
    }

    async fn read(&self, answer: Response<Body>, is_of_records: bool) -> Result<Response<Body>, BoxError> {
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let status = serde_json::from_slice::<Status>(&bytes).ok();
        if head.status == StatusCode::FORBIDDEN {
            let message = status.map(|s| s.message).unwrap_or_default();
            self.note(|said| {
                said.forbidden.get_or_insert(message);
            });
        } else if is_of_records && !status.is_some_and(|status| is_absent(&status)) {
            self.note(|said| said.no_records = true);
        }
        Ok(Response::from_parts(head, Body::from(bytes.to_vec())))
    }
}
