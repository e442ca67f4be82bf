//! What a test has measured, said where everybody sees it.

use std::io::Write as _;

/// Says what was measured, with the test's name, also where the test passes: the harness keeps back
/// what `println!` writes, and not what goes to standard output itself.
pub fn say(figure: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // A figure that nobody reads is no reason to fail.
    let _ = writeln!(std::io::stdout(), "measured, {test}: {figure}");
}
