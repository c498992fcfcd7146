use std::sync::Arc;

use perennial_lifecycle::{ActorPath, Node};

/// Finds the path that was probably meant by one that leads nowhere.
///
/// The end of a path without its beginning is taken for what it is; otherwise the path with the fewest
/// letters to change wins, the first in start order, if at most a third of the letters differ.
pub(crate) fn nearest(root: &Arc<Node>, asked: &str) -> Option<String> {
    let mut open = vec![Arc::clone(root)];
    let places = std::iter::from_fn(|| {
        let node = open.pop()?;
        open.extend(node.children().into_iter().rev());
        Some(node.path().clone())
    });
    nearest_of(asked, places).map(|it| it.to_string())
}

/// As [`nearest`], among these paths.
pub(crate) fn nearest_of(asked: &str, paths: impl Iterator<Item = ActorPath>) -> Option<ActorPath> {
    let tail = format!("/{}", asked.trim_matches('/'));
    let letters: Vec<char> = asked.chars().collect();
    let mut best = None;
    let mut bound = (letters.len() / 3).max(2) + 1;
    for path in paths {
        if tail.len() > 1 && path.as_str().ends_with(&tail) {
            return Some(path);
        }
        let candidate: Vec<char> = path.as_str().chars().collect();
        if candidate.len().abs_diff(letters.len()) < bound {
            let distance = edit_distance(&letters, &candidate);
            if distance < bound {
                bound = distance;
                best = Some(path);
            }
        }
    }
    best
}

/// Counts the letters to insert, remove or replace (Levenshtein).
pub(crate) fn edit_distance(mut a: &[char], mut b: &[char]) -> usize {
    // Paths of one tree begin alike.
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (a, b) = (&a[same..], &b[same..]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use perennial_lifecycle::ActorPath;

    use super::*;

    fn distance(a: &str, b: &str) -> usize {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        edit_distance(&letters(a), &letters(b))
    }

    #[test]
    fn distance_counts_single_letters() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("shop/cahce", "shop/cache"), 2);
        assert_eq!(distance("grün", "grau"), 2);
    }

    #[test]
    fn the_nearest_path_is_suggested_or_none() {
        let root = Node::new(ActorPath::root("shop"));
        let pools = root.child_or_insert("pools");
        pools.child_or_insert("database");
        pools.child_or_insert("analyzer");
        root.child_or_insert("debug");

        let near = |asked| nearest(&root, asked);
        assert_eq!(
            near("shop/pools/databse").as_deref(),
            Some("shop/pools/database")
        );
        assert_eq!(near("shop/pool").as_deref(), Some("shop/pools"));
        assert_eq!(near("analyzer").as_deref(), Some("shop/pools/analyzer"));
        assert_eq!(
            near("/pools/analyzer").as_deref(),
            Some("shop/pools/analyzer")
        );
        assert_eq!(near("shop/debug/").as_deref(), Some("shop/debug"));
        assert_eq!(near("something/else/entirely"), None);
        assert_eq!(near(""), None);
    }
}
