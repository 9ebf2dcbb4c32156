//! Bodies that arrive slowly or are cut off.

use std::task::{Context, Poll};

use tokio::time::sleep;

use super::*;

pub(super) fn limited(body: BoxBody, time: &str, cut: bool) -> BoxBody {
    let time = duration(time);
    let end = Box::pin(async move {
        sleep(time).await;
        cut
    });
    Box::pin(Limited { body, end, cut: None })
}

/// A body that ends in the middle of a line, or falls silent, when `end` says so.
pub(super) struct Limited {
    pub(super) body: BoxBody,
    /// Tells whether it is cut.
    pub(super) end: Pin<Box<dyn Future<Output = bool> + Send>>,
    /// What has been told.
    pub(super) cut: Option<bool>,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        match self.cut {
            Some(true) => return Poll::Ready(None),
            Some(false) => return Poll::Pending,
            None => {}
        }
        match self.end.as_mut().poll(cx) {
            Poll::Pending => self.body.as_mut().poll_frame(cx),
            Poll::Ready(cut) => {
                self.cut = Some(cut);
                let half = Bytes::from_static(b"{\"type\":\"MODI");
                if cut { Poll::Ready(Some(Ok(http_body::Frame::data(half)))) } else { Poll::Pending }
            }
        }
    }
}
