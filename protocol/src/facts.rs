//! The table of event types. Each: what it tells, its data, an example as it lies in a commit.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{FactType, Gone, ReleaseReason, facts};
use crate::id::{MessageId, SessionId};
use crate::things::{
    ApprovalPatch, CallPatch, CheckpointPatch, CompactionPatch, DeadLetterPatch, FileChangePatch,
    GoalPatch, GrantPatch, MessagePatch, NotePatch, PlanPatch, SessionPatch, TaskPatch,
    ThreadPatch, ToolCallPatch,
};

facts! {
    /// A session was made, with its first thread.
    SessionCreated "session.created" {
        must {
            /// The whole session.
            session: SessionPatch,
            /// Its first thread, whole.
            thread: ThreadPatch,
        }
        may {}
    }
    r#"{"seq":1,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.created","data":{"session":{"id":"sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0","title":"hello","status":"active","model":"echo/echo","mode":"ask","scope":"global","agent":"general","thread":"main","created_at":"2026-11-21T10:00:00.000Z","updated_at":"2026-11-21T10:00:00.000Z","active_at":"2026-11-21T10:00:00.000Z","messages":0,"tasks":0,"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"iterations":0,"queued":0,"approvals":0,"seq":1,"metadata":{},"tags":[]},"thread":{"id":"main","messages":0,"created_at":"2026-11-21T10:00:00.000Z"}}}"#
    /// A session's members were changed by a person, or it was made the active one.
    SessionUpdated "session.updated" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.updated","data":{"session":{"title":"a better title","metadata":{"color":"red"}}}}"#
    /// A session is gone. In the `global` log it stays; a follower of the session gets it last.
    SessionDeleted "session.deleted" {
        must {
            /// The session that is gone.
            deleted: SessionId,
            /// Backups made before, which still hold it.
            backups: Vec<String>,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.deleted","data":{"deleted":"sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0","backups":[]}}"#
    /// A client took the exclusive right to input.
    SessionLocked "session.locked" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.locked","data":{"session":{"lock":{"id":"lock_01998f2e4c0070008000000000000006","holder":{"client":"sess","pid":4242,"since":"2026-11-21T10:00:00.000Z"}}}}}"#
    /// A lock ended.
    SessionReleased "session.released" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
            /// What ended it.
            why: ReleaseReason,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.released","data":{"session":{"lock":null},"why":"released"}}"#
    /// There is no active session until one is made active. Only in the `global` log.
    SessionCleared "session.cleared" {
        must {}
        may {
            /// The workspace that it is about; over all without.
            workspace: String,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"session.cleared","data":{"workspace":"/home/ada/project"}}"#
    /// A request was accepted and waits, or went back to the queue.
    TaskQueued "task.queued" {
        must {
            /// The whole task when it is accepted.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"task":"task_01998f2e4c0070008000000000000001","type":"task.queued","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","session":"sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0","status":"queued","request":{"message":"msg_01998f2e4c0070008000000000000002","content":[{"type":"text","text":"hello"}],"by":{"client":"sess","pid":4242}},"order":1,"model":"echo/echo","created_at":"2026-11-21T10:00:00.000Z","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"thread":"main"},"session":{"active_at":"2026-11-21T10:00:00.000Z","tasks":1,"queued":1}}}"#
    /// A waiting task was changed, or a running one was told more.
    TaskUpdated "task.updated" {
        must {
            /// The task.
            task: TaskPatch,
        }
        may {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"task":"task_01998f2e4c0070008000000000000001","type":"task.updated","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","order":0}}}"#
    /// A task runs. It carries the whole task where no `task.queued` came before; its request's message unless that was appended before a restart.
    TaskStarted "task.started" {
        must {
            /// The task.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.started","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"running","request":{"message":"msg_01998f2e4c0070008000000000000002"},"started_at":"2026-11-21T10:00:00.000Z"},"session":{"messages":1,"queued":0,"running":"task_01998f2e4c0070008000000000000001"},"message":{"id":"msg_01998f2e4c0070008000000000000002","thread":"main","seq":7,"role":"user","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"complete","kind":"text","task":"task_01998f2e4c0070008000000000000001","by":{"client":"sess","pid":4242}},"thread":{"id":"main","messages":1,"head":"msg_01998f2e4c0070008000000000000002"}}}"#
    /// A task waits for an answer.
    TaskWaiting "task.waiting" {
        must {
            /// The task.
            task: TaskPatch,
        }
        may {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.waiting","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"waiting"}}}"#
    /// A task goes on.
    TaskResumed "task.resumed" {
        must {
            /// The task.
            task: TaskPatch,
        }
        may {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.resumed","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"running"}}}"#
    /// A task is done.
    TaskCompleted "task.completed" {
        must {
            /// The task.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.completed","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"completed","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"ended_at":"2026-11-21T10:00:00.000Z"},"session":{"messages":2,"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"iterations":1,"preview":"hello","running":null},"message":{"id":"msg_01998f2e4c0070008000000000000003","thread":"main","seq":7,"role":"assistant","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"complete","kind":"text","parent":"msg_01998f2e4c0070008000000000000002","task":"task_01998f2e4c0070008000000000000001","model":"echo/echo","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"attempt":1,"ttft_ms":0,"duration_ms":1,"stop_reason":"stop"},"thread":{"id":"main","messages":2,"head":"msg_01998f2e4c0070008000000000000003"}}}"#
    /// A task failed for good.
    TaskFailed "task.failed" {
        must {
            /// The task.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.failed","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"failed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"reason":"model","ended_at":"2026-11-21T10:00:00.000Z","error":{"message":"the key is refused","reason":"auth"}},"session":{"status":"error","running":null}}}"#
    /// A task was ended by a person or by a later request.
    TaskCancelled "task.cancelled" {
        must {
            /// The task.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.cancelled","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"cancelled","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"reason":"user","ended_at":"2026-11-21T10:00:00.000Z"},"session":{"messages":2,"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"iterations":1,"preview":"hello","running":null},"message":{"id":"msg_01998f2e4c0070008000000000000003","thread":"main","seq":7,"role":"assistant","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"partial","kind":"text","parent":"msg_01998f2e4c0070008000000000000002","task":"task_01998f2e4c0070008000000000000001","model":"echo/echo","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"attempt":1,"ttft_ms":0,"duration_ms":1,"stop_reason":"stop"},"thread":{"id":"main","messages":2,"head":"msg_01998f2e4c0070008000000000000003"}}}"#
    /// A task was ended by the daemon's own end.
    TaskInterrupted "task.interrupted" {
        must {
            /// The task.
            task: TaskPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"task.interrupted","data":{"task":{"id":"task_01998f2e4c0070008000000000000001","status":"interrupted","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"reason":"crash","ended_at":"2026-11-21T10:00:00.000Z"},"session":{"messages":2,"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"iterations":1,"preview":"hello","running":null},"message":{"id":"msg_01998f2e4c0070008000000000000003","thread":"main","seq":7,"role":"assistant","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"partial","kind":"text","parent":"msg_01998f2e4c0070008000000000000002","task":"task_01998f2e4c0070008000000000000001","model":"echo/echo","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"attempt":1,"ttft_ms":0,"duration_ms":1,"stop_reason":"stop"},"thread":{"id":"main","messages":2,"head":"msg_01998f2e4c0070008000000000000003"}}}"#
    /// A message that belongs to no other event was appended.
    MessageAppended "message.appended" {
        must {
            /// The message that it appends.
            message: MessagePatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The thread's new head.
            thread: ThreadPatch,
            /// The task that said it or reads it, where that changes.
            task: TaskPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"message.appended","data":{"message":{"id":"msg_01998f2e4c0070008000000000000002","thread":"main","seq":7,"role":"user","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"complete","kind":"text","task":"task_01998f2e4c0070008000000000000001","by":{"client":"sess","pid":4242}},"session":{"messages":1},"thread":{"id":"main","messages":1,"head":"msg_01998f2e4c0070008000000000000002"}}}"#
    /// The model asked for a tool.
    ToolProposed "tool.proposed" {
        must {
            /// The call.
            tool_call: ToolCallPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"tool.proposed","data":{"tool_call":{"id":"call_01998f2e4c0070008000000000000004","task":"task_01998f2e4c0070008000000000000001","name":"shell","input":{"command":"ls"},"danger":"low","status":"proposed"}}}"#
    /// A tool runs from here on; what it does cannot be undone by a crash.
    ToolStarted "tool.started" {
        must {
            /// The call.
            tool_call: ToolCallPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"tool.started","data":{"tool_call":{"id":"call_01998f2e4c0070008000000000000004","status":"running","rule":"mode auto","started_at":"2026-11-21T10:00:00.000Z"}}}"#
    /// A tool call came to its end, with its result for the model.
    ToolFinished "tool.finished" {
        must {
            /// The call.
            tool_call: ToolCallPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The thread's new head.
            thread: ThreadPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"tool.finished","data":{"tool_call":{"id":"call_01998f2e4c0070008000000000000004","status":"done","result":"msg_01998f2e4c0070008000000000000003","duration_ms":12},"message":{"id":"msg_01998f2e4c0070008000000000000003","thread":"main","seq":7,"role":"tool","content":[{"type":"tool_result","tool_use_id":"call_01998f2e4c0070008000000000000004","content":[{"type":"text","text":"ok"}],"is_error":false}],"at":"2026-11-21T10:00:00.000Z","status":"complete","kind":"tool_payload","parent":"msg_01998f2e4c0070008000000000000002","task":"task_01998f2e4c0070008000000000000001"},"thread":{"id":"main","messages":2,"head":"msg_01998f2e4c0070008000000000000003"},"session":{"messages":2}}}"#
    /// A person is asked.
    ApprovalRequested "approval.requested" {
        must {
            /// The whole question.
            approval: ApprovalPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The call.
            tool_call: ToolCallPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"approval.requested","data":{"approval":{"id":"appr_01998f2e4c0070008000000000000005","kind":"permission","session":"sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0","task":"task_01998f2e4c0070008000000000000001","title":"run `ls`","options":["allow","deny"],"status":"pending","at":"2026-11-21T10:00:00.000Z","tool_call":"call_01998f2e4c0070008000000000000004","input":{"command":"ls"},"input_digest":"sha256:00","danger":"low"},"session":{"approvals":1},"tool_call":{"id":"call_01998f2e4c0070008000000000000004","status":"waiting"}}}"#
    /// A question was answered, expired or was taken back.
    ApprovalAnswered "approval.answered" {
        must {
            /// What was decided.
            approval: ApprovalPatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The call.
            tool_call: ToolCallPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"task":"task_01998f2e4c0070008000000000000001","type":"approval.answered","data":{"approval":{"id":"appr_01998f2e4c0070008000000000000005","status":"answered","decision":"allow","answered_by":{"client":"sess","pid":4242}},"session":{"approvals":0}}}"#
    /// A decision will last.
    GrantAdded "grant.added" {
        must {
            /// The whole grant.
            grant: GrantPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"grant.added","data":{"grant":{"id":"grant_01998f2e4c0070008000000000000007","tool":"shell","pattern":"ls *","decision":"allow","session":"sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0"}}}"#
    /// A lasting decision ended.
    GrantRevoked "grant.revoked" {
        must {
            /// The grant that is gone.
            grant: Gone,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"grant.revoked","data":{"grant":{"id":"grant_01998f2e4c0070008000000000000007","removed":true}}}"#
    /// A tool changed a file.
    FileChanged "file.changed" {
        must {
            /// The whole change.
            file_change: FileChangePatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"file.changed","data":{"file_change":{"id":"fc-1","task":"task_01998f2e4c0070008000000000000001","tool_call":"call_01998f2e4c0070008000000000000004","path":"notes.txt","kind":"create","status":"applied","after":"sha256:00"}}}"#
    /// A file's change was taken back.
    FileUndone "file.undone" {
        must {
            /// Its new state.
            file_change: FileChangePatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"task":"task_01998f2e4c0070008000000000000001","type":"file.undone","data":{"file_change":{"id":"fc-1","status":"undone"}}}"#
    /// A file's change was made again.
    FileRedone "file.redone" {
        must {
            /// Its new state.
            file_change: FileChangePatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"task":"task_01998f2e4c0070008000000000000001","type":"file.redone","data":{"file_change":{"id":"fc-1","status":"applied"}}}"#
    /// A thread was made at a message.
    ThreadForked "thread.forked" {
        must {
            /// The whole thread.
            thread: ThreadPatch,
        }
        may {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"thread.forked","data":{"thread":{"id":"fork-1a2b3c4d","messages":1,"created_at":"2026-11-21T10:00:00.000Z","parent":"main","fork_message":"msg_01998f2e4c0070008000000000000002","fork_index":0,"head":"msg_01998f2e4c0070008000000000000002"}}}"#
    /// Another thread is the current one.
    ThreadSwitched "thread.switched" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
            /// The thread before.
            from: String,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"thread.switched","data":{"session":{"thread":"fork-1a2b3c4d"},"from":"main"}}"#
    /// A thread points to another head.
    ThreadMoved "thread.moved" {
        must {
            /// Its new head.
            thread: ThreadPatch,
            /// What moved it.
            why: String,
        }
        may {
            /// The head before.
            from: MessageId,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"thread.moved","data":{"thread":{"id":"main","messages":1,"head":"msg_01998f2e4c0070008000000000000002"},"why":"rollback","from":"msg_01998f2e4c0070008000000000000003"}}"#
    /// A thread has another label.
    ThreadRenamed "thread.renamed" {
        must {
            /// Its new label.
            thread: ThreadPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"thread.renamed","data":{"thread":{"id":"main","label":"first try"}}}"#
    /// A moment to come back to was kept.
    CheckpointCreated "checkpoint.created" {
        must {
            /// The whole checkpoint.
            checkpoint: CheckpointPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"checkpoint.created","data":{"checkpoint":{"id":"cp_01998f2e4c0070008000000000000008","thread":"main","trigger":"manual","goals":[],"plans":[],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"tokens":5,"at":"2026-11-21T10:00:00.000Z","head":"msg_01998f2e4c0070008000000000000003"}}}"#
    /// A checkpoint is gone.
    CheckpointDeleted "checkpoint.deleted" {
        must {
            /// The checkpoint that is gone.
            checkpoint: Gone,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"checkpoint.deleted","data":{"checkpoint":{"id":"cp_01998f2e4c0070008000000000000008","removed":true}}}"#
    /// The context was cut short by a summary beside the path.
    CompactionDone "compaction.done" {
        must {
            /// The whole compaction.
            compaction: CompactionPatch,
        }
        may {
            /// The message that it appends.
            message: MessagePatch,
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"compaction.done","data":{"compaction":{"id":"cmp_01998f2e4c0070008000000000000009","thread":"main","at":"msg_01998f2e4c0070008000000000000002","summary":"msg_01998f2e4c0070008000000000000003","keep_from":"msg_01998f2e4c0070008000000000000002","before":9000,"after":1200,"saved_tokens":7800},"message":{"id":"msg_01998f2e4c0070008000000000000003","thread":"main","seq":7,"role":"assistant","content":[{"type":"text","text":"hello"}],"at":"2026-11-21T10:00:00.000Z","status":"complete","kind":"summary","parent":"msg_01998f2e4c0070008000000000000002","task":"task_01998f2e4c0070008000000000000001","model":"echo/echo","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"attempt":1,"ttft_ms":0,"duration_ms":1,"stop_reason":"stop"}}}"#
    /// A goal was added, changed or removed.
    GoalChanged "goal.changed" {
        must {
            /// The goal.
            goal: GoalPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","by":{"client":"sess","pid":4242},"type":"goal.changed","data":{"goal":{"n":1,"text":"ship it","status":"active","created_at":"2026-11-21T10:00:00.000Z"}}}"#
    /// A plan was proposed or changed.
    PlanChanged "plan.changed" {
        must {
            /// The plan.
            plan: PlanPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"plan.changed","data":{"plan":{"n":1,"title":"first","steps":[{"text":"look","status":"pending"}],"status":"pending","at":"2026-11-21T10:00:00.000Z"}}}"#
    /// Something worth keeping was said.
    NoteAdded "note.added" {
        must {
            /// The whole note.
            note: NotePatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"note.added","data":{"note":{"n":1,"kind":"decision","text":"use one file","at":"2026-11-21T10:00:00.000Z"}}}"#
    /// A model call without a message used something.
    UsageRecorded "usage.recorded" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
        }
        may {
            /// The task that it was for.
            task: TaskPatch,
            /// The call, by the id that its message would have had.
            call: CallPatch,
        }
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"usage.recorded","data":{"call":{"id":"msg_01998f2e4c0070008000000000000003","model":"echo/echo","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001"},"session":{"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5,"cache_read_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":null},"iterations":2}}}"#
    /// A budget is spent.
    BudgetReached "budget.reached" {
        must {
            /// The session's counters and states that it changes.
            session: SessionPatch,
            /// Which member of the budget.
            limit: String,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"budget.reached","data":{"session":{"status":"paused"},"limit":"tokens"}}"#
    /// Something that failed waits for a person, or was dealt with.
    DeadLetterChanged "dead_letter.changed" {
        must {
            /// The dead letter.
            dead_letter: DeadLetterPatch,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","task":"task_01998f2e4c0070008000000000000001","type":"dead_letter.changed","data":{"dead_letter":{"id":"dl_01998f2e4c007000800000000000000a","operation":"model","payload":{"model":"echo/echo"},"error":"timeout","attempts":3,"status":"open"}}}"#
    /// Something that a person should know.
    Notice "notice" {
        must {
            /// What it is.
            text: String,
        }
        may {}
    }
    r#"{"seq":7,"at":"2026-11-21T10:00:00.000Z","type":"notice","data":{"text":"the projections of this session were rebuilt from its log"}}"#
}
