//! `/approve/…`: the pages behind signed links. The signature of the link is the only authority: there are no cookies, and what
//! reads a page (chat programs and scanners of mail open links) decides nothing.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Path, Request, State as Given};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::base::Clock;
use crate::control::admin::names_this_host;
use crate::control::approval_counts::LinkOutcome;
use crate::control::approval_links::{ApprovalLink, ApprovalLinks, LINK_PATH};
use crate::control::approval_page::{PAGE_POLICY, call_page, plain_page};
use crate::control::approvals::{ApprovalDesk, Decision, Undecided};
use crate::control::bodies::ApprovalInfo;
use crate::control::given_text::{REASON_LEN_MAX, checked_text};
use crate::control::wall_time::WallTime;
use crate::engine::MonotonicClock;
use crate::policy::Approval;

/// The longest form, in bytes: a name and a reason, each character in the longest way in which a browser writes it.
const FORM_LEN_MAX: usize = 8 * 1024;
/// The longest name that an approver may type, in characters. With what is added it is as long as any other.
const NAME_LEN_MAX: usize = 80;

/// What the pages need.
#[derive(Clone)]
struct Pages {
    links: Arc<ApprovalLinks>,
    desk: ApprovalDesk,
}

/// The form of a page.
#[derive(Deserialize)]
struct DecisionForm {
    decision: DecisionName,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DecisionName {
    Approve,
    Deny,
}

/// Why no page of a call is shown.
enum NoPage {
    Limited,
    Invalid,
    Over,
    Form,
    Undecided(Undecided),
}

/// The pages of these links.
pub(super) fn approval_pages(links: Arc<ApprovalLinks>, desk: ApprovalDesk) -> Router {
    let pages = Pages { links, desk };
    Router::new()
        .route(&format!("{LINK_PATH}/{{ticket}}/{{proof}}"), get(show).post(decide))
        .layer(DefaultBodyLimit::max(FORM_LEN_MAX))
        .layer(middleware::from_fn_with_state(pages.clone(), guard))
        .with_state(pages)
}

async fn show(Given(pages): Given<Pages>, Path((ticket, proof)): Path<(String, String)>) -> Response {
    match pages.call(&ticket, &proof) {
        Ok((_, call)) => pages.answer(LinkOutcome::Shown, &call),
        Err(why) => pages.refuse(why),
    }
}

async fn decide(
    Given(pages): Given<Pages>,
    Path((ticket, proof)): Path<(String, String)>,
    form: Result<Form<DecisionForm>, FormRejection>,
) -> Response {
    match pages.decide((&ticket, &proof), form).await {
        Ok((outcome, call)) => pages.answer(outcome, &call),
        Err(why) => pages.refuse(why),
    }
}

impl Pages {
    /// The call of a link.
    fn call(&self, ticket: &str, proof: &str) -> Result<(ApprovalLink, Approval), NoPage> {
        let link = self.links.read(ticket, proof);
        if !self.links.may_show(link.is_some(), MonotonicClock.now()) {
            return Err(NoPage::Limited);
        }
        let link = link.ok_or(NoPage::Invalid)?;
        if link.is_over(WallTime::now().as_unix().as_secs()) {
            return Err(NoPage::Over);
        }
        let call = self.desk.find(link.ticket).filter(|call| link.is_of(call)).ok_or(NoPage::Over)?;
        Ok((link, call))
    }

    async fn decide(
        &self,
        (ticket, proof): (&str, &str),
        form: Result<Form<DecisionForm>, FormRejection>,
    ) -> Result<(LinkOutcome, Approval), NoPage> {
        let (link, _) = self.call(ticket, proof)?;
        let Form(DecisionForm { decision, by, reason }) = form.map_err(|_| NoPage::Form)?;
        let (by, reason) = (by.trim(), reason.trim());
        let fits = |what, text: &str, len_max| text.is_empty() || checked_text(what, text, len_max).is_ok();
        if !fits("by", by, NAME_LEN_MAX) || !fits("reason", reason, REASON_LEN_MAX) {
            return Err(NoPage::Form);
        }
        let may_call = decision == DecisionName::Approve;
        let decision = Decision {
            may_call,
            // Nobody has proven who holds the link.
            by: match by {
                "" => "unnamed (by link)".to_owned(),
                by => format!("{by} (by link, name not proven)"),
            },
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        };
        let (desk, ticket) = (self.desk.clone(), link.ticket);
        // The decision is made to its end, even if the browser goes away.
        let decided = tokio::spawn(async move { desk.decide(ticket, &decision).await }).await;
        let decided = decided.unwrap_or(Err(Undecided::Unrecorded)).map_err(NoPage::Undecided)?;
        Ok((if may_call { LinkOutcome::Approved } else { LinkOutcome::Denied }, decided))
    }

    fn answer(&self, outcome: LinkOutcome, call: &Approval) -> Response {
        self.links.counts().on_link(outcome);
        page(StatusCode::OK, call_page(&ApprovalInfo::of(call), self.links.shows_arguments()))
    }

    fn refuse(&self, why: NoPage) -> Response {
        let (outcome, status, title, text) = match why {
            NoPage::Limited => (
                LinkOutcome::Limited,
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                "Nothing was decided. Try again in a minute.",
            ),
            NoPage::Invalid => (
                LinkOutcome::Invalid,
                StatusCode::NOT_FOUND,
                "This link is not valid",
                "Nothing was decided. Open the link as it was sent, to its last character.",
            ),
            NoPage::Over => (
                LinkOutcome::Over,
                StatusCode::GONE,
                "This link is over",
                "Nothing is left to decide: the call was made, or its time is over. A new call has a new link.",
            ),
            NoPage::Form => (
                LinkOutcome::Invalid,
                StatusCode::BAD_REQUEST,
                "The form cannot be read",
                "Nothing was decided. Open the link again, and use the buttons of the page; a name has at most 80 characters.",
            ),
            NoPage::Undecided(Undecided::Ticket(_)) => (
                LinkOutcome::Over,
                StatusCode::CONFLICT,
                "This call was already decided",
                "Nothing was changed. Open the link again to see the decision.",
            ),
            NoPage::Undecided(Undecided::Unrecorded) => (
                LinkOutcome::Failed,
                StatusCode::SERVICE_UNAVAILABLE,
                "The decision cannot be recorded",
                "Nothing was decided, because the audit log cannot be written. Try again, or tell the operator.",
            ),
            NoPage::Undecided(Undecided::NotKept) => (
                LinkOutcome::Failed,
                StatusCode::INTERNAL_SERVER_ERROR,
                "The decision is not kept",
                "It holds until the process ends, because it cannot be written to the disk. Tell the operator.",
            ),
        };
        self.links.counts().on_link(outcome);
        page(status, plain_page(title, text))
    }
}

/// Accepts only requests whose `Host` is an address, localhost, or the host of the configured URL.
async fn guard(Given(pages): Given<Pages>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !names_this_host(request.headers()) && !pages.links.is_at(host) {
        return pages.refuse(NoPage::Invalid);
    }
    next.run(request).await
}

fn page(status: StatusCode, html: String) -> Response {
    const FIELDS: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // Nobody else learns the link.
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let mut response = (status, html).into_response();
    let fields = response.headers_mut();
    for (name, value) in FIELDS {
        fields.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&PAGE_POLICY) {
        fields.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}
