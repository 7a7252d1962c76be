//! How is a question answered, step by step?

use std::future::Future;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::dialect::{Asked, Dialect, End, Whole, Words};
use super::http::{Conn, Request, head};
use super::log::{How, Part, What};
use super::out::{Out, Stop};
use super::script::{Script, Step};
use super::sse;
use super::state::{Shared, shown_headers};

/// Answers a question in any of the protocols; whether the connection can take another request.
pub(super) async fn answer(
    conn: &mut Conn<'_>,
    shared: &Shared,
    dialect: Dialect,
    request: Request,
) -> bool {
    let asked = match Asked::read(dialect, &request) {
        Ok(asked) => asked,
        Err(err) => {
            let body = dialect.error_body(400, &format!("the body is no question: {err}"));
            return conn.reply(400, &body, request.keep_alive).await.is_ok();
        }
    };
    let number = shared.number();
    let received = What::Request {
        model: asked.model.clone(),
        messages: asked.messages.clone(),
        stream: asked.stream,
        headers: shown_headers(&request),
    };
    shared.record(number, received);
    let _running = shared.count_running();
    let script = shared.script(&asked.model);
    let mut answer = Answer {
        conn,
        shared,
        number,
        keep_alive: request.keep_alive,
        words: dialect.words(number, &asked),
        asked,
        out: Out::new(number, script.cut_at()),
        started: false,
        role_said: false,
        ended: false,
        pieces: 0,
        text: String::new(),
        reasoning: String::new(),
        raw: None,
        error: None,
        usage: None,
        finish: Some("stop".to_owned()),
        done: true,
    };
    answer.play(script).await
}

struct Answer<'a, 'c> {
    conn: &'a mut Conn<'c>,
    shared: &'a Shared,
    number: u64,
    keep_alive: bool,
    asked: Asked,
    words: Box<dyn Words>,
    out: Out,
    /// The head is on its way.
    started: bool,
    role_said: bool,
    /// An error took the place of the answer.
    ended: bool,
    pieces: u64,
    /// What an answer that is not streamed gathers.
    text: String,
    reasoning: String,
    raw: Option<Vec<u8>>,
    error: Option<Value>,
    usage: Option<Value>,
    finish: Option<String>,
    done: bool,
}

impl Answer<'_, '_> {
    async fn play(&mut self, script: Arc<Script>) -> bool {
        let mut result = self.run(&script).await;
        if result == Err(Stop::Cut) {
            // What comes before the cut still has to arrive.
            result = self.flush().await.and(Err(Stop::Cut));
        }
        let how = match result {
            Ok(()) => return self.keep_alive,
            Err(Stop::Cut) => How::Cut,
            Err(Stop::Gone) => {
                self.shared.count_disconnect();
                How::Disconnected
            }
        };
        let pieces = self.out.pieces_sent();
        self.shared.record(self.number, What::Ended { how, pieces });
        false
    }

