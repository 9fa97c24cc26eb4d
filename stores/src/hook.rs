//! An HTTP service that is asked for users.
//!
//! It gets `{"realm": …, "username": … or "userhash": …, "client": …, "algorithm": …}` by POST and
//! answers with the user's key, or with 404 or `{"refuse": true}` where there is no such user.
//! Nobody is let in by anything else. A service that cannot be reached, does not answer in time or
//! refuses us (HTTP 5xx, 401, 403, 429) has failed, and is left alone after some failures in a row;
//! any other answer that is of no use is an error for the one user that it was asked for.

mod answer;
mod breaker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde_json::{Value, json};
use sterna_actors::clock;
use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::TokenKey;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use tokio::time::timeout;

use self::answer::Answer;
use self::breaker::{Breaker, RetryBudget};
use crate::{CONNECT_TIMEOUT, OpenError};

/// How the service is asked (`auth.hook`).
#[derive(Clone)]
pub struct HookTerms {
    /// Where the questions are posted: `https://…`, or `http://…` to this host.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Certificates (PEM) that the service's must be signed with, in place of those that the
    /// operating system trusts.
    pub ca: Option<Vec<u8>>,
    /// How long an answer may take, a retry included.
    pub timeout: Duration,
    /// After so many failures in a row nobody is asked for a while: lost connections, time-outs,
    /// HTTP 5xx, 401, 403 and 429.
    pub failures: u32,
    /// How long that while is; then one question tries.
    pub pause: Duration,
    /// Whether it finds users by USERHASH, so that clients may hide their names.
    pub finds_hashed: bool,
}

impl HookTerms {
    /// Terms that suit a service nearby: two seconds, five failures, ten seconds of pause.
    pub fn new(url: &str) -> HookTerms {
        HookTerms {
            url: url.to_owned(),
            token: None,
            ca: None,
            timeout: Duration::from_secs(2),
            failures: 5,
            pause: Duration::from_secs(10),
            finds_hashed: false,
        }
    }
}

/// The HTTP service as a store. Nothing is sent before somebody is looked for.
pub fn hook(terms: HookTerms) -> Result<Arc<dyn CredentialStore>, OpenError> {
    let unfit = |why: String| OpenError::Unfit(why);
    let url = Url::parse(&terms.url).map_err(|error| unfit(format!("not a URL: {error}")))?;
    match url.scheme() {
        "https" => {}
        "http" if is_this_host(&url) => {}
        "http" => return Err(unfit("keys must not cross a network in plain; use https:".into())),
        scheme => return Err(unfit(format!("{scheme}: is not https:"))),
    }
    let mut headers = HeaderMap::new();
    if let Some(token) = &terms.token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| unfit("the token has a line break in it".into()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut client = Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT.min(terms.timeout))
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .redirect(redirect::Policy::none())
        .no_proxy();
    if let Some(pem) = &terms.ca {
        let bad = |error: reqwest::Error| unfit(format!("its CA is not PEM: {error}"));
        let trusted = Certificate::from_pem_bundle(pem).map_err(bad)?;
        if trusted.is_empty() {
            return Err(unfit("its CA file has no certificate in it".into()));
        }
        client = client.tls_certs_only(trusted);
    }
    let client = client.build().map_err(|error| unfit(error.to_string()))?;
    Ok(Arc::new(HookStore {
        label: label(&url),
        breaker: Breaker::new(terms.failures, terms.pause, clock::now()),
        budget: RetryBudget::new(),
        client,
        url,
        terms,
    }))
}

struct HookStore {
    label: String,
    client: Client,
    url: Url,
    breaker: Breaker,
    budget: RetryBudget,
    terms: HookTerms,
}

