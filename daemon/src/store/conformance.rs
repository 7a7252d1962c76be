//! What every store must do: cases that run against any of them, one test each.
//!
//! A store names a factory, `async fn() -> (Arc<dyn Store>, kept)`, in a module of tests:
//! `conformance::suite!(factory);`. `kept` lives as long as the case, such as a folder.

pub(crate) mod build;
pub(crate) mod delete;
pub(crate) mod import;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod sessions;
pub(crate) mod tasks;
pub(crate) mod usage;

/// Makes one test of each case for the stores of a factory.
macro_rules! suite {
    (@$module:ident $factory:path: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $case() {
                    let (store, _kept) = $factory().await;
                    $crate::store::conformance::$module::$case(store).await;
                }
            )*
        }
    };
    ($factory:path) => {
        $crate::store::conformance::suite!(@log $factory:
            a_commit_comes_back_byte_for_byte
            events_come_in_pages_without_gap_or_double
            each_event_has_the_mark_of_its_commit
            a_commit_that_does_not_follow_leaves_nothing
            a_key_brings_its_record_back
            a_taken_key_refuses_the_whole_commit
            a_key_is_free_again_after_seven_days
            a_key_is_kept_without_a_change
            of_many_commits_with_one_key_one_is_stored
            of_many_commits_behind_one_hash_one_is_stored
            a_hundred_commits_at_once_are_all_stored
            blobs_come_in_pieces
            counts_follow_what_there_is
            a_closed_store_takes_nothing
        );
        $crate::store::conformance::suite!(@load $factory:
            a_session_loads_as_its_events_fold
            what_is_settled_and_said_is_not_loaded
            any_history_loads_as_it_folds
            unknown_types_fold_and_a_front_ends_own_do_not
            the_global_log_is_always_there
            partial_text_grows_and_starts_over
            partial_text_ends_with_its_message
            partial_text_ends_with_its_task
            the_newest_id_is_that_of_a_task_a_message_or_an_answer_amid_its_writing
        );
        $crate::store::conformance::suite!(@messages $factory:
            the_newest_of_a_path_come_oldest_first
            pages_backward_and_forward_cover_the_path_once
            a_forked_path_follows_its_parents
            an_unknown_bound_answers_nothing
            a_message_is_answered_as_it_lies_in_its_event
            an_id_tells_where_it_lies
        );
        $crate::store::conformance::suite!(@sessions $factory:
            sessions_come_latest_first
            paging_covers_every_session_once
            each_filter_keeps_what_it_names
            text_is_looked_for_as_it_is_typed
            empty_sessions_hide_by_age
            unsettled_ones_are_found
            a_prefix_finds_sessions_by_their_digits
            a_title_finds_sessions_latest_first
            the_active_one_is_the_latest_made_active
            a_clear_holds_until_one_is_made_active
        );
        $crate::store::conformance::suite!(@tasks $factory:
            a_task_is_folded_from_its_events
            steering_comes_and_goes
            tasks_come_running_then_queued_then_newest
            task_pages_cover_every_task_once
            task_filters_keep_what_they_name
        );
        $crate::store::conformance::suite!(@usage $factory:
            calls_are_summed_up_by_all_alike
            a_call_without_an_answer_counts
            an_answer_that_changes_no_sum_is_no_call
        );
        $crate::store::conformance::suite!(@delete $factory:
            a_deleted_session_leaves_nothing
            a_deletion_spares_the_other_sessions
            blobs_stay_while_any_session_uses_them
            a_refused_deletion_deletes_nothing
            a_deleted_id_can_begin_again
        );
        $crate::store::conformance::suite!(@import $factory:
            an_import_is_stored_with_its_key
            an_import_is_made_once
            of_two_imports_at_once_one_is_stored
            an_import_with_a_gap_leaves_nothing
            an_import_that_breaks_off_leaves_nothing
        );
    };
}
pub(crate) use suite;
