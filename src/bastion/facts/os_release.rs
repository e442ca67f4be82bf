//! `/etc/os-release`, read the way a shell would read it.
//!
//! os_info reads it too, but takes `ID` alone, knows no `ID_LIKE`, and reads no other host's files
//! (`plan --root`).

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`: `debian`, `rocky`.
    pub id: String,
    /// `ID_LIKE`: what it is derived from, the closest first.
    pub id_like: Vec<String>,
    /// `VERSION_ID`; rolling distributions have none.
    pub version: String,
    /// `PRETTY_NAME`, for people.
    pub pretty_name: String,
}

impl OsRelease {
    /// Without what would do something to the terminal at which it is shown: `plan --root` reads anybody's files.
    #[must_use]
    pub fn printable(mut self) -> Self {
        for value in [&mut self.id, &mut self.version, &mut self.pretty_name] {
            value.retain(|character| !character.is_control());
        }
        self
    }
}

/// Reads os-release. Lines that make no sense are passed over; the file may be anything.
pub fn parse(content: &[u8]) -> OsRelease {
    let text = String::from_utf8_lossy(content);
    let mut release = OsRelease::default();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some((name, value)) = line.trim().split_once('=') else {
            continue;
        };
        let value = unquoted(value.trim());
        match name {
            "ID" => release.id = value.to_ascii_lowercase(),
            "ID_LIKE" => {
                release.id_like = value
                    .to_ascii_lowercase()
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect();
            }
            "VERSION_ID" => release.version = value,
            "PRETTY_NAME" => release.pretty_name = value,
            _ => {}
        }
    }
    release
}

/// A value without its shell quotes. A value with broken quoting is taken as it stands.
fn unquoted(value: &str) -> String {
    match shell_words::split(value) {
        Ok(words) => words.join(" "),
        Err(_) => value.trim_matches(['"', '\'']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_styles_of_quotes_and_none_are_read() {
        let release = parse(b"ID='pop'\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=22.04\r\nPRETTY_NAME=\"Pop!_OS 22.04 LTS\"\n");
        assert_eq!(release.id, "pop");
        assert_eq!(release.id_like, ["ubuntu", "debian"]);
        assert_eq!(release.version, "22.04");
        assert_eq!(release.pretty_name, "Pop!_OS 22.04 LTS");
    }

    #[test]
    fn a_byte_order_mark_and_damaged_lines_do_no_harm() {
        let release = parse(b"\xef\xbb\xbfID=debian\n=\n\xff\xfe\nVERSION_ID=\"12\n");
        assert_eq!(release.id, "debian");
        assert_eq!(release.version, "12");
    }

    #[test]
    fn no_name_of_a_distribution_does_anything_to_a_terminal() {
        let release = parse(b"ID=debian\x07\nPRETTY_NAME=\"Debian \x1b[2J12\"\n").printable();
        assert_eq!(release.id, "debian");
        assert_eq!(release.pretty_name, "Debian [2J12");
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..2000)) {
            parse(&content);
        }
    }
}
