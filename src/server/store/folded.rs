//! Names as they are searched for: upper and lower case are the same, in every script. The database's own
//! `lower` knows ASCII alone.

use super::{Result, Store};
use crate::protocol::DataSourceId;

/// Names that are folded in one transaction.
const AT_ONCE: i64 = 1_000;

/// A name as it is kept beside the one that is shown. Letter by letter, so that a part of a name becomes a
/// part of the folded name: the lower case of a whole word would end a Greek one with another letter.
pub(super) fn folded(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// The pattern that finds this text anywhere, for `LIKE … ESCAPE '\'`.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in folded(text).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

impl Store {
    /// Folds the names that an older version wrote.
    pub async fn fold_names(&self) -> Result<()> {
        loop {
            let names: Vec<(DataSourceId, String)> = self.readers.sql(
                "SELECT id, display_name FROM data_sources WHERE folded_name IS NULL ORDER BY id LIMIT $1",
            )
            .bind(AT_ONCE)
            .all()
            .await?;
            if names.is_empty() {
                return Ok(());
            }
            let mut tx = self.write().await?;
            for (id, name) in names {
                tx.sql(
                    "UPDATE data_sources SET folded_name = $1 WHERE id = $2 AND display_name = $3",
                )
                .bind(folded(&name))
                .bind(id)
                .bind(&name)
                .execute()
                .await?;
            }
            tx.commit().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upper_and_lower_case_are_the_same_in_every_script() {
        for (one, other) in [
            ("SALES", "sales"),
            ("KÖLN", "köln"),
            ("STRASSE", "straße"),
            ("ΟΔΟΣ", "οδος"),
            ("οδός", "ΟΔΌΣ"),
            ("МОСКВА", "москва"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
    }

    #[test]
    fn what_means_something_in_a_pattern_is_searched_for_itself() {
        assert_eq!(pattern(r"100%_a\"), r"%100\%\_a\\%");
    }

    proptest! {
        #[test]
        fn a_part_of_a_name_is_a_part_of_the_folded_name(before: String, part: String, after: String) {
            let name = format!("{before}{part}{after}");
            prop_assert!(folded(&name).contains(&folded(&part)));
        }
    }
}
