//! Asks a server about tokens, for as many calls as show them, and passes its answers to the cores.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::identity::{TokenAnswers, TokenQuestion};

/// The most requests to one server that are under way. Further tokens wait for their turn.
const REQUESTS_MAX: usize = 16;
/// How often it is logged that a server gives no answer.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Answers the questions about tokens, while it is polled. `answer` asks the server and says why it could not; what it says is logged
/// by `warn`, but not each time.
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