    async fn run(&mut self, script: &Script) -> Result<(), Stop> {
        for step in &script.steps {
            self.step(step).await?;
            if self.ended {
                return Ok(());
            }
        }
        if self.asked.stream { self.end_stream().await } else { self.send_whole().await }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Text(text) => self.piece(Part::Text, "content", text).await,
            Step::Reasoning(text, field) => self.piece(Part::Reasoning, field, text).await,
            Step::Pieces(count, text, every) => self.generate(*count, text, *every).await,
            Step::Echo => self.echo().await,
            Step::Delay(delay) => self.wait(sleep(*delay)).await,
            Step::Hold(name) => self.hold(name).await,
            Step::Stall => self.wait(std::future::pending()).await,
            Step::Status(status, headers, body) => self.refuse(*status, headers, body).await,
            Step::Error(error) => self.error(error),
            Step::Raw(bytes) => self.raw(bytes),
            Step::Cut => self.cut(),
            Step::Head => {
                self.start();
                Ok(())
            }
            other => {
                self.set(other);
                Ok(())
            }
        }
    }

    fn set(&mut self, step: &Step) {
        match step {
            Step::Split(bytes) => self.out.split(*bytes),
            Step::Usage(usage) => self.usage = Some(usage.clone()),
            Step::Finish(finish) => self.finish.clone_from(finish),
            Step::Done(done) => self.done = *done,
            _ => {} // The place of a cut was looked up before the first step.
        }
    }

    async fn piece(&mut self, part: Part, field: &str, text: &str) -> Result<(), Stop> {
        let index = self.pieces;
        self.pieces += 1;
        if !self.asked.stream {
            match part {
                Part::Text => self.text.push_str(text),
                Part::Reasoning => self.reasoning.push_str(text),
            }
            return Ok(());
        }
        self.start();
        if !self.role_said {
            self.role_said = true;
            self.out.push(|body| self.words.start(body), None)?;
        }
        let bytes = text.len() as u64;
        let mark = What::Piece { index, part, bytes, text: text.to_owned() };
        self.out.push(|body| self.words.piece(body, part, field, text), Some(mark))?;
        if self.out.is_full() { self.flush().await } else { Ok(()) }
    }

    async fn generate(
        &mut self,
        count: u64,
        text: &str,
        every: Option<Duration>,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        for i in 0..count {
            // Against the start, so that a late piece does not make all later ones late.
            if let Some(every) = every.filter(|_| i > 0) {
                self.wait(sleep_until(start + every.mul_f64(i as f64))).await?;
            }
            self.piece(Part::Text, "content", &text.replace("{i}", &i.to_string())).await?;
        }
        Ok(())
    }

    async fn echo(&mut self) -> Result<(), Stop> {
        let text = sse::last_user_text(&self.asked.messages.value());
        for word in text.split_inclusive(char::is_whitespace) {
            self.piece(Part::Text, "content", word).await?;
        }
        Ok(())
    }

    async fn hold(&mut self, name: &str) -> Result<(), Stop> {
        self.flush().await?;
        self.shared.record(self.number, What::Held { hold: name.to_owned() });
        let shared = self.shared;
        self.wait(shared.wait_hold(name)).await
    }

    /// Sends what there is, then waits for something, or for the client to leave.
    async fn wait(&mut self, what: impl Future<Output = ()>) -> Result<(), Stop> {
        self.flush().await?;
        tokio::select! {
            biased;
            () = self.conn.reader.closed() => Err(Stop::Gone),
            () = what => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.out.flush(self.conn, self.shared).await
    }

    fn start(&mut self) {
        if self.asked.stream && !self.started {
            self.started = true;
            let id = format!("req-{}", self.number);
            let headers = [
                ("content-type", self.words.content_type()),
                ("cache-control", "no-cache"),
                ("x-request-id", id.as_str()),
            ];
            self.out.head(200, head(200, &headers, self.keep_alive), None);
        }
    }

    fn error(&mut self, error: &Value) -> Result<(), Stop> {
        if !self.asked.stream {
            self.error = Some(error.clone());
            return Ok(());
        }
        self.start();
        self.finish = None;
        self.done = false;
        self.out.push(|body| self.words.error(body, error), None)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if !self.asked.stream {
            self.raw.get_or_insert_default().extend_from_slice(bytes);
            return Ok(());
        }
        self.start();
        self.out.push(|body| body.extend_from_slice(bytes), None)
    }

    /// An answer that is not streamed is cut in the middle of what it would have been.
    fn cut(&mut self) -> Result<(), Stop> {
        if !self.asked.stream && (self.pieces > 0 || self.raw.is_some()) {
            let body = self.whole_body(200);
            self.head_whole(200, &[], body.len());
            self.out.push(|it| it.extend_from_slice(&body[..body.len() / 2]), None)?;
        }
        Err(Stop::Cut)
    }

    async fn end_stream(&mut self) -> Result<(), Stop> {
        self.start();
        let end = self.end();
        self.out.push(|body| self.words.end(body, &end), None)?;
        self.finish_out().await
    }

    async fn send_whole(&mut self) -> Result<(), Stop> {
        let status = if self.error.is_some() { 500 } else { 200 };
        let body = self.whole_body(status);
        self.head_whole(status, &[], body.len());
        let text = std::mem::take(&mut self.text);
        self.pieces = 1;
        let bytes = text.len() as u64;
        let mark = What::Piece { index: 0, part: Part::Text, bytes, text };
        let mark = Some(mark).filter(|_| status == 200 && self.raw.is_none());
        self.out.push(|it| it.extend_from_slice(&body), mark)?;
        self.finish_out().await
    }

    async fn refuse(
        &mut self,
        status: u16,
        headers: &[(String, String)],
        body: &Option<Value>,
    ) -> Result<(), Stop> {
        let body = match body {
            Some(Value::String(text)) => text.clone(),
            Some(body) => body.to_string(),
            None => {
                let words = format!("scripted status {status}");
                self.asked.dialect.error_body(status, &words).to_string()
            }
        };
        self.head_whole(status, headers, body.len());
        self.out.push(|it| it.extend_from_slice(body.as_bytes()), None)?;
        self.ended = true;
        self.finish_out().await
    }

    async fn finish_out(&mut self) -> Result<(), Stop> {
        self.out.end(What::Ended { how: How::Complete, pieces: self.pieces });
        self.flush().await
    }

    fn head_whole(&mut self, status: u16, headers: &[(String, String)], bytes: usize) {
        let id = format!("req-{}", self.number);
        let mut all = vec![("content-type", "application/json"), ("x-request-id", id.as_str())];
        for (name, value) in headers {
            all.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
            all.push((name, value));
        }
        self.out.head(status, head(status, &all, self.keep_alive), Some(bytes));
    }

    fn whole_body(&self, status: u16) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        if status != 200 {
            return json!({ "error": self.error }).to_string().into_bytes();
        }
        let whole = Whole { text: &self.text, reasoning: &self.reasoning, end: self.end() };
        self.words.whole(&whole).to_string().into_bytes()
    }

    fn end(&self) -> End {
        End { finish: self.finish.clone(), usage: self.usage(), done: self.done }
    }

    fn usage(&self) -> Value {
        match &self.usage {
            Some(usage) => usage.clone(),
            None => sse::usage(&self.asked.messages.value(), self.pieces),
        }
    }
}
