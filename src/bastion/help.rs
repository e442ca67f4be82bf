//! What `--help` says below the options: examples, variables of the environment, exit statuses.

pub(super) const PROGRAM: &str = "\
Examples:
  holistics-tunnel plan                  what setup would do here, with every command
  holistics-tunnel status                whether this host's tunnels are up
  holistics-tunnel status --watch        the same, updated until Ctrl-C
  holistics-tunnel uninstall-tunnel 7    removes tunnel 7

The setup command comes from the browser.

Environment:
  Every option has a variable, HOLISTICS_TUNNEL_ and its name: HOLISTICS_TUNNEL_YES=true is --yes.
  NO_COLOR         no colours
  https_proxy      the proxy for the control plane and, if need be, ssh; setup keeps it
  no_proxy         exceptions

Exit status:
  0    done
  1    failed; what was done is kept for the next run, or nothing was started
  2    wrong usage, or an answer is needed and there is no terminal
  3    failed, and everything was undone
  4    partly done; the rest is listed
  5    unknown: the vendor could not be asked, or this user may not see it
  130  interrupted; run the same command again to continue";

pub(super) const SETUP: &str = "\
Examples:
  holistics-tunnel setup --server https://vendor.example --token-file token
  holistics-tunnel setup --server https://vendor.example --token-file token --dry-run
  holistics-tunnel setup --server https://vendor.example --token-file token --yes --json

Without --server or a token, setup asks for them, if there is a terminal. If a run has stopped,
run the same command again: it continues from there.";

pub(super) const PLAN: &str = "\
Examples:
  holistics-tunnel plan
  holistics-tunnel plan --root /mnt/other-host --json";

pub(super) const UNINSTALL: &str = "\
Examples:
  holistics-tunnel uninstall-tunnel          shows this host's tunnels to choose from
  holistics-tunnel uninstall-tunnel 7        removes tunnel 7
  holistics-tunnel uninstall-tunnel --all    removes every tunnel, the service and ~/.holistics";

pub(super) const STATUS: &str = "\
Examples:
  holistics-tunnel status             every tunnel of this host
  holistics-tunnel status 7 --json    tunnel 7, for a script
  holistics-tunnel status --watch     every two seconds, until Ctrl-C";

pub(super) const COMPLETIONS: &str = "\
Examples:
  holistics-tunnel completions bash > ~/.local/share/bash-completion/completions/holistics-tunnel
  holistics-tunnel completions zsh > ~/.zfunc/_holistics-tunnel
  holistics-tunnel completions fish > ~/.config/fish/completions/holistics-tunnel.fish";

pub(super) const MAN: &str = "\
Examples:
  holistics-tunnel man | man -l -
  holistics-tunnel man --dir ~/.local/share/man/man1";
