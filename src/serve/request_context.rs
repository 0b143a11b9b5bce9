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

/// What a request asks for and how it is answered, apart from the connection it came on. Kept from one request to the next for
/// its memory.
#[derive(Default)]
pub struct RequestContext {
    pub(super) head: RequestHead,
    /// Only a connection on which labels were read has one.
    pub(super) label: Option<Box<CallLabel>>,
    reads_labels: bool,
    /// By which rules browsers are answered; none if they are not answered here.
    pub(super) browsers: Option<Arc<OriginRules>>,
    pub(super) scheme: Scheme,
    /// What the time of the role itself counts as.
    pub(super) own_phase: Phase,
    /// Whether a request has begun on its connection. Here, as it would take a word of its own elsewhere.
    pub(super) has_begun: bool,
}

impl RequestContext {
    /// Reads what each request is about, or no longer does.
    pub(super) fn read_labels(&mut self, reads_labels: bool) {
        self.reads_labels = reads_labels;
        if reads_labels {
            self.label.get_or_insert_default();
        }
    }

    /// Answers browsers by these rules, over a connection of this scheme; none leaves that to the next hop.
    pub(super) fn answer_browsers(&mut self, rules: Option<&Arc<OriginRules>>, scheme: Scheme) {
        self.browsers = rules.filter(|rules| rules.cors).map(Arc::clone);
        self.scheme = scheme;
    }

    /// Starts the label with the head, which was read.
    pub(super) fn begin_label(&mut self) {
        if let Some(label) = self.label.as_mut().filter(|_| self.reads_labels) {
            label.begin(&self.head);
        }
    }

    pub(super) fn label(&mut self) -> Option<&mut CallLabel> {
        self.label.as_deref_mut().filter(|_| self.reads_labels)
    }

    /// Has the request decided by a policy before it is passed on. Its caller is at this address.
    pub(super) fn govern(&mut self, governing: &Governing<'_>) {
        if let Some(label) = self.label.as_deref_mut().filter(|_| self.reads_labels) {
            label.govern(governing, &self.head);
        }
    }

    /// The id of the JSON-RPC message as JSON text, if it has been read.
    pub(super) fn rpc_id(&self) -> Option<&str> {
        self.label.as_ref().filter(|_| self.reads_labels).and_then(|label| label.rpc_id())
    }

    /// What a browser is told with each answer to the request.
    pub(super) fn cors(&self) -> Option<Cors<'_>> {
        self.browsers.as_ref().and_then(|rules| rules.cors(&self.head, self.scheme))
    }

    /// Whether the token of the caller stays here.
    pub(super) fn is_terminated(&self) -> bool {
        self.label.as_ref().filter(|_| self.reads_labels).is_some_and(|label| label.is_terminated())
    }

    /// The head, and what the request is about, if that is read on this connection.
    pub fn head_and_label(&mut self) -> (&RequestHead, Option<&mut CallLabel>) {
        let (head, label, _) = self.parts();
        (head, label)
    }

    /// The head, beside the label that is read from the body.
    pub(super) fn parts(&mut self) -> (&RequestHead, Option<&mut CallLabel>, Option<Cors<'_>>) {
        let RequestContext { head, label, reads_labels, browsers, scheme, .. } = self;
        let cors = browsers.as_ref().and_then(|rules| rules.cors(head, *scheme));
        (head, label.as_deref_mut().filter(|_| *reads_labels), cors)
    }

    /// Reads what was received of the body, as far as it takes to know what the request is about. False if more has to be
    /// received.
    ///
    /// # Errors
    ///
    /// If that cannot become known.
    pub(super) fn read_label_received(&mut self, body: &mut impl BodySource) -> Result<bool, LabelError> {
        let RequestContext { head, label, reads_labels, .. } = self;
        let label = label.as_deref_mut().filter(|_| *reads_labels);
        label.map_or(Ok(true), |label| label.read_received(head, body))
    }

    /// Whether the caller is to be told now to send the body, for which it waits to be told.
    pub(super) fn take_continue(&mut self) -> bool {
        let expects = self.head.expects_continue();
        self.label().is_some_and(|label| expects && !std::mem::replace(&mut label.has_continued, true))
    }

    /// Receives the body as far as it takes to know what the request is about.
    ///
    /// # Errors
    ///
    /// If that cannot become known within the limits.
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

    /// Has the call that has ended no longer counted by its policy.
    pub(super) fn end_governed(&mut self) {
        if let Some(label) = &mut self.label {
            label.end_governed();
        }
    }

    /// Forgets who called on a connection that is over.
    pub(super) fn forget_caller(&mut self) {
        if let Some(label) = &mut self.label {
            label.forget_caller();
        }
    }

    /// Drops what was read of the body before the call was opened, and was not sent.
    pub(super) fn drop_read_ahead(&mut self) {
        if let Some(label) = &mut self.label {
            label.ahead.clear();
        }
    }

    /// Reads on, for so long, what of the body is still to come, to find the message's id.
    pub(super) async fn read_id(&mut self, core: &Core, body: &mut impl BodySource, within: Duration) {
        // A caller that expects to be told to go on keeps its body back.
        let Some(label) = self.label.as_mut().filter(|_| self.reads_labels && !self.head.expects_continue()) else {
            return;
        };
        let reading = read_on(body, |bytes| {
            label.read(bytes);
            !label.is_done()
        });
        // Without the id the answer says less.
        let _ = core.timeout(within, reading).await;
    }
}
