use std::ops::Range;

use super::LineCounts;

/// Sorts the lines of `source` into code, comment and blank.
///
/// `comments` are the byte ranges of the comments, ascending and disjoint.
pub(super) fn count(source: &str, comments: &[Range<usize>]) -> LineCounts {
    let mut counts = LineCounts::default();
    let mut comments = comments.iter().peekable();
    // A byte order mark is not part of the first line's content.
    let mut at = if source.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    if at == source.len() {
        return counts;
    }
    while at < source.len() {
        let end = source.as_bytes()[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(source.len(), |offset| at + offset);
        let mut commented = false;
        let code = loop {
            at = skip_white_space(source, at, end);
            if at == end {
                break false;
            }
            while comments.next_if(|comment| comment.end <= at).is_some() {}
            match comments.peek() {
                Some(comment) if comment.start <= at => {
                    commented = true;
                    at = comment.end.min(end);
                }
                _ => break true,
            }
        };
        counts.total = counts.total.saturating_add(1);
        let kind = match (code, commented) {
            (true, _) => &mut counts.code,
            (false, true) => &mut counts.comment,
            (false, false) => &mut counts.blank,
        };
        *kind = kind.saturating_add(1);
        at = end + 1;
    }
    counts
}

/// Returns the first byte in `at..end` that is not white space, or `end`.
fn skip_white_space(source: &str, mut at: usize, end: usize) -> usize {
    let bytes = source.as_bytes();
    while at < end {
        if bytes[at].is_ascii() {
            if !char::from(bytes[at]).is_whitespace() {
                return at;
            }
            at += 1;
        } else {
            match source.get(at..end).and_then(|rest| rest.chars().next()) {
                Some(c) if c.is_whitespace() => at += c.len_utf8(),
                _ => return at,
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(source: &str, comments: &[Range<usize>]) -> (u32, u32, u32, u32) {
        let LineCounts {
            total,
            code,
            comment,
            blank,
        } = count(source, comments);
        (total, code, comment, blank)
    }

    #[test]
    fn the_last_line_feed_begins_no_line() {
        assert_eq!(counts("", &[]), (0, 0, 0, 0));
        assert_eq!(counts("\u{feff}", &[]), (0, 0, 0, 0));
        assert_eq!(counts("\n", &[]), (1, 0, 0, 1));
        assert_eq!(counts("a", &[]), (1, 1, 0, 0));
        assert_eq!(counts("a\n", &[]), (1, 1, 0, 0));
        assert_eq!(counts("a\n\n", &[]), (2, 1, 0, 1));
        assert_eq!(counts("\u{feff}a\n", &[]), (1, 1, 0, 0));
    }

    #[test]
    fn white_space_is_what_unicode_says() {
        assert_eq!(
            counts(" \t\r\n\u{a0}\u{3000}\n\u{200b}\n", &[]),
            (3, 1, 0, 2)
        );
    }

    #[test]
    fn a_comment_line_has_nothing_else() {
        let source = "/* a */ /* b */\nx /* c\n\n d */\n/* e */ y\n";
        let comments: Vec<_> = ["/* a */", "/* b */", "/* c\n\n d */", "/* e */"]
            .iter()
            .map(|text| {
                let start = source.find(text).unwrap();
                start..start + text.len()
            })
            .collect();
        assert_eq!(counts(source, &comments), (5, 2, 2, 1));
    }

    #[test]
    fn a_comment_may_own_its_line_feed() {
        assert_eq!(counts("/// a\n/// b\nc\n", &[0..6, 6..12]), (3, 1, 2, 0));
    }
}
