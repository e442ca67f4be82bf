//! The bastion's program.
