use tree_sitter::Node;

use super::DefinitionKind;
use super::walk::{Context, Found, Meaning, Syntax};

pub(super) const SYNTAX: Syntax = Syntax {
    grammar: || tree_sitter_python::LANGUAGE.into(),
    accepts,
    comments: &["comment"],
    decisions: &[
        "if_statement",
        "elif_clause",
        "conditional_expression",
        "for_statement",
        "while_statement",
        "except_clause",
        "boolean_operator",
        // The loops and the filters of comprehensions, the guards of cases.
        "for_in_clause",
        "if_clause",
    ],
    decision_tokens: &[],
    choices: &[],
    handlers: &[],
    alternatives: &[],
    unparsed: &[],
    inspected: &[
        "function_definition",
        "class_definition",
        "type_alias_statement",
        "case_clause",
    ],
    inspect,
};

fn inspect(node: Node<'_>, context: &mut Context<'_>) -> Meaning {
    let (kind, name) = match node.kind() {
        "case_clause" => return Meaning::Decisions(usize::from(!matches_all(node))),
        "function_definition" => {
            let kind = match context.enclosing {
                Some(outer) if outer.kind == DefinitionKind::Class => DefinitionKind::Method,
                _ => DefinitionKind::Function,
            };
            (kind, node.child_by_field_name("name"))
        }
        "class_definition" => (DefinitionKind::Class, node.child_by_field_name("name")),
        "type_alias_statement" => {
            let left = node.child_by_field_name("left");
            let name = left.and_then(|left| {
                let inner = left.child(0)?;
                match inner.kind() {
                    "generic_type" => inner.child(0),
                    _ => Some(inner),
                }
            });
            (DefinitionKind::TypeAlias, name)
        }
        _ => return Meaning::Nothing,
    };
    match name {
        Some(name) => Found::new(kind, context.name(name)).into(),
        None => Meaning::Nothing,
    }
}

/// Tells whether the pattern of a case is `_` or a bare name: the default.
fn matches_all(case: Node<'_>) -> bool {
    let alone = case.child(2).is_none_or(|next| next.kind() != ",");
    alone
        && case
            .child(1)
            .filter(|pattern| pattern.kind() == "case_pattern" && pattern.child_count() == 1)
            .and_then(|pattern| pattern.child(0))
            .is_some_and(|inner| match inner.kind() {
                "_" => true,
                "dotted_name" => inner.child_count() == 1,
                _ => false,
            })
}

/// How many distinct indentations a file may have.
///
/// The grammar's scanner saves its open strings (up to 255 bytes) and its open
/// blocks (2 bytes each) in 1024 bytes, and a parser that is handed more aborts
/// the process. Blocks that are open together are indented differently, so
/// this bounds them; Python itself accepts 100.
const MAX_INDENTATIONS: u32 = 380;

fn accepts(source: &str) -> bool {
    let bytes = source.as_bytes();
    let mut seen = [0_u64; (u16::MAX as usize + 1) / 64];
    let mut distinct = 0;
    let mut at = 0;
    while let Some(line_feed) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += line_feed + 1;
        // The arithmetic is the scanner's: 16 bits, tabs of 8, and a backslash
        // before a line end joins the indentations of both lines.
        let mut width = 0_u16;
        loop {
            match bytes[at..] {
                [b' ', ..] => width = width.wrapping_add(1),
                [b'\t', ..] => width = width.wrapping_add(8),
                [b'\r' | b'\x0c' | b'\n', ..] => width = 0,
                [b'\\', b'\r', b'\n', ..] => at += 2,
                [b'\\', b'\n' | b'\r', ..] => at += 1,
                _ => break,
            }
            at += 1;
        }
        let (word, bit) = (usize::from(width / 64), 1 << (width % 64));
        if seen[word] & bit == 0 {
            seen[word] |= bit;
            distinct += 1;
            if distinct > MAX_INDENTATIONS {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absurd_indentation_is_refused() {
        let nested = |levels| -> String {
            (0..levels)
                .map(|level| format!("{}if x:\n", " ".repeat(level)))
                .collect()
        };
        assert!(accepts(""));
        assert!(accepts(&nested(100)));
        assert!(accepts(&nested(379)));
        assert!(!accepts(&nested(390)));
        assert!(accepts(&"    x\n\t\ty\n".repeat(1_000)));
        let joined: String = (0..400)
            .map(|n| format!("\n{}x", "\\\n ".repeat(n)))
            .collect();
        assert!(!accepts(&joined));
    }
}
