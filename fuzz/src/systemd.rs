//! `ExecStart=` as systemd reads it: systemd.service(5), "Command lines".

/// The words of a command line.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (' ' | '\t', None) => words.extend(word.take()),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(character);
            }
            (end, Some(begin)) if end == begin => quote = None,
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            ('%' | '$', _) => {
                assert_eq!(
                    characters.next(),
                    Some(character),
                    "{line:?} has something expanded"
                );
                word.get_or_insert_default().push(character);
            }
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    assert!(quote.is_none(), "{line:?} has an open quote");
    words.extend(word);
    words
}
