//! The API as it describes itself: the description is true, nobody reaches what is not theirs, and
//! what is counted is what has happened.

#[allow(dead_code, reason = "the tests of the pages use the rest")]
#[path = "../../web/visitor.rs"]
mod visitor;

mod credentials;
mod document;
mod floods;
mod fuzzing;
mod metrics;
mod sources;
mod strangers;
mod world;
