//! Every call on its way: noted, and answered as its fault says.

use std::task::{Context, Poll};

use http::Method;
use http::header::RETRY_AFTER;
use serde_json::json;
use tokio::time::sleep;

use super::*;

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone.clone());
        let faults = self.faults.clone();
        Box::pin(async move {
            if faults.is_dead() {
                std::future::pending::<()>().await;
            }
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.map_err(BoxError::from)?.to_bytes();
            let request = Request::from_parts(head, Body::from(bytes.clone()));
            let number = faults.note(&request, &String::from_utf8_lossy(&bytes));
            let plan = faults.plan(&request, number);
            let is_watch = request.uri().query().is_some_and(|q| q.contains("watch="));
            let reads = request.method() == Method::GET;
            let heard = async move |answer: Response<B>, faults: &Faults| -> Result<Answer, BoxError> {
                let answer = answer.map(|b| Box::pin(b.map_err(Into::into)) as BoxBody);
                if reads {
                    return Ok(answer);
                }
                let (head, body) = answer.into_parts();
                let bytes = body.collect().await?.to_bytes();
                faults.answered(number, head.status, &bytes);
                Ok(Response::from_parts(head, whole(bytes)))
            };
            let mut send = async |request| -> Result<Answer, BoxError> {
                heard(inner.call(request).await.map_err(Into::into)?, &faults).await
            };
            match plan {
                Plan::Pass if is_watch => {
                    let mut broken = faults.broken.subscribe();
                    let end = Box::pin(async move {
                        match broken.changed().await {
                            Ok(()) => !*broken.borrow(),
                            Err(_) => std::future::pending().await,
                        }
                    });
                    let broken = |body| Box::pin(Limited { body, end, cut: None }) as BoxBody;
                    Ok(send(request).await?.map(broken))
                }
                Plan::Pass => send(request).await,
                Plan::DieBefore => {
                    faults.die();
                    std::future::pending().await
                }
                Plan::DieAfter => {
                    let answer = send(request).await?;
                    // A watch never ends: its head is all that the server has to have said.
                    drop(answer);
                    faults.die();
                    std::future::pending().await
                }
                Plan::Do(fault, path) => match fault {
                    Fault::LoseAnswer => {
                        send(request).await?;
                        Err("connection reset by peer (fault)".into())
                    }
                    Fault::Answer(code) => Ok(made_up(code, None)),
                    Fault::Throttle(code, retry_after) => Ok(made_up(code, Some(&retry_after))),
                    Fault::Refuse => Err("connection refused (fault)".into()),
                    // What it does to calls has been planned in its place.
                    Fault::Away(..) => Err("the API server is away (fault)".into()),
                    Fault::Delay(time) => {
                        let (mut network, faults) = (clone, faults.clone());
                        let late = tokio::spawn(async move {
                            sleep(duration(&time)).await;
                            heard(network.call(request).await.map_err(Into::into)?, &faults).await
                        });
                        late.await.map_err(BoxError::from)?
                    }
                    Fault::Hang => std::future::pending().await,
                    Fault::Cut(time) => Ok(send(request).await?.map(|b| limited(b, &time, true))),
                    Fault::Silence(time) => Ok(send(request).await?.map(|b| limited(b, &time, false))),
                    Fault::Stale => {
                        let known = faults.state.lock().unwrap().first_answers.get(&path).cloned();
                        let bytes = match known {
                            Some(bytes) => bytes,
                            None => {
                                let bytes = send(request).await?.into_body().collect().await?.to_bytes();
                                faults.state.lock().unwrap().first_answers.insert(path, bytes.clone());
                                bytes
                            }
                        };
                        Ok(Response::new(whole(bytes)))
                    }
                },
            }
        })
    }
}

fn made_up(code: u16, retry_after: Option<&str>) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("made up by a fault: {reason}"), "reason": reason, "code": code,
    });
    let mut answer = Response::new(whole(status.to_string().into()));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    if let Some(retry_after) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, retry_after.parse().unwrap());
    }
    answer
}
