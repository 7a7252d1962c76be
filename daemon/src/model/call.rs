//! One call over HTTP: how do attempts, deadlines and pauses become one stream of pieces?
//!
//! Nothing is spawned: the connection belongs to the stream, and dropping the stream closes it. Pieces
//! are taken from the network many at a time, so that a burst costs no wait and no timer per piece.
//!
//! The HTTP client's own half of the connection is a job of the runtime, and hands over one HTTP chunk at
//! a time. So poll a call in a spawned job, where both share a worker, and not in `block_on`, where each
//! chunk wakes another thread and costs ten times as much.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Request, Response, StatusCode};
use sess_protocol::time::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::check;
use super::dialect::Dialect;
use super::fault::{self, Fault};
use super::http::{Site, deepest};
use super::prices::Prices;
use super::reader::{Flaw, Reader};
use super::retry::{Failure, Policy, retry_after_ms};
use super::size::{Guess, Windows};
use super::{Finish, Model, ModelError, Piece, Prompt, Reason};

/// How much of an error's body is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How long an error's body may take once its status is known.
const ERROR_BODY_MS: u64 = 5_000;
/// How long usage and `[DONE]` may take once the text is whole.
const TAIL_MS: u64 = 5_000;
/// How long the connection's own end may take after `[DONE]`: an answer read to its end leaves the
/// connection to the next call, and almost always the end came with the last bytes.
const END_MS: u64 = 10;

/// Models of text alone, where their servers cannot be asked.
const BLIND: [&str; 6] = ["gpt-3.5", "o1-mini", "o1-preview", "o3-mini", "claude-2", "deepseek"];

/// A provider that is asked over HTTP.
pub(crate) struct Remote {
    pub(crate) site: Arc<Site>,
    pub(crate) policy: Policy,
    pub(crate) prices: Arc<Prices>,
    pub(crate) windows: Windows,
}

impl Model for Remote {
    fn ask(&self, mut prompt: Prompt) -> BoxStream<'static, Result<Piece, ModelError>> {
        // The conversation may hold what was shown to another model.
        for part in prompt.messages.iter_mut().flat_map(|it| &mut it.parts) {
            if part.media_type().is_some_and(|it| !self.takes(&prompt.model, it)) {
                *part = part.left_out();
            }
        }
        let call = Call::new(self, prompt);
        // In a box, so that each piece moves a pointer and not the whole call.
        stream::unfold(Box::new(call), |mut call| async move {
            let item = call.next().await?;
            Some((item, call))
        })
        .boxed()
    }

    fn takes(&self, model: &str, media_type: &str) -> bool {
        self.site.dialect.has_place_for(media_type) && !BLIND.iter().any(|it| model.starts_with(it))
    }

    fn sees(&self, model: String) -> BoxFuture<'static, bool> {
        let site = self.site.clone();
        Box::pin(async move {
            site.dialect != Dialect::Ollama || check::local_sees(&site, &model).await
        })
    }

    fn check(&self, model: String) -> BoxFuture<'static, Result<Option<bool>, ModelError>> {
        let site = self.site.clone();
        Box::pin(async move {
            let names = check::names(&site).await?;
            Ok(names.map(|it| check::is_among(site.dialect, &model, &it)))
        })
    }

    fn local(&self) -> Option<BoxFuture<'static, Result<Vec<String>, String>>> {
        let site = self.site.clone();
        (site.dialect == Dialect::Ollama).then(|| {
            Box::pin(async move { check::local_names(&site).await }) as BoxFuture<'static, _>
        })
    }
}

struct Call {
    site: Arc<Site>,
    policy: Policy,
    prices: Arc<Prices>,
    window: Option<u64>,
    guess: Guess,
    model: String,
    /// Taken when the request is made of it, at the first poll.
    prompt: Option<Prompt>,
    /// Kept whole for further attempts; its body is shared, not copied.
    request: Option<Request>,
    asked: Instant,
    attempt: u32,
    attempted: Instant,
    ttft: Option<Duration>,
    /// Its token was refused once and another one taken.
    renewed: bool,
    /// Pieces of an earlier attempt were given and stand until this one gives its first.
    stale: bool,
    pieces: VecDeque<Piece>,
    failure: Option<Failure>,
    state: State,
}

enum State {
    Unsent,
    Reading(Response, Reader),
    /// The answer is whole; what is left is the connection's own end.
    Ending(Response, Finish),
    Over,
}

impl Call {
    fn new(model: &Remote, prompt: Prompt) -> Self {
        let now = Instant::now();
        Call {
            site: model.site.clone(),
            policy: model.policy,
            prices: model.prices.clone(),
            window: model.windows.of(&prompt.model),
            guess: Guess::of(&prompt),
            model: prompt.model.clone(),
            prompt: Some(prompt),
            request: None,
            asked: now,
            attempt: 0,
            attempted: now,
            ttft: None,
            renewed: false,
            stale: false,
            pieces: VecDeque::new(),
            failure: None,
            state: State::Unsent,
        }
    }

