//! The rules that `sudo -l` lists, in the notation of sudoers, which is the same in every language and version.

/// Whose rights a rule gives, where they are root's. The second one is a group's.
const AS_ROOT: [&str; 3] = ["(ALL)", "(ALL : ALL)", "(root)"];

/// Whether these rules are for every command, and there is no other beside them: such as one that takes something
/// away, or has conditions, or asks for a password for some commands. Then no command needs to be asked about.
pub fn allow_everything(listed: &str) -> bool {
    let rules = listed.lines().map(str::trim);
    let mut rules = rules.filter(|line| line.starts_with('(')).peekable();
    rules.peek().is_some() && rules.all(allows_everything)
}

fn allows_everything(rule: &str) -> bool {
    let commands = AS_ROOT.iter().find_map(|whose| rule.strip_prefix(whose));
    let commands = commands.map(str::trim);
    commands.is_some_and(|commands| matches!(commands, "ALL" | "NOPASSWD: ALL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(rules: &[&str]) -> String {
        let rules: String = rules.iter().map(|rule| format!("    {rule}\n")).collect();
        format!(
            "Matching Defaults entries for ada on bastion:\n    env_reset, use_pty\n\n\
             User ada may run the following commands on bastion:\n{rules}"
        )
    }

    #[test]
    fn whoever_may_run_everything_needs_no_question_about_a_command() {
        for rules in [
            &["(ALL) NOPASSWD: ALL"][..],
            &["(root) NOPASSWD: ALL"],
            &["(ALL : ALL) ALL", "(ALL) NOPASSWD: ALL"],
        ] {
            assert!(allow_everything(&listed(rules)), "{rules:?}");
        }
    }

    #[test]
    fn a_rule_beside_that_one_may_take_something_away_and_has_each_command_asked_about() {
        for rules in [
            &[][..],
            &["(ALL) NOPASSWD: ALL, !/usr/bin/systemctl"],
            &["(ALL) NOPASSWD: ALL", "(ALL) !/usr/bin/systemctl"],
            &["(ALL) NOPASSWD: ALL", "(root) PASSWD: /usr/bin/systemctl"],
            &["(ALL, !root) NOPASSWD: ALL"],
            &["(postgres) NOPASSWD: ALL"],
            &["(ALL) NOTAFTER=20260101000000Z NOPASSWD: ALL"],
            &["(ALL) CWD=/srv NOPASSWD: ALL"],
            &["(ALL) NOEXEC: NOPASSWD: ALL"],
            &["(root) NOPASSWD: /usr/bin/apt-get"],
        ] {
            assert!(!allow_everything(&listed(rules)), "{rules:?}");
        }
    }
}
