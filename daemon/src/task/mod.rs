//! One run of one request: what the model sees, the model asked, its pieces given to the session.

mod context;

use std::sync::Arc;

use futures_util::StreamExt;
use sess_protocol::id::MessageId;
use sess_protocol::things::{ModelReason, TaskError, TaskReason};
use tokio::sync::mpsc;

use crate::agents;
use crate::model::{Finish, Model, ModelError, Piece, Prompt, PromptMessage};
use crate::shared::Shared;

pub use context::Context;
pub(crate) use context::blob_bytes;

/// Steps that wait for the session; behind that the model waits.
pub const STEPS_MAX: usize = 16;
/// Pieces that are taken together when they are there together.
const PIECES_MAX: usize = 256;

/// What a run reports to its session.
#[derive(Debug)]
pub enum Step {
    /// More of the answer, in order. The last may be [`Piece::Finish`].
    Pieces(Vec<Piece>),
    /// What the model saw, kept for the next run.
    Context(Context),
    /// The run failed for good.
    Failed(TaskReason, TaskError),
}

/// What a run needs.
pub struct Job {
    /// The model.
    pub model: Arc<dyn Model>,
    /// The provider's own name of it.
    pub name: String,
    /// Who answers.
    pub agent: String,
    /// The path of the session's workspace.
    pub workspace: Option<String>,
    /// The session's own system prompt.
    pub system: Option<String>,
    /// The session.
    pub session: sess_protocol::id::SessionId,
    /// The message that is answered.
    pub head: MessageId,
    /// What the run before saw.
    pub context: Option<Context>,
}

/// Runs until the answer is whole or the run failed. To cancel is to drop.
pub async fn run(shared: Arc<Shared>, job: Job, steps: mpsc::Sender<Step>) {
    let context = job.context.unwrap_or_default();
    let context = match context.reach(&*shared.store, job.session, job.head).await {
        Ok(context) => context,
        Err(err) => {
            let error = failure(err.to_string(), None, None);
            let _ = steps.send(Step::Failed(TaskReason::Internal, error)).await;
            return;
        }
    };
    let messages: Vec<PromptMessage> = context.messages().to_vec();
    if steps.send(Step::Context(context)).await.is_err() {
        return;
    }
    // What the settings say of the agent holds from the next task on, so it is asked for here.
    let settings = shared.settings(job.workspace.as_deref()).await;
    let system = agents::system(&settings, &job.agent, job.system);
    let prompt = Prompt { model: job.name, system, messages };
    let mut stream = job.model.ask(prompt).ready_chunks(PIECES_MAX);
    while let Some(batch) = stream.next().await {
        let mut pieces = Vec::with_capacity(batch.len());
        let mut failed = None;
        for piece in batch {
            match piece {
                Ok(piece) => pieces.push(piece),
                Err(err) => failed = Some(err),
            }
        }
        let is_whole = pieces.iter().any(|it| matches!(it, Piece::Finish(_)));
        if !pieces.is_empty() && steps.send(Step::Pieces(pieces)).await.is_err() {
            return;
        }
        if let Some(err) = failed {
            let _ = steps.send(model_failed(err)).await;
            return;
        }
        if is_whole {
            return;
        }
    }
    let error =
        failure("the model's answer has no end".to_owned(), Some(ModelReason::BadAnswer), None);
    let _ = steps.send(Step::Failed(TaskReason::Model, error)).await;
}

fn model_failed(err: ModelError) -> Step {
    let error = failure(err.message, Some(err.reason), err.retry_after_ms);
    Step::Failed(TaskReason::Model, error)
}

fn failure(message: String, reason: Option<ModelReason>, retry_after_ms: Option<u64>) -> TaskError {
    TaskError { message, reason, retry_after_ms }
}

/// What a whole answer's end says, in the words of a message.
#[must_use]
pub fn usage_of(finish: &Finish) -> sess_protocol::things::Usage {
    sess_protocol::things::Usage {
        input_tokens: finish.input_tokens,
        output_tokens: finish.output_tokens,
        total_tokens: finish.input_tokens + finish.output_tokens,
        cache_read_tokens: finish.cache_read_tokens,
        cache_write_tokens: finish.cache_write_tokens,
        reasoning_tokens: finish.reasoning_tokens,
        cost_usd: finish.cost.map(|it| it.to_string()),
    }
}
