//! russh as published, with the changes of `changes.rs`; what they call is in the files beside this
//! one, and nothing else is ours.

include!(concat!(env!("OUT_DIR"), "/russh/lib_inner.rs"));

mod chacha20;
mod data;
mod exchanges;
mod misplaced;
mod orders;
mod windows;
