//! The client of a running edge's admin API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{PlainTextError, Secret, plain_text, single_value};
use crate::cli::admin_args::AdminArgs;
use crate::cli::edge_dir::data_dir;
use crate::cli::error_pages::{FILES, TUNNEL, WRONG, line};
use crate::config::{ADMIN_TOKEN_ENV, ADMIN_TOKEN_FILE_ENV, ADMIN_URL_ENV};
use crate::control::DataDirError;
use crate::control::bodies::{ErrorBody, LIMIT_MAX, ListPart};
use crate::private::{self, PrivateError};

/// The default URL of the admin API.
const URL_PRESET: &str = "http://127.0.0.1:9443";
/// How long a response may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest admin token, in bytes.
const TOKEN_LEN_MAX: usize = 1_024;
/// The most pages of a list that are read.
const PARTS_MAX: usize = 10_000;

/// Why a request to the admin API failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// No admin token was given.
    #[error(
        "there is no admin token: give --data-dir or {}, or the token itself with --admin-token-file, {ADMIN_TOKEN_FILE_ENV} \
         or {ADMIN_TOKEN_ENV}",
        super::edge_dir::DATA_DIR_ENV
    )]
    NoToken,
    /// The token file cannot be read.
    #[error("the admin token: {0}")]
    TokenFile(#[from] PrivateError),
    /// The token file is not a text file.
    #[error("the admin token in {}: {why}", file.display())]
    TokenText {
        /// The file with the token.
        file: PathBuf,
        /// What is wrong with it.
        why: PlainTextError,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The URL is malformed.
    #[error("{0:?} is not a valid URL of an admin API: write it as in {URL_PRESET}")]
    BadUrl(String),
    /// The edge cannot be reached.
    #[error("the edge's admin API at {url} cannot be reached: {cause}; is `adit edge` running there?")]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The error of the HTTP library.
        cause: String,
    },
    /// The response is not one of the admin API.
    #[error("{url} is not the admin API of an edge: it answered with status {status}")]
    NotAdit {
        /// The requested URL.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
    },
    /// The response cannot be parsed: it is of another version, or of something else.
    #[error("the answer of the admin API at {url} cannot be read: {cause}; is the edge of another version of adit?")]
    NotUnderstood {
        /// The requested URL.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The edge refused the request.
    #[error("the edge refused: {message} ({code})")]
    Refused {
        /// The machine-readable error code.
        code: String,
        /// What went wrong, for people.
        message: String,
    },
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
}

impl AdminError {
    /// The line that follows the error, with the section of the documentation that says more; empty if there is none.
    pub(super) fn page(&self) -> String {
        line(match self {
            AdminError::NoToken | AdminError::TokenFile(_) | AdminError::TokenText { .. } => TUNNEL,
            AdminError::DataDir(_) => FILES,
            AdminError::Unreachable { .. } | AdminError::NotAdit { .. } => WRONG,
            _ => return String::new(),
        })
    }
}

/// The admin API of a running edge.
pub(super) struct AdminClient {
    client: Client,
    base: Url,
    /// `None` if only requests that need no token are made.
    token: Option<Secret>,
}

impl AdminClient {
    /// A client for the API that flags and environment name.
    pub(super) fn new(args: &AdminArgs, env: &BTreeMap<String, String>) -> Result<AdminClient, AdminError> {
        let given = |name: &str| given(env, name);
        let token = match (&args.admin_token_file, given(ADMIN_TOKEN_ENV), given(ADMIN_TOKEN_FILE_ENV)) {
            (Some(file), ..) => read_token(file.clone())?,
            (None, Some(token), _) => Secret::from(token.as_str()),
            (None, None, Some(file)) => read_token(file.into())?,
            (None, None, None) => data_dir(&args.dir(), env).ok_or(AdminError::NoToken)?.admin_token()?,
        };
        AdminClient::at(args.admin.as_deref(), env, Some(token))
    }

    /// A client without a token, for the API at this URL or the one that the environment names.
    pub(super) fn without_token(url: Option<&str>, env: &BTreeMap<String, String>) -> Result<AdminClient, AdminError> {
        AdminClient::at(url, env, None)
    }

    fn at(url: Option<&str>, env: &BTreeMap<String, String>, token: Option<Secret>) -> Result<AdminClient, AdminError> {
        let url = url.map(str::to_owned).or_else(|| given(env, ADMIN_URL_ENV)).unwrap_or_else(|| URL_PRESET.to_owned());
        let full = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        let base = Url::parse(&full).ok().filter(|base| base.has_host() && matches!(base.scheme(), "http" | "https"));
        let base = base.ok_or(AdminError::BadUrl(url))?;
        // Redirects are not followed, so that the token is sent only to the given URL.
        let client =
            Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(|error| AdminError::Usage(format!("no HTTP client: {error}")))?;
        Ok(AdminClient { client, base, token })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, AdminError> {
        self.request(Method::GET, path, query, None::<&()>).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        self.request(Method::POST, path, &[], Some(body)).await
    }

    /// The URL of a path, which may have a fragment.
    pub(super) fn url(&self, path: &str) -> String {
        self.base.join(path).map_or_else(|_| self.base.to_string(), String::from)
    }

    /// All pages of a list, concatenated.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<ListPart<T>, AdminError> {
        let mut all = ListPart { data: Vec::new(), next_page: None };
        let mut query = query.to_vec();
        query.push(("limit", LIMIT_MAX.to_string()));
        for _ in 0..PARTS_MAX {
            let part: ListPart<T> = self.get(path, &query).await?;
            all.data.extend(part.data);
            let Some(next) = part.next_page else { break };
            query.retain(|(name, _)| *name != "page");
            query.push(("page", next));
        }
        Ok(all)
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<T, AdminError> {
        let mut url = self.base.clone();
        // Each piece becomes one path segment, whatever characters it contains.
        if let Ok(mut pieces) = url.path_segments_mut() {
            pieces.clear().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let unreachable = |error: reqwest::Error| {
            let cause = innermost(&error);
            AdminError::Unreachable { url: self.base.to_string(), cause }
        };
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(&*String::from_utf8_lossy(token.expose()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        let url = || self.base.to_string();
        if status.is_success() {
            let not_understood =
                |error: serde_json::Error| AdminError::NotUnderstood { url: url(), cause: error.to_string() };
            return serde_json::from_str(&text).map_err(not_understood);
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(ErrorBody { error, .. }) => Err(AdminError::Refused { code: error.code, message: error.message }),
            Err(_) => Err(AdminError::NotAdit { url: url(), status: status.as_u16() }),
        }
    }
}

/// The variable with this name, if it is set.
fn given(env: &BTreeMap<String, String>, name: &str) -> Option<String> {
    env.get(name).filter(|value| !value.is_empty()).cloned()
}

fn read_token(file: PathBuf) -> Result<Secret, AdminError> {
    let content = private::read(&file, TOKEN_LEN_MAX)?;
    let text = plain_text(&content).map_err(|why| AdminError::TokenText { file, why })?;
    Ok(Secret::from(single_value(text)))
}

/// The innermost cause. The outer errors only say that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
