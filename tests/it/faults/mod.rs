//! What breaks between the vendor and the database, and how soon the tunnel is back.
//!
//! A bastion, the tunnel server and the database have a network each; rows are read through the tunnel ten times a
//! second; one thing fails at a time. Beside the tunnel stand another customer's, which must not notice, and, where
//! the table is made, the documented plain command against a stock sshd, to which the same happens.
//!
//! - what fails: [`link`], [`silence`] (packets that are swallowed), [`addresses`], [`names`], [`server`],
//!   [`processes`], [`bastion`], [`clock`], [`database`], [`access`] (keys and tunnels that are taken away, two
//!   machines with one key), [`crowds`] (many connections);
//! - [`world`]: all machines, brought to where rows come; [`site`]: a customer's; [`supervisor`]: what keeps its tunnel
//!   running; [`plain`]: the plain command; [`resolver`]: who knows the vendor's name;
//! - [`measure`]: the turns of a fault, and what is asked of them; [`leftovers`]: what is left over of it; [`table`]: its line.
//!
//! Each fault has all machines to itself, so that many are brought about beside each other: most of one is waiting.
//!
//! It needs Linux and root. `FAULTS_TURNS` says how often each fault is brought about (1); `FAULTS_TABLE` names a file to
//! which each adds its line, and has the plain command compared, in `FAULTS_PLAIN_TURNS` of these turns (all).

mod access;
mod addresses;
mod bastion;
mod clock;
mod crowds;
mod database;
mod leftovers;
mod link;
mod measure;
mod names;
mod plain;
mod processes;
mod resolver;
mod server;
mod silence;
mod site;
mod supervisor;
mod table;
mod world;
