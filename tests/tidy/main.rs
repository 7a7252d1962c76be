//! Is the house in order: sizes, heads, layers, words, documents?
//!
//! Each test reads the files that git knows and names every place that breaks its rule. An exception
//! stands in a table with its reason; one that nothing needs any more is itself a fault.

mod cargo;
mod documents;
mod exceptions;
mod functions;
mod layers;
mod places;
mod repository;
mod rust;
mod sizes;
mod words;

/// Ends a test with all that breaks a rule, one a line.
fn hold(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}
