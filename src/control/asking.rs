//! Sends requests about tokens to a server, and passes its answers to the cores.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::identity::{TokenAnswers, TokenQuestion};

/// The most requests in flight to one server. Further tokens wait.
const REQUESTS_MAX: usize = 16;
/// The shortest time between two logged failures.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Answers the questions about tokens while it is polled. `answer` sends a request, and returns why it failed. Failures
/// are passed to `warn`, at most one per [`LOGGED_EVERY`].
pub(super) async fn keep_asking<V, F>(
    answers: &Arc<TokenAnswers<V>>,
    answer: impl Fn(TokenQuestion<V>) -> F,
    warn: impl Fn(&str),
) where
    V: Clone,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let (mut requests, mut logged) = (JoinSet::new(), None);
    loop {
        tokio::select! {
            question = poll_fn(|cx| answers.poll_question(cx)), if requests.len() < REQUESTS_MAX => {
                requests.spawn(answer(question));
            }
            Some(ended) = requests.join_next() => {
                let why = match ended {
                    Ok(Ok(())) => continue,
                    Ok(Err(why)) => why,
                    Err(error) => error.to_string(),
                };
                let is_due = logged.is_none_or(|logged: Instant| logged.elapsed() >= LOGGED_EVERY);
                if is_due {
                    logged = Some(Instant::now());
                    warn(&why);
                }
            }
        }
    }
}