impl CredentialStore for HookStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        &[PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256]
    }

    fn finds_hashed(&self) -> bool {
        self.terms.finds_hashed
    }

    fn answers_within(&self) -> Duration {
        // Its own time-out is in `user`, so that the breaker hears of it.
        self.terms.timeout + SPARE
    }

    fn rests_by_itself(&self) -> bool {
        true
    }

    fn can_revalidate(&self) -> bool {
        false
    }

    fn user(&self, wanted: UserLookup) -> BoxFuture<'_, Result<Option<StoredUser>, StoreError>> {
        Box::pin(async move {
            let Some(question) = question(&wanted) else { return Ok(None) };
            let Some(trial) = self.breaker.admit(clock::now()) else {
                let failures = self.terms.failures;
                return Err(StoreError::Lost(format!(
                    "not asked after {failures} failures in a row"
                )));
            };
            let answer = timeout(self.terms.timeout, self.ask(&question)).await;
            let answer = answer.unwrap_or_else(|_| Err(Failure::late(no_answer(&self.terms))));
            match &answer {
                // A useless answer is one too: clients choose whom it is asked for, and none of
                // them leaves the others unasked.
                Ok(_) | Err(Failure { why: StoreError::Answered(_), .. }) => trial.succeeded(),
                Err(Failure { why: StoreError::Lost(_), .. }) => trial.failed(clock::now()),
            }
            match answer.map_err(|failure| failure.why)? {
                Some(answer) => answer.user(&wanted),
                None => Ok(None),
            }
        })
    }

    fn users(
        &self,
        _realm: Arc<str>,
        _names: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        let why = "the service answers for a client's request alone";
        Box::pin(async move { Err(StoreError::Answered(why.into())) })
    }

    fn rest_secrets(&self, _realm: Arc<str>) -> BoxFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn token_key(&self, _kid: String) -> BoxFuture<'_, Result<Option<TokenKey>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn realms(&self) -> BoxFuture<'_, Result<Vec<StoredRealm>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Why a question has no answer, and whether another try may have one.
struct Failure {
    why: StoreError,
    retry: bool,
}

impl Failure {
    fn before(why: impl Into<String>) -> Failure {
        Failure { why: StoreError::Lost(why.into()), retry: true }
    }

    fn late(why: String) -> Failure {
        Failure { why: StoreError::Lost(why), retry: false }
    }

    /// It does not want to be asked by us, whomever for.
    fn refused(why: String) -> Failure {
        Failure { why: StoreError::Lost(why), retry: false }
    }

    /// It has answered, and nothing that can be used.
    fn after(why: impl Into<String>) -> Failure {
        Failure { why: StoreError::Answered(why.into()), retry: false }
    }
}

impl HookStore {
    async fn ask(&self, question: &Value) -> Result<Option<Answer>, Failure> {
        self.budget.count_question();
        match self.ask_once(question).await {
            Err(failure) if failure.retry && self.budget.take_retry() => {
                self.ask_once(question).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, question: &Value) -> Result<Option<Answer>, Failure> {
        let sent = self.client.post(self.url.clone()).json(question).send().await;
        let response = sent.map_err(|error| Failure::before(cause(error)))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let body = body(response).await?;
                let answer = serde_json::from_slice::<Answer>(&body);
                // The text of a JSON error may quote the answer, and a key with it.
                let answer = answer.map_err(|error| {
                    let place = format!("line {} column {}", error.line(), error.column());
                    Failure::after(format!("its answer is not understood: {place}"))
                })?;
                Ok((!answer.refuse).then_some(answer))
            }
            status if status.is_server_error() => Err(Failure::before(format!("HTTP {status}"))),
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS) => Err(Failure::refused(format!("HTTP {status}"))),
            status => Err(Failure::after(format!("HTTP {status}"))),
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::before(cause(error)))? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(Failure::after(format!("its answer is longer than {BODY_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn question(wanted: &UserLookup) -> Option<Value> {
    let algorithm = match wanted.password_algorithm {
        PasswordAlgorithm::Md5 => "MD5",
        PasswordAlgorithm::Sha256 => "SHA-256",
    };
    let (realm, client) = (&*wanted.realm, wanted.client.to_string());
    match &wanted.user {
        ClaimedUser::Named(name) => Some(json!({
            "realm": realm, "username": name, "client": client, "algorithm": algorithm,
        })),
        ClaimedUser::Hashed(hash) => Some(json!({
            "realm": realm, "userhash": hex::encode(hash), "client": client,
            "algorithm": algorithm,
        })),
        ClaimedUser::Token { .. } => None,
    }
}

/// The innermost cause, which names what has happened; the URL is in the label.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut source: &dyn std::error::Error = &error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

fn no_answer(terms: &HookTerms) -> String {
    format!("no answer within {:?}", terms.timeout)
}

/// The URL without what may be a secret.
fn label(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// What an answer may take beside the time-out of the service, on a busy machine.
const SPARE: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const BODY_MAX: usize = 16 * 1024;
const IDLE_CONNECTIONS: usize = 8;
