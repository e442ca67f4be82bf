//! `backup` and `restore`: an installation as one file, and back.
//!
//! The file is a tar: [`archive`] says what is in it. [`make`] writes it, [`restore`] reads it.

mod archive;
pub mod make;
pub mod restore;
