//! The loopback lab: the real programs, real `ssh` and `autossh`, a real PostgreSQL, all on
//! loopback and under a folder of the test's own.
//!
//! - [`workspace`]: that folder, and the promise that nothing started in it outlives the test;
//! - [`process`]: programs run in the foreground or the background, their output, their end;
//! - [`postgres`], [`server`], [`bastion`]: the three machines of the journey;
//! - [`mariadb`], [`clickhouse`]: databases of other kinds; [`account`]: who runs a database;
//!   [`shared`]: one for all tests of a binary;
//! - [`database`]: the server's own database, to fill it;
//! - [`lossy_line`]: a line that drops at the worst moment;
//! - [`lab`]: those three together, brought to a given point of the journey;
//! - [`pty`]: a program at a terminal, and what that shows;
//! - [`figures`]: what a test has measured, said aloud;
//! - [`machines`]: machines around one router, each in a network of its own; [`rows`]: who reads rows all the time;
//! - [`sql`]: queries through a port; [`ports`]: ports nobody else has; [`snapshot`]: what is on
//!   disk, to be compared; [`small_disk`]: one that can be filled; [`unread_log`]: a log that nobody reads; [`wait`]: waiting, never without a bound.

#![allow(
    dead_code,
    reason = "every test binary compiles all of this and uses a part"
)]

pub mod account;
pub mod bastion;
pub mod clickhouse;
pub mod database;
pub mod figures;
pub mod hosts;
pub mod lab;
pub mod lossy_line;
pub mod machines;
pub mod mariadb;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod pty;
pub mod rows;
pub mod server;
pub mod shared;
pub mod small_disk;
pub mod snapshot;
pub mod sql;
pub mod unread_log;
pub mod wait;
pub mod workspace;
