//! A body that can be sent slowly or cut off.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The steps of sending a body, in order.
#[derive(Debug)]
pub enum Step {
    Send(Bytes),
    Wait(Duration),
    /// The connection ends here.
    Break,
}

/// The body was cut off on purpose. As an error of the service it closes the connection.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut off on purpose")
    }
}

impl std::error::Error for Cut {}

#[derive(Debug)]
pub struct Pour {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
    /// The true length, if it is sent.
    length: Option<u64>,
}

impl Pour {
    /// The whole body at once, with its length.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        let length = Some(bytes.len() as u64);
        Self { steps: VecDeque::from([Step::Send(bytes)]), waiting: None, length }
    }

    /// A body in these steps; a header sets the length, if any.
    #[must_use]
    pub fn stepwise(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), waiting: None, length: None }
    }
}

impl Body for Pour {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.waiting = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(bytes)) if bytes.is_empty() => {}
                Some(Step::Send(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Wait(time)) => self.waiting = Some(Box::pin(sleep(time))),
                Some(Step::Break) => return Poll::Ready(Some(Err(Cut))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}
