use std::sync::Arc;
use std::time::Duration;

use crate::engine::Core;
use crate::exchange::{BodySource, OriginRules, Refusal, read_on};
use crate::latency::Phase;
use crate::route::Scheme;
use crate::serve::governed::Governing;
use crate::serve::label::CallLabel;
use crate::serve::read_ahead::{LabelError, ReadAheadLimits};
use crate::wire::http1::{Cors, RequestHead};

/// The parsed request and the terms of its answer, independent of the connection. Reused by the next request, for its
/// memory.
#[derive(Default)]
pub struct RequestContext {
    pub(super) head: RequestHead,
    /// The label; present only after labels were read on the connection.
    pub(super) label: Option<Box<CallLabel>>,
    reads_labels: bool,
    /// The CORS rules for browsers; none if CORS is left to the next hop.
    pub(super) browsers: Option<Arc<OriginRules>>,
    pub(super) scheme: Scheme,
    /// The phase to which the role's own time is added.
    pub(super) own_phase: Phase,
    /// Whether a request has begun on the connection. Kept here, because elsewhere it would take a whole word.
    pub(super) has_begun: bool,
}

impl RequestContext {
    /// Sets whether the label of each request is read.
    pub(super) fn read_labels(&mut self, reads_labels: bool) {
        self.reads_labels = reads_labels;
        if reads_labels {
            self.label.get_or_insert_default();
        }
    }

    /// Sets the CORS rules and the scheme of the connection; no rules leave CORS to the next hop.
    pub(super) fn answer_browsers(&mut self, rules: Option<&Arc<OriginRules>>, scheme: Scheme) {
        self.browsers = rules.filter(|rules| rules.cors).map(Arc::clone);
        self.scheme = scheme;
    }

    /// Starts the label with the head.
    pub(super) fn begin_label(&mut self) {
        if let Some(label) = self.label.as_mut().filter(|_| self.reads_labels) {
            label.begin(&self.head);
        }
    }

    pub(super) fn label(&mut self) -> Option<&mut CallLabel> {
        self.label.as_deref_mut().filter(|_| self.reads_labels)
    }

    /// Makes a policy decide the request before it is forwarded.
    pub(super) fn govern(&mut self, governing: &Governing<'_>) {
        if let Some(label) = self.label.as_deref_mut().filter(|_| self.reads_labels) {
            label.govern(governing, &self.head);
        }
    }

    /// The id of the JSON-RPC message as JSON text, if it has been read.
    pub(super) fn rpc_id(&self) -> Option<&str> {
        self.label.as_ref().filter(|_| self.reads_labels).and_then(|label| label.rpc_id())
    }

    /// The CORS fields for each answer to the request.
    pub(super) fn cors(&self) -> Option<Cors<'_>> {
        self.browsers.as_ref().and_then(|rules| rules.cors(&self.head, self.scheme))
    }

    /// Whether the caller's token is removed here.
    pub(super) fn is_terminated(&self) -> bool {
        self.label.as_ref().filter(|_| self.reads_labels).is_some_and(|label| label.is_terminated())
    }

    /// The head, and the label if labels are read on this connection.
    pub fn head_and_label(&mut self) -> (&RequestHead, Option<&mut CallLabel>) {
        let (head, label, _) = self.parts();
        (head, label)
    }

    /// The head, the label that is read from the body, and the CORS fields.
    pub(super) fn parts(&mut self) -> (&RequestHead, Option<&mut CallLabel>, Option<Cors<'_>>) {
        let RequestContext { head, label, reads_labels, browsers, scheme, .. } = self;
        let cors = browsers.as_ref().and_then(|rules| rules.cors(head, *scheme));
        (head, label.as_deref_mut().filter(|_| *reads_labels), cors)
    }

    /// Reads the received part of the body until the label is known. False if more has to be received.
    ///
    /// # Errors
    ///
    /// If the label cannot be determined.
    pub(super) fn read_label_received(&mut self, body: &mut impl BodySource) -> Result<bool, LabelError> {
        let RequestContext { head, label, reads_labels, .. } = self;
        let label = label.as_deref_mut().filter(|_| *reads_labels);
        label.map_or(Ok(true), |label| label.read_received(head, body))
    }

    /// Whether 100 (Continue) has to be sent now, because the caller waits for it.
    pub(super) fn take_continue(&mut self) -> bool {
        let expects = self.head.expects_continue();
        self.label().is_some_and(|label| expects && !std::mem::replace(&mut label.has_continued, true))
    }

    /// Receives the body until the label is known.
    ///
    /// # Errors
    ///
    /// If the label cannot be determined within the limits.
    pub(super) async fn read_label(
        &mut self,
        core: &Core,
        body: &mut impl BodySource,
        limits: ReadAheadLimits<'_>,
    ) -> Result<(), LabelError> {
        let RequestContext { head, label, reads_labels, .. } = self;
        let Some(label) = label.as_deref_mut().filter(|_| *reads_labels) else { return Ok(()) };
        let read = core.timeout(limits.timeout, label.read_on(head, body, limits.memory)).await;
        read.unwrap_or(Err(LabelError::Refused(Refusal::LateBody)))
    }

    /// Whether it is still to be [kept](RequestContext::keep_used_approval) that an approval was used.
    pub(super) fn has_used_approval(&self) -> bool {
        self.label.as_deref().is_some_and(CallLabel::has_used_approval)
    }

    /// Waits until it is kept that the approval of the call was used, if it has one.
    ///
    /// # Errors
    ///
    /// If that cannot be kept.
    pub(super) async fn keep_used_approval(&mut self, core: &Core) -> Result<(), LabelError> {
        let RequestContext { head, label, .. } = self;
        let Some(label) = label.as_deref_mut() else { return Ok(()) };
        label.keep_used_approval(head, core).await
    }

    /// Stops counting the call as in flight in its policy.
    pub(super) fn end_governed(&mut self) {
        if let Some(label) = &mut self.label {
            label.end_governed();
        }
    }

    /// Forgets the caller of a connection that has ended.
    pub(super) fn forget_caller(&mut self) {
        if let Some(label) = &mut self.label {
            label.forget_caller();
        }
    }

    /// Drops the part of the body that was read ahead and not sent.
    pub(super) fn drop_read_ahead(&mut self) {
        if let Some(label) = &mut self.label {
            label.ahead.clear();
        }
    }

    /// Reads the rest of the body for this long, to find the message's id.
    pub(super) async fn read_id(&mut self, core: &Core, body: &mut impl BodySource, within: Duration) {
        // A caller that waits for 100 (Continue) does not send its body.
        let Some(label) = self.label.as_mut().filter(|_| self.reads_labels && !self.head.expects_continue()) else {
            return;
        };
        let reading = read_on(body, |bytes| {
            label.read(bytes);
            !label.is_done()
        });
        // On a timeout the answer has no id.
        let _ = core.timeout(within, reading).await;
    }
}
