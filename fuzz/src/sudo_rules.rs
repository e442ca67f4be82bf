//! `sudo -l`: what is taken for "every command" leaves nothing open.

use holistics_tunnel::bastion::fuzzing::sudo_allows_everything;

use crate::fields::text;

/// What takes something away, or asks for a password.
const LIMITS: [&str; 4] = [
    "(ALL) !/usr/bin/systemctl",
    "(root) PASSWD: /usr/bin/systemctl",
    "(ALL, !root) NOPASSWD: ALL",
    "(ALL) NOPASSWD: ALL, !ALL",
];

pub fn run(input: &[u8]) {
    let listed = text(input);
    if !sudo_allows_everything(&listed) {
        return;
    }
    let rules = listed.lines().filter(|line| line.trim().starts_with('('));
    for rule in rules.clone() {
        assert!(rule.trim().ends_with("ALL"), "{rule:?} has conditions");
        assert!(!rule.contains(['!', ',', '=', '/']), "{rule:?} is limited");
    }
    assert!(rules.count() > 0, "there is no rule in {listed:?}");
    for limit in LIMITS {
        for limited in [
            format!("{listed}\n    {limit}"),
            format!("{limit}\n{listed}"),
        ] {
            assert!(!sudo_allows_everything(&limited), "{limited:?}");
        }
    }
}
