//! What was probably meant by a path that does not exist.

/// Returns the candidate with the fewest edits, if it is near enough to be worth naming.
pub(crate) fn nearest<'a>(
    path: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    candidates
        .map(|candidate| {
            // The right name in the wrong section is nearer than any misspelling.
            let edits = if last(candidate) == last(path) {
                1
            } else {
                distance(path, candidate)
            };
            (edits, candidate)
        })
        .filter(|&(edits, candidate)| edits <= 2.max(candidate.len() / 4))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of insertions, deletions and replacements from `a` to `b` (V. I. Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 3] = ["billing.max_items", "billing.currency", "log.level"];

    #[test]
    fn a_misspelt_path_finds_the_one_that_was_meant() {
        let find = |path| nearest(path, PATHS.into_iter());
        assert_eq!(find("billing.max_item"), Some("billing.max_items"));
        assert_eq!(find("biling.currncy"), Some("billing.currency"));
        assert_eq!(find("logging.level"), Some("log.level"));
        assert_eq!(find("colour"), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
