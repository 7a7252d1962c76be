//! Which promises can be broken, and where is it likely to be seen first?

/// A suite of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Suite {
    /// The daemon's own tests: its pure parts, and what every store must do.
    Daemon,
    /// Stories through the socket.
    Socket,
    /// Followers.
    Attach,
    /// Bad input, those who do not read, too few descriptors.
    Bounds,
    /// Power cuts, kills and damage.
    Durable,
    /// The daemon over a store in memory, by seeds.
    Simulation,
    /// Disks that are full, fail or lose their power, and the daemon's own end.
    Storage,
}

impl Suite {
    /// In the order in which they are run when nothing speaks for another.
    pub(super) const ALL: [Suite; 7] = [
        Suite::Daemon,
        Suite::Socket,
        Suite::Simulation,
        Suite::Attach,
        Suite::Bounds,
        Suite::Durable,
        Suite::Storage,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Suite::Daemon => "daemon",
            Suite::Socket => "it",
            Suite::Attach => "attach",
            Suite::Bounds => "bounds",
            Suite::Durable => "durable",
            Suite::Simulation => "simulation",
            Suite::Storage => "storage",
        }
    }

    /// What cargo calls it.
    pub(super) fn target(self) -> &'static str {
        match self {
            Suite::Daemon => "sess_daemon",
            other => other.name(),
        }
    }

    /// Where it lies in the workspace.
    pub(super) fn package(self) -> &'static str {
        match self {
            Suite::Daemon | Suite::Simulation => "daemon",
            Suite::Socket | Suite::Attach | Suite::Bounds | Suite::Durable | Suite::Storage => {
                "tests"
            }
        }
    }
}

/// Tests of a suite, by parts of their names.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) suite: Suite,
    pub(super) tests: &'static [&'static str],
}

/// A promise that can be broken.
#[derive(Debug)]
pub(super) struct Sabotage {
    /// Its name in the daemon.
    pub(super) name: &'static str,
    /// Where it is looked for before all else. Only time depends on it.
    pub(super) first: &'static [Look],
}

const fn daemon(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Daemon, tests }
}

const fn socket(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Socket, tests }
}

const fn attach(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Attach, tests }
}

const fn bounds(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Bounds, tests }
}

const fn durable(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Durable, tests }
}

const fn simulation(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Simulation, tests }
}

const fn storage(tests: &'static [&'static str]) -> Look {
    Look { suite: Suite::Storage, tests }
}

const fn broken(name: &'static str, first: &'static [Look]) -> Sabotage {
    Sabotage { name, first }
}

/// All that can be broken.
pub(super) const SABOTAGES: [Sabotage; 42] = [
    // Acknowledged is on disk.
    broken("answer_before_commit", &[durable(&["crash::a_power_cut"])]),
    broken("synchronous_normal", &[durable(&["crash::a_power_cut"])]),
    broken("tell_before_save", &[attach(&["refused::"])]),
    broken("no_partial", &[attach(&["kept::"])]),
    // Disks fail.
    broken("no_reserve", &[storage(&["full::a_full_tmpfs"])]),
    broken("goes_on_after_io_error", &[storage(&["sweep::"])]),
    broken("failed_sync_again", &[storage(&["sweep::"])]),
    // Attach at any moment.
    broken("follow_off_by_one", &[socket(&["follow::"])]),
    broken("lost_live", &[simulation(&[])]),
    broken("lossy_feed", &[attach(&["slow::who_reads_nothing_while_much"])]),
    broken("no_cursor_check", &[socket(&["follow::"])]),
    // One task, in order.
    broken("two_tasks", &[simulation(&[])]),
    broken("unbounded_queue", &[socket(&["one_task::", "chat::"])]),
    broken("queue_backwards", &[socket(&["one_task::", "chat::"])]),
    broken("no_requeue", &[socket(&["restart::"])]),
    broken("no_settling", &[socket(&["restart::"])]),
    broken("lost_steering", &[socket(&["steer::"])]),
    broken("lost_retry", &[socket(&["again::"])]),
    broken("no_abort", &[socket(&["chat::"])]),
    // Retries, expectations, locks, roles.
    broken("no_key_check", &[socket(&["keys::"])]),
    broken("no_expect_check", &[socket(&["keys::", "session::"])]),
    broken("no_lock_check", &[socket(&["lock::"])]),
    broken("no_role_check", &[socket(&["observer::"])]),
    broken("double_text", &[socket(&["failing::"])]),
    // What providers say.
    broken("cut_is_end", &[daemon(&["model::"]), socket(&["providers::"])]),
    broken("wrong_reason", &[daemon(&["model::"]), socket(&["providers::"])]),
    broken("rounded_cost", &[daemon(&["model::"]), socket(&["providers::"])]),
    broken("blind_send", &[socket(&["providers::"])]),
    // Damage is seen.
    broken("import_unproved", &[socket(&["exchange::"])]),
    broken("no_hash_check", &[daemon(&["store::sqlite"])]),
    broken("doctor_believes_all", &[durable(&["doctor::"])]),
    // The clock may go back.
    broken("ids_start_anew", &[socket(&["clock::a_start"])]),
    broken("ids_by_clock", &[socket(&["clock::"])]),
    broken("document_in_place", &[socket(&["documents::a_kill"])]),
    // Secrets stay where they are.
    broken("no_redaction", &[socket(&["secrets::a_canary"])]),
    // Nothing grows without a limit, and who is slow is not gone.
    broken("no_kept_descriptors", &[bounds(&["descriptors::"])]),
    broken("endless_answers", &[daemon(&["out::"])]),
    broken("slow_is_stuck", &[daemon(&["connection::"])]),
    // One daemon, one user.
    broken("any_parent", &[socket(&["others::"])]),
    broken("two_owners", &[daemon(&["socket::"]), socket(&["socket::"])]),
    broken("closed_handover", &[socket(&["handover::"])]),
    broken("no_uid_check", &[socket(&["socket::another_user"])]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::bins;

    fn switches(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                switches(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split("sabotage::is(\"").skip(1);
                found.extend(names.map(|it| it.split('"').next().unwrap().to_owned()));
            }
        }
    }

    #[test]
    fn each_switch_in_the_daemon_is_in_the_table_once() {
        let mut found = BTreeSet::new();
        switches(&bins::workspace().join("daemon/src"), &mut found);
        let listed: BTreeSet<String> = SABOTAGES.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(listed, found);
        assert_eq!(listed.len(), SABOTAGES.len());
    }
}
