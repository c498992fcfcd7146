use tree_sitter::Node;

use super::DefinitionKind;
use super::walk::{Context, Found, Meaning, Syntax};

pub(super) const SYNTAX: Syntax = Syntax {
    grammar: || tree_sitter_javascript::LANGUAGE.into(),
    accepts: |_| true,
    comments: &["comment", "html_comment", "hash_bang_line"],
    decisions: &[
        "if_statement",
        "ternary_expression",
        "for_statement",
        "for_in_statement",
        "while_statement",
        "do_statement",
        "switch_case",
        "catch_clause",
    ],
    decision_tokens: &["&&", "||", "??", "&&=", "||=", "??="],
    choices: &[],
    handlers: &[],
    alternatives: &[],
    unparsed: &[],
    inspected: &[
        "function_declaration",
        "generator_function_declaration",
        "method_definition",
        "class_declaration",
        "class",
        "function_expression",
        "generator_function",
        "arrow_function",
        "variable_declarator",
        "assignment_expression",
        "pair",
        "field_definition",
        "export_statement",
    ],
    inspect,
};

fn inspect(node: Node<'_>, context: &mut Context<'_>) -> Meaning {
    let (kind, name) = match node.kind() {
        "variable_declarator" => return bind(node, "name", "value", context),
        "assignment_expression" => return bind(node, "left", "right", context),
        "pair" => return bind(node, "key", "value", context),
        "field_definition" => return bind(node, "property", "value", context),
        "export_statement" => return bind(node, "", "value", context),
        "function_declaration" | "generator_function_declaration" => {
            (DefinitionKind::Function, None)
        }
        "method_definition" => (DefinitionKind::Method, None),
        "class_declaration" => (DefinitionKind::Class, None),
        _ => match (context.binding(node), node.child_by_field_name("name")) {
            (Some((kind, name)), _) => (kind, Some(name)),
            (None, None) => return Meaning::Nothing,
            (None, Some(_)) if node.kind() == "class" => (DefinitionKind::Class, None),
            (None, Some(_)) => (DefinitionKind::Function, None),
        },
    };
    let Some(name) = name.or_else(|| Some(key_name(node.child_by_field_name("name")?, context)))
    else {
        return Meaning::Nothing;
    };
    let found = Found::new(kind, name);
    match first_after_decorators(node) {
        Some(first) => found.starting_at(first.start_position().row).into(),
        None => found.into(),
    }
}

/// Gives the name in one field to the function or class in another.
fn bind(node: Node<'_>, name: &str, value: &str, context: &mut Context<'_>) -> Meaning {
    let Some(value) = node.child_by_field_name(value) else {
        return Meaning::Nothing;
    };
    let kind = match value.kind() {
        "arrow_function" | "function_expression" | "generator_function" => match node.kind() {
            "field_definition" => DefinitionKind::Method,
            _ => DefinitionKind::Function,
        },
        "class" => DefinitionKind::Class,
        _ => return Meaning::Nothing,
    };
    let name = match node.kind() {
        "export_statement" => match value.child_by_field_name("name") {
            Some(own) => context.name(own),
            None => "default".to_owned(),
        },
        _ => match node.child_by_field_name(name) {
            Some(name) => key_name(name, context),
            None => return Meaning::Nothing,
        },
    };
    context.bind(value, kind, name);
    Meaning::Nothing
}

/// Names a target or a key: `a.b` and `"b"` are both called `b`.
fn key_name(node: Node<'_>, context: &Context<'_>) -> String {
    match node.kind() {
        "member_expression" => match node.child_by_field_name("property") {
            Some(property) => context.name(property),
            None => context.name(node),
        },
        "string" if node.named_child_count() == 1 => match node.named_child(0) {
            Some(content) => context.name(content),
            None => context.name(node),
        },
        _ => context.name(node),
    }
}

fn first_after_decorators(node: Node<'_>) -> Option<Node<'_>> {
    if node.child(0)?.kind() != "decorator" {
        return None;
    }
    node.children(&mut node.walk())
        .find(|child| child.kind() != "decorator" && !child.is_extra())
}
