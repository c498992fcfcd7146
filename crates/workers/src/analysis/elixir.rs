use tree_sitter::Node;

use super::DefinitionKind;
use super::walk::{Context, Found, Meaning, Syntax, named_count};

pub(super) const SYNTAX: Syntax = Syntax {
    grammar: || tree_sitter_elixir::LANGUAGE.into(),
    accepts: |_| true,
    comments: &["comment"],
    // `if`, `unless` and `for` are calls: see `inspect`.
    decisions: &[],
    decision_tokens: &["&&", "||", "and", "or", "when", "<-"],
    // An `after` block belongs to the choice around it: the `after` of a
    // `receive` is one more way on, the `after` of a `try` has no clauses.
    choices: &["do_block", "else_block", "anonymous_function", "block"],
    handlers: &["rescue_block", "catch_block"],
    alternatives: &["stab_clause"],
    unparsed: &[],
    inspected: &["call", "unary_operator"],
    inspect,
};

fn inspect(node: Node<'_>, context: &mut Context<'_>) -> Meaning {
    let Some(target) = node.child(0) else {
        return Meaning::Nothing;
    };
    let kind = match context.text(target) {
        "@" => return attribute(node, context),
        "if" | "unless" => return Meaning::Decisions(1),
        "for" => return Meaning::Decisions(filters(node)),
        "def" | "defp" | "defdelegate" | "defn" | "defnp" => DefinitionKind::Function,
        "defmacro" | "defmacrop" | "defguard" | "defguardp" => DefinitionKind::Macro,
        "defmodule" => DefinitionKind::Module,
        "defprotocol" => DefinitionKind::Trait,
        "defimpl" => DefinitionKind::Impl,
        "defstruct" | "defexception" => DefinitionKind::Struct,
        "defrecord" | "defrecordp" | "Record.defrecord" | "Record.defrecordp" => {
            DefinitionKind::Record
        }
        _ => return Meaning::Nothing,
    };
    let Some(arguments) = node.child(1).filter(|child| child.kind() == "arguments") else {
        return Meaning::Nothing;
    };
    let Some(first) = arguments.named_child(0) else {
        return Meaning::Nothing;
    };
    match kind {
        DefinitionKind::Function | DefinitionKind::Macro => {
            let Some(name) = head(first, context) else {
                return Meaning::Nothing;
            };
            let found = Found::new(kind, name);
            match context.text(target) {
                "defguard" | "defguardp" => found.into(),
                "defdelegate" => found.clause(true).into(),
                "defmacro" | "defmacrop" => found.runs().clause(has_body(node, arguments)).into(),
                _ => found.clause(has_body(node, arguments)).into(),
            }
        }
        DefinitionKind::Struct => {
            // A struct is called as its module is.
            let name = match context.enclosing {
                Some(outer) => outer.name.clone(),
                None => context.name(target),
            };
            Found::new(kind, name).into()
        }
        DefinitionKind::Impl => Found::new(kind, implementation(first, arguments, context)).into(),
        _ => Found::new(kind, context.name(first)).into(),
    }
}

/// Reads `@type name(args) :: ..`.
fn attribute(node: Node<'_>, context: &Context<'_>) -> Meaning {
    let name = node.child(1).and_then(|call| {
        let target = call.child(0)?;
        if !matches!(context.text(target), "type" | "typep" | "opaque") {
            return None;
        }
        let definition = call.child(1)?.named_child(0)?;
        head(definition.child_by_field_name("left")?, context)
    });
    match name {
        Some(name) => Found::new(DefinitionKind::TypeAlias, name).into(),
        None => Meaning::Nothing,
    }
}

/// Counts the arguments of a `for` that are conditions. Its generators count
/// by their arrows.
fn filters(node: Node<'_>) -> usize {
    let Some(arguments) = node.child(1).filter(|child| child.kind() == "arguments") else {
        return 0;
    };
    arguments
        .named_children(&mut arguments.walk())
        .filter(|argument| match argument.kind() {
            "keywords" | "bitstring" | "comment" => false,
            "binary_operator" => argument
                .child_by_field_name("operator")
                .is_none_or(|operator| operator.kind() != "<-"),
            _ => true,
        })
        .count()
}

/// Writes the head of a function, with or without its guard, as `name/arity`.
fn head(node: Node<'_>, context: &Context<'_>) -> Option<String> {
    let operator = node
        .child_by_field_name("operator")
        .map(|operator| context.text(operator));
    let (name, arity) = match (node.kind(), operator) {
        ("binary_operator", Some("when")) => {
            let guarded = node.child_by_field_name("left")?;
            // `when` does not nest in heads; were it to, the name would be odd
            // rather than the stack deep.
            if guarded.kind() == "call" {
                (context.name(guarded.child(0)?), arity(guarded))
            } else if let Some(operator) = guarded.child_by_field_name("operator") {
                (context.name(operator), operands(guarded))
            } else {
                (context.name(guarded), 0)
            }
        }
        ("binary_operator" | "unary_operator", Some(operator)) => {
            (operator.to_owned(), operands(node))
        }
        ("call", _) => (context.name(node.child(0)?), arity(node)),
        ("identifier", _) => (context.name(node), 0),
        _ => return None,
    };
    Some(format!("{name}/{arity}"))
}

fn arity(call: Node<'_>) -> usize {
    call.child(1)
        .filter(|child| child.kind() == "arguments")
        .map_or(0, named_count)
}

fn operands(node: Node<'_>) -> usize {
    if node.kind() == "unary_operator" {
        1
    } else {
        2
    }
}

fn has_body(node: Node<'_>, arguments: Node<'_>) -> bool {
    let last = |parent: Node<'_>| {
        let last = u32::try_from(parent.named_child_count()).unwrap_or(u32::MAX);
        parent
            .named_child(last.saturating_sub(1))
            .map(|child| child.kind())
    };
    last(node) == Some("do_block") || last(arguments) == Some("keywords")
}

/// Writes `Protocol for Type`.
fn implementation(protocol: Node<'_>, arguments: Node<'_>, context: &Context<'_>) -> String {
    let protocol = context.name(protocol);
    let target = arguments
        .named_child(1)
        .and_then(|keywords| keywords.named_child(0))
        .and_then(|pair| {
            let key = pair.child_by_field_name("key")?;
            (context.text(key).trim_end() == "for:").then_some(pair)?;
            pair.child_by_field_name("value")
        });
    match target {
        Some(target) => format!("{protocol} for {}", context.name(target)),
        None => protocol,
    }
}
