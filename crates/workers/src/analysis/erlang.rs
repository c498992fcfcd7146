use tree_sitter::Node;

use super::DefinitionKind;
use super::walk::{Context, Found, Meaning, Syntax, named_count};

pub(super) const SYNTAX: Syntax = Syntax {
    grammar: || tree_sitter_erlang::LANGUAGE.into(),
    accepts: |_| true,
    comments: &["comment", "shebang"],
    decisions: &[
        "catch_clause",
        "catch_expr",
        "cond_match_expr",
        // A generator or a filter of a comprehension.
        "lc_or_zc_expr",
    ],
    // `when` is missing from the clauses of an `if`, which are guards alone.
    decision_tokens: &["andalso", "orelse", "when"],
    choices: &[
        "if_expr",
        "case_expr",
        "receive_expr",
        "try_expr",
        "maybe_expr",
        "anonymous_fun",
    ],
    handlers: &[],
    alternatives: &["if_clause", "cr_clause", "receive_after", "fun_clause"],
    unparsed: &[],
    inspected: &[
        "fun_decl",
        "guard",
        "guard_clause",
        "module_attribute",
        "record_decl",
        "type_alias",
        "opaque",
        "nominal",
        "pp_define",
    ],
    inspect,
};

fn inspect(node: Node<'_>, context: &mut Context<'_>) -> Meaning {
    match node.kind() {
        // Commas and semicolons in a guard are its `andalso` and `orelse`.
        "guard" | "guard_clause" => {
            Meaning::Decisions(node.child_count().saturating_sub(node.named_child_count()))
        }
        "fun_decl" => function_clause(node, context),
        "module_attribute" => named(DefinitionKind::Module, node, context),
        "record_decl" => named(DefinitionKind::Record, node, context),
        "type_alias" | "opaque" | "nominal" => match node.child_by_field_name("name") {
            Some(head) => with_arity(DefinitionKind::TypeAlias, head, context),
            None => Meaning::Nothing,
        },
        "pp_define" => match node.child_by_field_name("lhs") {
            Some(head) if head.child_by_field_name("args").is_some() => {
                with_arity(DefinitionKind::Macro, head, context)
            }
            Some(head) => named(DefinitionKind::Macro, head, context),
            None => Meaning::Nothing,
        },
        _ => Meaning::Nothing,
    }
}

/// The grammar makes a declaration of each clause of a function.
fn function_clause(node: Node<'_>, context: &Context<'_>) -> Meaning {
    match node.child_by_field_name("clause") {
        Some(clause) if clause.kind() == "function_clause" => {
            match with_arity(DefinitionKind::Function, clause, context) {
                Meaning::Definition(found) => found.clause(true).into(),
                other => other,
            }
        }
        _ => Meaning::Nothing,
    }
}

fn named(kind: DefinitionKind, node: Node<'_>, context: &Context<'_>) -> Meaning {
    match node.child_by_field_name("name") {
        Some(name) => Found::new(kind, context.name(name)).into(),
        None => Meaning::Nothing,
    }
}

fn with_arity(kind: DefinitionKind, head: Node<'_>, context: &Context<'_>) -> Meaning {
    let Some(name) = head.child_by_field_name("name") else {
        return Meaning::Nothing;
    };
    let arity = head.child_by_field_name("args").map_or(0, named_count);
    Found::new(kind, format!("{}/{arity}", context.name(name))).into()
}