    async fn next(&mut self) -> Option<Result<Piece, ModelError>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            if let Some(failure) = self.failure.take() {
                match self.pause(failure).await {
                    Ok(()) => self.state = State::Unsent,
                    Err(error) => {
                        self.state = State::Over;
                        return Some(Err(error));
                    }
                }
            }
            let step = match std::mem::replace(&mut self.state, State::Over) {
                State::Unsent => self.send().await,
                State::Reading(response, reader) => self.read(response, reader).await,
                State::Ending(response, finish) => {
                    self.ending(response, finish).await;
                    Ok(())
                }
                State::Over => return None,
            };
            self.failure = step.err();
        }
    }

    /// Waits for the next attempt, or says that there is none.
    async fn pause(&mut self, failure: Failure) -> Result<(), ModelError> {
        let chance = RandomState::new().hash_one(self.attempt);
        let Some(pause) = self.policy.pause(self.attempt, &failure, chance) else {
            return Err(failure.error);
        };
        let until = Instant::now() + pause;
        if until >= self.deadline() {
            return Err(failure.error);
        }
        let (attempt, pause_ms) = (self.attempt, ms(pause));
        tracing::debug!(endpoint = %self.site.origin, attempt, pause_ms, error = %failure.error, "model call is tried again");
        tokio::time::sleep_until(until).await;
        self.stale |= self.ttft.is_some();
        self.ttft = None;
        Ok(())
    }

    /// Sends the request and waits for the head of the answer.
    async fn send(&mut self) -> Result<(), Failure> {
        self.attempt += 1;
        self.attempted = Instant::now();
        if let Some(prompt) = self.prompt.take() {
            self.asked = self.attempted;
            let mut request = self.site.question(&prompt);
            self.authorize(&mut request).await?;
            self.request = Some(request);
        }
        let request = self.request.as_ref().and_then(Request::try_clone);
        let request = request.expect("a body in memory can be sent again");
        let client = self.site.client().map_err(|error| Failure { error, passing: false })?;
        let until = self.attempted + self.site.deadlines.first_byte;
        let response = self.within(until, client.execute(request)).await?;
        let response = response.map_err(|err| self.unreachable(&err))?;
        if response.status() == StatusCode::UNAUTHORIZED
            && self.site.has_token()
            && !std::mem::replace(&mut self.renewed, true)
        {
            let mut request = self.request.take().expect("it was just sent");
            self.authorize(&mut request).await?;
            self.request = Some(request);
            self.state = State::Unsent;
            return Ok(());
        }
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let dialect = self.site.dialect;
        self.state = State::Reading(response, Reader::new(dialect.answer(), dialect.objects()));
        Ok(())
    }

    /// Puts a token that is good now into the request, where there are tokens.
    async fn authorize(&self, request: &mut Request) -> Result<(), Failure> {
        self.site.authorize(request).await.map_err(|error| Failure { error, passing: false })
    }

    /// Takes the next part of the answer from the network.
    async fn read(&mut self, mut response: Response, mut reader: Reader) -> Result<(), Failure> {
        let until = if reader.is_over() {
            Instant::now() + Duration::from_millis(TAIL_MS)
        } else if reader.is_untouched() {
            self.attempted + self.site.deadlines.first_byte
        } else {
            Instant::now() + self.site.deadlines.idle
        };
        let part = match self.within(until, response.chunk()).await {
            Ok(Ok(part)) => part,
            // Once the text is whole nothing can spoil it.
            _ if reader.is_over() => None,
            Ok(Err(err)) => return Err(self.unreachable(&err)),
            Err(failure) => return Err(failure),
        };
        let finish = match part {
            Some(bytes) => match reader.read(&bytes, &mut self.pieces) {
                Ok(()) if reader.is_done() => Some(reader.end(&mut self.pieces)),
                Ok(()) => None,
                Err(_) if reader.is_over() => Some(reader.end(&mut self.pieces)),
                Err(flaw) => Some(Err(flaw)),
            },
            None => Some(reader.end(&mut self.pieces)),
        };
        self.came();
        match finish {
            None => self.state = State::Reading(response, reader),
            Some(Ok(finish)) => self.state = State::Ending(response, finish),
            Some(Err(flaw)) => return Err(self.flawed(flaw, &response, &reader)),
        }
        Ok(())
    }

    /// Notes the first pieces of an attempt; those of an earlier one are void from here.
    fn came(&mut self) {
        if self.pieces.is_empty() || self.ttft.is_some() {
            return;
        }
        self.ttft = Some(self.attempted.elapsed());
        if std::mem::take(&mut self.stale) && !crate::sabotage::is("double_text") {
            self.pieces.push_front(Piece::Restart);
        }
    }

    async fn ending(&mut self, mut response: Response, finish: Finish) {
        let until = Instant::now() + Duration::from_millis(END_MS);
        while let Ok(Ok(Some(_))) = timeout_at(until, response.chunk()).await {}
        if std::mem::take(&mut self.stale) {
            self.pieces.push_back(Piece::Restart);
        }
        let today = Timestamp(i64::try_from(unix_ms()).unwrap_or(i64::MAX)).to_string();
        let cost = self.prices.cost(&self.model, &finish, &today);
        let prompt = Some(self.guess.spent(finish.input_tokens, self.window));
        self.pieces.push_back(Piece::Finish(Finish {
            cost,
            prompt,
            attempt: self.attempt,
            ttft_ms: ms(self.ttft.unwrap_or_else(|| self.attempted.elapsed())),
            duration_ms: ms(self.asked.elapsed()),
            endpoint: Some(self.site.origin.clone()),
            ..finish
        }));
    }

    fn deadline(&self) -> Instant {
        self.asked + self.site.deadlines.total
    }

    /// Waits for `step` until its own deadline or the call's.
    async fn within<T>(&self, until: Instant, step: impl Future<Output = T>) -> Result<T, Failure> {
        let total = self.deadline();
        timeout_at(until.min(total), step).await.map_err(|_| {
            let (what, passing) = if until >= total {
                (format!("took longer than {} ms in all", ms(self.site.deadlines.total)), false)
            } else if self.ttft.is_none() {
                (format!("gave no text for {} ms", ms(until - self.attempted)), true)
            } else {
                (format!("fell silent for {} ms", ms(self.site.deadlines.idle)), false)
            };
            self.failed(Reason::Timeout, passing, &what)
        })
    }

    /// The connection could not be made, or broke.
    fn unreachable(&self, err: &reqwest::Error) -> Failure {
        let cause = deepest(err);
        if err.is_connect() && err.is_timeout() {
            let what = format!("no connection in {} ms", ms(self.site.deadlines.connect));
            return self.failed(Reason::Timeout, true, &what);
        }
        let what = if err.is_connect() { "cannot be reached" } else { "broke the connection" };
        self.failed(Reason::Unavailable, true, &format!("{what}: {cause}"))
    }

    /// The provider answered with an error status: reads why, as far as it says.
    async fn refused(&self, mut response: Response) -> Failure {
        let status = response.status().as_u16();
        let wanted_ms = wanted_pause_ms(response.headers());
        let until = (Instant::now() + Duration::from_millis(ERROR_BODY_MS)).min(self.deadline());
        let mut body = Vec::new();
        while body.len() < ERROR_BYTES_MAX
            && let Ok(Ok(Some(bytes))) = timeout_at(until, response.chunk()).await
        {
            body.extend_from_slice(&bytes[..bytes.len().min(ERROR_BYTES_MAX - body.len())]);
        }
        let Fault { reason, passing, words, wanted_ms: said_ms } = fault::of_status(status, &body);
        let colon = if words.is_empty() { "" } else { ": " };
        let mut failure = self.failed(reason, passing, &format!("answered {status}{colon}{words}"));
        failure.error.retry_after_ms = wanted_ms.or(said_ms);
        failure
    }

    /// The answer began well and is not whole.
    fn flawed(&self, flaw: Flaw, response: &Response, reader: &Reader) -> Failure {
        match flaw {
            Flaw::Said(fault) => {
                let what = format!("broke off: {}", fault.words);
                let mut failure = self.failed(fault.reason, fault.passing, &what);
                failure.error.retry_after_ms = fault.wanted_ms;
                failure
            }
            Flaw::Bad(what) => self.failed(Reason::BadAnswer, false, &what),
            Flaw::Cut if reader.saw_nothing() && is_page(response.headers()) => {
                let what = "answered with a page, not a model's answer; is `base_url` right?";
                self.failed(Reason::BadAnswer, false, what)
            }
            Flaw::Cut => self.failed(Reason::Unavailable, true, "cut its answer short"),
        }
    }

    fn failed(&self, reason: Reason, passing: bool, what: &str) -> Failure {
        let message = self.site.shown(&format!("`{}` {what}", self.site.origin));
        Failure { error: ModelError { reason, message, retry_after_ms: None }, passing }
    }
}

/// When the provider wants to be asked again.
fn wanted_pause_ms(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    if let Some(wanted_ms) = text("retry-after-ms").and_then(|it| it.trim().parse().ok()) {
        return Some(wanted_ms);
    }
    retry_after_ms(text(RETRY_AFTER.as_str())?, unix_ms() / 1_000)
}

fn unix_ms() -> u64 {
    ms(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/") && !kind.starts_with("text/event-stream")
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
