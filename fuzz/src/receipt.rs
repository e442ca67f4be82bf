//! Receipts: whatever the file holds, it is refused, or read and written again without a loss.

use holistics_tunnel::bastion::fuzzing;

pub fn run(input: &[u8]) {
    let Some(written) = fuzzing::receipt(input) else {
        return;
    };
    let again = fuzzing::receipt(&written);
    let again = again.expect("a receipt that was written is read");
    assert_eq!(written, again, "a receipt changes when it is read");
}
