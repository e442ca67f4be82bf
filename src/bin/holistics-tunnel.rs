//! `holistics-tunnel`, the program for the bastion.

fn main() {
    std::process::exit(holistics_tunnel::bastion::main());
}
