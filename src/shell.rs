//! Words as a POSIX shell reads them, and bash and zsh, too, for scripts and for whoever types a command.

use std::borrow::Cow;

/// One word, in quotes where a shell would take something in it for anything else.
pub fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,+@".contains(&byte);
    match shell_words::quote(text) {
        // shell-words leaves `~` and `{a,b}` as they are: the one is somebody's home, and most shells take the other
        // apart. Of bytes beyond ASCII, some systems take a few for blanks.
        Cow::Borrowed(_) if !text.bytes().all(is_plain) => Cow::Owned(format!("'{text}'")),
        quoted => quoted,
    }
}

/// Words of one command.
pub fn join<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    let words = words.into_iter();
    let words: Vec<_> = words.map(|one| word(one.as_ref()).into_owned()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_shell_reads_each_word_as_it_was() {
        let words = [
            "plain", "", "~", "~root/x", "a:~root", "{a,b}", "{1..3}", "it's", "$(id)", "a b", "*",
            "a\nb", "!", "^a", "é", "=ls", "A=~root", "\\", "\"",
        ];
        let line = join(words);
        for shell in ["/bin/dash", "/bin/bash"] {
            let script = format!("printf '%s|' {line}");
            let said = Command::new(shell).args(["-c", &script]).output();
            let said = said.expect("dash is needed: apt-get install dash").stdout;
            let said = String::from_utf8_lossy(&said);
            assert_eq!(
                said,
                words.map(|word| format!("{word}|")).concat(),
                "{shell}"
            );
        }
    }

    #[test]
    fn what_means_nothing_to_a_shell_stands_as_it_is() {
        for plain in ["/usr/bin/ssh", "ada@vendor.example:22", "-o", "a,b+c_d"] {
            assert_eq!(word(plain), plain);
        }
    }
}
