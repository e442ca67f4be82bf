//! Numbers as people read them: shares, counts, bytes and spans of time.

/// A share that is given in hundredths of a percent.
pub fn share(share: Option<u16>) -> String {
    match share {
        Some(10_000) => "100 %".to_owned(),
        Some(share) => format!("{}.{:02} %", share / 100, share % 100),
        None => "not known".to_owned(),
    }
}

/// A number, with its thousands set apart.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many bytes, in the units of disks and lines (1 kB is 1,000 bytes).
pub fn bytes(number: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let bytes = number.unsigned_abs();
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded; the next unit where that gives a thousand.
    let mut tenths = (bytes + 50) / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths = (tenths + 500) / 1_000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A span of time, in its two largest units.
pub fn time(milliseconds: i64) -> String {
    let seconds = milliseconds.unsigned_abs() / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |one: u64, unit: &str, other: u64, smaller: &str| match other {
        0 => format!("{one} {unit}"),
        _ => format!("{one} {unit} {other} {smaller}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) if rest == 0 && milliseconds > 0 => "less than 1 s".to_owned(),
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => two(minutes, "min", rest, "s"),
        (0, ..) => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(share(Some(9_999)), "99.99 %");
        assert_eq!(share(Some(5)), "0.05 %");
        assert_eq!(share(Some(10_000)), "100 %");
        assert_eq!(share(None), "not known");
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-5, "5")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(1_234_567), "1,234,567");
        for (number, text) in [
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_250_000_000, "1.3 GB"),
            (i64::MAX, "9223.4 PB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
        for (ms, text) in [
            (0, "0 s"),
            (400, "less than 1 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (3_599_000, "59 min 59 s"),
            (3_900_000, "1 h 5 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(time(ms), text, "{ms}");
        }
    }
}
