//! A whole cluster, each of its machines in a network of its own, and what becomes of its rows when a part of it
//! fails. It needs Linux and root, and takes long: `scripts/test --full` runs it.
//!
//! - [`faults`]: nodes and databases that are killed, cut off, powered off; [`restarts`]: nodes that are restarted one
//!   after another; [`news`]: how soon all nodes know of a removal and of a new key; [`many`]: thousands of
//!   tunnels that return at once, of a [`crowd`], and their [`costs`];
//! - [`installation`]: all of it, brought to where rows come; [`network`]: the machines and their lines; [`node`]: a
//!   server; [`balancer`]: what stands in front; [`customer`]: a bastion with tunnels;
//! - [`rows`]: who reads rows meanwhile, and what they missed; [`states`]: what the vendor is shown meanwhile;
//!   [`figures`]: what is said of it at the end.

mod balancer;
mod costs;
mod crowd;
mod customer;
mod faults;
mod figures;
mod installation;
mod many;
mod news;
mod node;
mod restarts;
mod states;
